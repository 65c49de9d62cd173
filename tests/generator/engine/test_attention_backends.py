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
from generator.model.attention_flex import FlexBackend, row_tables
from generator.model.attention_rows import PackedNumbers, QueryRows, rows_of
from generator.model.config import ModelConfig

BACKENDS: list[AttentionBackend] = [
    CpuBackend(),
    FixedBackend(),
    FlexBackend(2, compile_kernels=False, query_tile=8),
]
CPU = torch.device("cpu")
NUM_SLOTS = 1200
# A decode, a first piece, a prefix hit, a lone first token, a long decode.
MIXED = [(10, 1), (0, 9), (32, 20), (0, 1), (140, 1)]
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


def config_of(num_heads: int, num_kv_heads: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=2,
        hidden_size=8,
        intermediate_size=8,
        num_layers=1,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=16,
        max_positions=NUM_SLOTS,
    )


@pytest.mark.usefixtures("plain_flex")
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
    config = config_of(num_heads, num_kv_heads)
    batch, group = ragged_batch(MIXED, window, run=run, seed=3)
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
    config = config_of(4, 2)
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


# --- what kernels are told about paged memory --------------------------------------------------------


@pytest.mark.parametrize("block_size", [2, 4])
@pytest.mark.parametrize("window", [None, 1, 7, 64])
def test_a_row_lists_the_blocks_with_keys_that_it_sees_and_no_others(
    window: int | None, block_size: int
) -> None:
    batch, group = ragged_batch(MIXED, window, run=4, seed=5)
    rows = rows_of(batch.spans, [group], width=8, block_size=block_size)
    assert [row.num_tokens for row in rows] == [1, 8, 1, 8, 8, 4, 1, 1]
    for row in rows:
        [span] = [s for s in batch.spans if s.offset <= row.token < s.offset + s.num_tokens]
        [segments] = span.segments
        slots = [slot for start, length in segments for slot in range(start, start + length)]
        first = span.start + row.token - span.offset
        seen = slots[group.first_visible(first) - span.first_visible[0] :]
        seen = seen[: first + row.num_tokens - group.first_visible(first)]
        [(start, blocks)] = row.tables
        assert blocks == list(dict.fromkeys(slot // block_size for slot in seen))
        own = batch.slots[0][row.token : row.token + row.num_tokens].tolist()
        places = range(start, start + row.num_tokens)
        assert [blocks[at // block_size] * block_size + at % block_size for at in places] == own


def test_rows_of_padding_and_unused_entries_name_no_block() -> None:
    batch, group = ragged_batch(MIXED, None, run=4, seed=5)
    rows = rows_of([batch.spans[0], batch.spans[4]], [group], width=1, block_size=4)
    numbers = PackedNumbers(QueryRows.shapes(4, width=1, table_sizes=[50]), device=CPU)
    for array in numbers.host.values():
        array.fill(7)  # left over from a step before
    QueryRows.fill(numbers, rows, no_token=99)
    numbers.upload()
    on_device = QueryRows.of(numbers, num_groups=1)
    tables = row_tables(on_device, 0, num_blocks=NUM_SLOTS // 4)
    assert on_device.tokens.flatten().tolist() == [batch.spans[0].offset, batch.spans[4].offset, 99, 99]
    assert tables.num_blocks.flatten().tolist() == [3, 36, 0, 0]
    for row, places in enumerate(tables.places[:, :-1].tolist()):
        named = rows[row].tables[0].blocks if row < 2 else []
        assert tables.blocks[row].flatten().tolist()[: len(named)] == named
        assert not any(tables.blocks[row].flatten().tolist()[len(named) :])
        assert {block: place for block, place in enumerate(places) if place >= 0} == {
            block: place for place, block in enumerate(named)
        }


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("block_size", [16, 128])
@pytest.mark.parametrize("window", [None, 64])
@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_compiled_kernels_agree_with_the_reference_on_a_gpu(
    shape: str, window: int | None, block_size: int, dtype: torch.dtype
) -> None:
    device = torch.device("cuda")
    on_cpu, group = ragged_batch(MIXED, window, run=block_size, seed=3)
    batch = RaggedBatch(
        on_cpu.token_ids.to(device),
        on_cpu.positions.to(device),
        tuple(slots.to(device) for slots in on_cpu.slots),
        on_cpu.spans,
    )
    num_heads, num_kv_heads = SHAPES[shape]
    chance = torch.Generator().manual_seed(0)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=chance).to(device, dtype)

    query = draw(1, num_heads, batch.num_tokens, 16)
    key, value = (draw(1, num_kv_heads, batch.num_tokens, 16) for _ in range(2))
    stored = draw(2, NUM_SLOTS + block_size, num_kv_heads, 16)
    outputs = []
    for each in (SdpaBackend(), FlexBackend(block_size, compile_kernels=True)):
        pool = KVPool(
            config_of(num_heads, num_kv_heads),
            [group],
            device=device,
            dtype=dtype,
            num_scratch_slots=block_size,
        )
        pool.keys[0].copy_(stored[0])
        pool.values[0].copy_(stored[1])
        outputs.append(each.context(batch, pool).attend(0, query, key, value))
    tolerance = 2e-3 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(outputs[1], outputs[0], atol=tolerance, rtol=tolerance)
