"""From a byte budget to a memory: never more than was given, and never less than it could be."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.cache.memory import KVGroup, KVMemory
from generator.cache.sizing import build_memory, default_kv_bytes, kv_bytes_per_token
from generator.model.config import ModelConfig


def shape(**changes: object) -> ModelConfig:
    return ModelConfig(
        **{
            "vocab_size": 10,
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_layers": 4,
            "num_heads": 2,
            "num_kv_heads": 1,
            "head_dim": 4,
            "max_positions": 100_000,
            **changes,
        }
    )


def build(config: ModelConfig, kv_bytes: int, **changes: object) -> KVMemory:
    defaults = {
        "layout": "paged",
        "dtype": torch.float32,
        "block_size": 16,
        "max_num_sequences": 8,
        "max_piece_tokens": 64,
        "prefix_cache": True,
    }
    return build_memory(config, kv_bytes=kv_bytes, **{**defaults, **changes})


def held_bytes(config: ModelConfig, memory: KVMemory) -> int:
    return sum(
        group.num_slots * kv_bytes_per_token(config, torch.float32, num_layers=len(group.layers))
        for group in memory.groups
    )


@settings(max_examples=60, deadline=None)
@given(
    windows=st.one_of(st.just(()), st.tuples(*[st.one_of(st.none(), st.sampled_from([1, 40, 300]))] * 4)),
    kv_bytes=st.integers(40_000, 3_000_000),
    layout=st.sampled_from(["paged", "contiguous"]),
)
def test_a_memory_keeps_within_its_budget_and_serves_what_it_promises(
    windows: tuple[int | None, ...], kv_bytes: int, layout: str
) -> None:
    config = shape(windows=windows)
    memory = build(config, kv_bytes, layout=layout)
    assert held_bytes(config, memory) <= kv_bytes
    assert sorted(layer for group in memory.groups for layer in group.layers) == [0, 1, 2, 3]
    longest = min(memory.max_sequence_tokens, 5000)
    tokens = [1] * (longest - 1)
    assert memory.admit(1, tokens) == 0
    for end in range(64, longest, 64):
        assert memory.reserve(1, end)
        memory.commit(1, tokens, end)
    assert memory.reserve(1, longest)
    memory.check_integrity()


def test_layers_with_a_window_leave_the_others_what_they_cannot_use() -> None:
    windowed, plain = shape(windows=(16, 16, 16, None)), shape()
    budget = 4_000_000
    few, many = build(windowed, budget), build(plain, budget)
    assert few.max_sequence_tokens > 3 * many.max_sequence_tokens


def test_a_window_as_wide_as_the_context_is_none() -> None:
    [group] = build(shape(windows=(100_000, None, None, 200_000)), 1_000_000).groups
    assert group == KVGroup(None, (0, 1, 2, 3), group.num_slots)


def test_rows_are_as_long_as_a_prompt_with_passages_or_an_equal_share() -> None:
    per_token = kv_bytes_per_token(shape(), torch.float32)
    assert build(shape(), 10_000 * per_token, layout="contiguous").max_sequence_tokens == 4096
    assert build(shape(), 80_000 * per_token, layout="contiguous").max_sequence_tokens == 10_000
    short = shape(max_positions=50)
    assert build(short, 80_000 * per_token, layout="contiguous").max_sequence_tokens == 50


def test_the_default_is_no_more_than_the_longest_sequences_could_use() -> None:
    config = shape(max_positions=64)
    found = default_kv_bytes(config, device=torch.device("cpu"), dtype=torch.float32, max_num_sequences=2)
    assert found == 2 * 128 * kv_bytes_per_token(config, torch.float32)
