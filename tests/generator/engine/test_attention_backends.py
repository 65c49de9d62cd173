"""Every attention backend against the reference, on ragged mixed batches."""

from __future__ import annotations

import random

import pytest
import torch

from generator.cache.memory import KVGroup, Segment
from generator.cache.pool import KVPool
from generator.model import attention_cpu
from generator.model.attention_backend import AttentionBackend, RaggedBatch, SdpaBackend, Span
from generator.model.attention_cpu import CpuBackend
from generator.model.attention_fixed import FixedBackend
from generator.model.config import ModelConfig

BACKENDS: list[AttentionBackend] = [CpuBackend(), FixedBackend()]
NUM_SLOTS = 1200
SHAPES = {"gqa": (6, 2), "mha": (4, 4), "mqa": (4, 1)}


def ragged_batch(
    pieces: list[tuple[int, int]], window: int | None, *, run: int, seed: int
) -> tuple[RaggedBatch, KVGroup]:
    """Spans of (start, num_tokens) whose slots lie in runs of `run` at random places."""
    group = KVGroup(window, (0,), NUM_SLOTS)
    places = list(range(0, NUM_SLOTS, run))
    random.Random(seed).shuffle(places)
    spans, slots, positions = [], [], []
    for start, num_tokens in pieces:
        own = [
            place + step
            for place in (places.pop() for _ in range(0, start + num_tokens, run))
            for step in range(run)
        ][: start + num_tokens]
        first = group.first_visible(start)
        segments: list[Segment] = []
        for slot in own[first:]:
            if segments and sum(segments[-1]) == slot:
                segments[-1] = Segment(segments[-1].start, segments[-1].length + 1)
            else:
                segments.append(Segment(slot, 1))
        spans.append(Span(len(slots), num_tokens, start, (first,), (tuple(segments),)))
        slots += own[start:]
        positions += range(start, start + num_tokens)
    tokens = torch.zeros(1, len(slots), dtype=torch.long)
    return RaggedBatch(tokens, torch.tensor([positions]), (torch.tensor(slots),), tuple(spans)), group


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("run", [4, 150])
@pytest.mark.parametrize("window", [None, 1, 7, 64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
@torch.inference_mode()
def test_a_backend_agrees_with_the_reference(
    backend: AttentionBackend, shape: str, window: int | None, run: int, dtype: torch.dtype
) -> None:
    num_heads, num_kv_heads = SHAPES[shape]
    config = ModelConfig(
        vocab_size=2,
        hidden_size=8,
        intermediate_size=8,
        num_layers=1,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=16,
        max_positions=NUM_SLOTS,
    )
    # A decode, a first piece, a prefix hit, a lone first token, a long decode.
    batch, group = ragged_batch([(10, 1), (0, 9), (32, 20), (0, 1), (140, 1)], window, run=run, seed=3)
    chance = torch.Generator().manual_seed(0)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=chance).to(dtype)

    num_tokens = batch.token_ids.shape[1]
    query = draw(1, num_heads, num_tokens, 16)
    key, value = (draw(1, num_kv_heads, num_tokens, 16) for _ in range(2))
    stored = draw(2, NUM_SLOTS, num_kv_heads, 16)
    outputs = []
    for each in (SdpaBackend(), backend):
        pool = KVPool(config, [group], device=torch.device("cpu"), dtype=dtype)
        pool.keys[0].copy_(stored[0])
        pool.values[0].copy_(stored[1])
        outputs.append(each.context(batch, pool).attend(0, query, key, value))
    padded = [torch.cat((part, part[:, :, :3]), dim=2) for part in (query, key, value)]
    pool.keys[0].copy_(stored[0])
    pool.values[0].copy_(stored[1])
    assert torch.equal(backend.context(batch, pool).attend(0, *padded)[:, :, :num_tokens], outputs[1])
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    assert outputs[1].dtype == dtype
    torch.testing.assert_close(outputs[1], outputs[0], atol=tolerance, rtol=tolerance)


@torch.inference_mode()
def test_a_decode_over_one_run_of_slots_copies_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig(
        vocab_size=2,
        hidden_size=8,
        intermediate_size=8,
        num_layers=1,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        max_positions=NUM_SLOTS,
    )
    batch, group = ragged_batch([(100, 1)], None, run=150, seed=0)
    pool = KVPool(config, [group], device=torch.device("cpu"), dtype=torch.float32)
    seen = []
    attend = attention_cpu._attend_one
    monkeypatch.setattr(
        attention_cpu,
        "_attend_one",
        lambda query, key, value: seen.append(key) or attend(query, key, value),
    )
    new = torch.randn(1, 2, 1, 16)
    CpuBackend().context(batch, pool).attend(0, torch.randn(1, 4, 1, 16), new, new)
    [key] = seen
    assert key.untyped_storage().data_ptr() == pool.keys[0].untyped_storage().data_ptr()
    assert key.shape == (1, 2, 101, 16)
