"""Whether a backend does here what the reference does: asked before an engine relies on its kernels."""

from __future__ import annotations

import logging

import torch

from generator.cache.memory import Segment
from generator.cache.pool import KVPool
from generator.model.attention_backend import PagedBackend, RaggedBatch, SdpaBackend, Span
from generator.model.config import ModelConfig

_log = logging.getLogger("generator.engine")
_BLOCKS = ((3, 0), (1, 2))  # of the two sequences, in their order
_NUM_BLOCKS = 4
_TOLERANCES = {torch.float32: 2e-3}  # a GPU may multiply in TF32
_HALF_TOLERANCE = 3e-2


@torch.inference_mode()
def agrees_with_reference(backend: PagedBackend, pool: KVPool, config: ModelConfig) -> bool:
    """Try one layer of each group on random numbers, in an empty pool; what that wrote is zero again.

    False, with the reason in the log, where results differ or the backend raises. True where the pool is too
    small to try.
    """
    num_slots = _NUM_BLOCKS * backend.block_size
    if any(group.num_slots < num_slots for group in pool.groups):
        return True
    for group in pool.groups:
        layer = group.layers[0]
        try:
            difference = _difference(backend, pool, config, layer)
        except Exception:  # noqa: BLE001  compilers and kernels fail in ways of their own
            _log.warning("The attention %r does not run here.", backend.name, exc_info=True)
            return False
        finally:
            for part in (pool.keys, pool.values):
                part[layer][:num_slots].zero_()
        if not difference <= _TOLERANCES.get(pool.keys[layer].dtype, _HALF_TOLERANCE):  # NaN is not
            _log.warning("The attention %r is off by %.2g here.", backend.name, difference)
            return False
    return True


def _difference(backend: PagedBackend, pool: KVPool, config: ModelConfig, layer: int) -> float:
    """The largest deviation from the reference, in values of about 1."""
    keys, chance = pool.keys[layer], torch.Generator().manual_seed(0)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=chance).to(keys.device, keys.dtype)

    batch = _batch(pool, backend.block_size)
    query = draw(1, config.num_heads, batch.num_tokens, config.head_dim)
    key, value = (draw(1, config.num_kv_heads, batch.num_tokens, config.head_dim) for _ in range(2))
    num_slots = _NUM_BLOCKS * backend.block_size
    for part in (pool.keys, pool.values):
        part[layer][:num_slots] = draw(num_slots, config.num_kv_heads, config.head_dim)
    expected, found = (
        each.context(batch, pool).attend(layer, query, key, value) for each in (SdpaBackend(), backend)
    )
    return float((found.float() - expected.float()).abs().max())


def _batch(pool: KVPool, block_size: int) -> RaggedBatch:
    """A decode, and a piece of a prompt behind a cached beginning, each across two blocks."""
    device = pool.keys[0].device
    pieces = ((block_size + block_size // 2, 1), (block_size - 3, 5))  # (start, tokens)
    spans: list[Span] = []
    positions: list[int] = []
    slots: list[int] = []
    for (start, num_tokens), blocks in zip(pieces, _BLOCKS, strict=True):
        own = [block * block_size + offset for block in blocks for offset in range(block_size)]
        end = start + num_tokens
        first = tuple(group.first_visible(start) for group in pool.groups)
        segments = tuple(_segments(blocks, seen, end, block_size) for seen in first)
        spans.append(Span(len(slots), num_tokens, start, first, segments))
        slots += own[start:end]
        positions += range(start, end)
    return RaggedBatch(
        token_ids=torch.zeros(1, len(slots), dtype=torch.long, device=device),
        positions=torch.tensor([positions], device=device),
        slots=(torch.tensor(slots, device=device),) * len(pool.groups),
        spans=tuple(spans),
    )


def _segments(blocks: tuple[int, ...], start: int, end: int, block_size: int) -> tuple[Segment, ...]:
    """The slots of positions [start, end), block by block."""
    found = []
    for index, block in enumerate(blocks):
        low, high = max(start, index * block_size), min(end, (index + 1) * block_size)
        if low < high:
            found.append(Segment((block - index) * block_size + low, high - low))
    return tuple(found)
