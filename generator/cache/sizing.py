"""From a byte budget to a key/value memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from generator.cache.memory import KVGroup, KVMemory
from generator.cache.paged import PagedMemory, blocks_of_window
from generator.cache.slots import SlotMemory
from generator.errors import OutOfMemory
from generator.host_memory import available_host_bytes
from generator.model.config import ModelConfig

KVLayout = Literal["paged", "contiguous"]

_SHARE_OF_FREE_MEMORY = 0.25  # on the CPU, where others live too
_SHARE_OF_FREE_GPU_MEMORY = 0.8
_MOST_BYTES_ON_CPU = 4 * 2**30
_SHORTEST_ROW = 4096  # tokens


def kv_bytes_per_token(config: ModelConfig, dtype: torch.dtype, *, num_layers: int | None = None) -> int:
    """Bytes of one token's keys and values in all layers (or so many)."""
    return 2 * config.kv_size * dtype.itemsize * (config.num_layers if num_layers is None else num_layers)


def default_kv_bytes(
    config: ModelConfig, *, device: torch.device, dtype: torch.dtype, max_num_sequences: int
) -> int:
    """A share of the memory that is free now, and no more than the longest sequences could use."""
    if device.type == "cuda":
        free = int(torch.cuda.mem_get_info(device)[0] * _SHARE_OF_FREE_GPU_MEMORY)
    else:
        free = min(int(available_host_bytes() * _SHARE_OF_FREE_MEMORY), _MOST_BYTES_ON_CPU)
    return min(free, max_num_sequences * (config.max_positions + 64) * kv_bytes_per_token(config, dtype))


def build_memory(
    config: ModelConfig,
    *,
    layout: KVLayout,
    kv_bytes: int,
    dtype: torch.dtype,
    block_size: int,
    max_num_sequences: int,
    max_piece_tokens: int,
    prefix_cache: bool,
) -> KVMemory:
    """The memory of a layout that fits into `kv_bytes`. Raises OutOfMemory where not even a little fits."""
    layers = _layers_by_window(config)
    if layout == "contiguous":
        per_token = kv_bytes_per_token(config, dtype)
        row_tokens = min(config.max_positions, _row_tokens(kv_bytes // per_token, max_num_sequences))
        num_rows = min(max_num_sequences, kv_bytes // max(1, row_tokens * per_token))
        if row_tokens < 2:
            raise _too_small(kv_bytes, 2 * per_token)
        rows = [
            KVGroup(window=window, layers=tuple(group), num_slots=num_rows * row_tokens)
            for window, group in layers.items()
        ]
        return SlotMemory(rows, row_tokens=row_tokens, prefix_cache=prefix_cache)
    block_bytes = [
        block_size * kv_bytes_per_token(config, dtype, num_layers=len(group)) for group in layers.values()
    ]
    most = [
        None
        if window is None
        else max_num_sequences * blocks_of_window(window, block_size, max_piece_tokens=1)
        + blocks_of_window(window, block_size, max_piece_tokens=max_piece_tokens)
        for window in layers
    ]
    counts = _divide(kv_bytes, block_bytes, most)
    if min(counts) < 1:
        raise _too_small(kv_bytes, sum(block_bytes))
    groups = [
        KVGroup(window=window, layers=tuple(group), num_slots=count * block_size)
        for (window, group), count in zip(layers.items(), counts, strict=True)
    ]
    return PagedMemory(
        groups, block_size=block_size, max_piece_tokens=max_piece_tokens, prefix_cache=prefix_cache
    )


def _row_tokens(num_tokens: int, max_num_sequences: int) -> int:
    """An equal share for every sequence, but no row so short that a prompt with passages does not fit."""
    return max(num_tokens // max_num_sequences, min(num_tokens, _SHORTEST_ROW))


def _layers_by_window(config: ModelConfig) -> dict[int | None, list[int]]:
    layers: dict[int | None, list[int]] = {}
    for layer in range(config.num_layers):
        window = config.window(layer)
        if window is not None and window >= config.max_positions:
            window = None
        layers.setdefault(window, []).append(layer)
    return layers


def _divide(num_bytes: int, block_bytes: Sequence[int], most: Sequence[int | None]) -> list[int]:
    """Blocks for each group: as many for all, except that no group gets more than `most` it can use."""
    counts = [0] * len(block_bytes)
    growing = list(range(len(block_bytes)))
    while growing:
        level = num_bytes // sum(block_bytes[group] for group in growing)
        capped = [group for group in growing if (limit := most[group]) is not None and limit <= level]
        for group in capped or growing:
            counts[group] = level if not capped else most[group] or 0
            num_bytes -= counts[group] * block_bytes[group]
        growing = [group for group in growing if group not in capped] if capped else []
    return counts


def _too_small(kv_bytes: int, needed: int) -> OutOfMemory:
    return OutOfMemory(
        f"kv_bytes is {kv_bytes:,}, but the smallest key/value memory of this model has {needed:,}.",
        hint="Give more with kv_bytes, or a smaller block_size.",
    )
