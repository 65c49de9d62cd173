"""The key/value cache: what is stored, what is seen, and what a step costs nothing to take back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.cache.kv_cache import KVCache
from generator.errors import CacheFull, GeneratorError
from generator.model.config import ModelConfig
from generator.model.transformer import Transformer

SHAPES = {
    "full": {},
    "windows": {"windows": (None, 4, 3)},
    "multi-query": {"num_kv_heads": 1},
    "no positions": {"rope_layers": (True, False, True)},
    "learned positions": {"positions": "learned", "norm_placement": "post", "norm": "layernorm"},
}


def build_model(**changes: Any) -> Transformer:
    config = ModelConfig(
        **{
            "vocab_size": 50,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_layers": 3,
            "num_heads": 4,
            "num_kv_heads": 2,
            "head_dim": 8,
            "max_positions": 64,
            **changes,
        }
    )
    model = Transformer(config).eval()
    model.initialise(std=0.3, generator=torch.Generator().manual_seed(0))
    return model


def tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(0, 50, (batch, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pieces", [(14,), (1,) * 14, (5, 1, 1, 4, 3), (1, 13)])
@torch.inference_mode()
def test_any_split_of_a_text_gives_the_states_of_the_whole(shape: str, pieces: tuple[int, ...]) -> None:
    model = build_model(**SHAPES[shape])
    token_ids = tokens(2, 14)
    cache = KVCache.from_model_config(model.config, 2, 14)

    states = [model(piece, cache=cache) for piece in token_ids.split(pieces, dim=1)]

    torch.testing.assert_close(torch.cat(states, dim=1), model(token_ids), atol=1e-4, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    steps=st.lists(st.integers(1, 3), max_size=3),
    shape=st.sampled_from(sorted(SHAPES)),
)
@torch.inference_mode()
def test_rows_of_different_lengths_do_not_see_each_other(
    lengths: list[int], steps: list[int], shape: str
) -> None:
    model = build_model(**SHAPES[shape])
    total = max(lengths) + sum(steps)
    token_ids = tokens(len(lengths), total)
    cache = KVCache.from_model_config(model.config, len(lengths), total)
    padded = token_ids[:, : max(lengths)].clone()
    for row, length in enumerate(lengths):
        padded[row, length:] = 0
    model(padded, cache=cache)
    cache.truncate(lengths)

    for step in steps:
        starts = cache.lengths
        pieces = [token_ids[row, start : start + step] for row, start in enumerate(starts)]
        states = model(torch.stack(pieces), cache=cache)
        for row, start in enumerate(starts):
            alone = model(token_ids[row : row + 1, : start + step])[0, start:]
            torch.testing.assert_close(states[row], alone, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_a_reset_cache_is_as_good_as_a_new_one() -> None:
    model = build_model()
    cache = KVCache.from_model_config(model.config, 1, 10)
    model(tokens(1, 9), cache=cache)
    cache.reset()

    again = model(tokens(1, 5), cache=cache)

    assert cache.lengths == (5,)
    assert torch.equal(again, model(tokens(1, 5), cache=KVCache.from_model_config(model.config, 1, 10)))


@torch.inference_mode()
def test_truncated_tokens_leave_no_trace() -> None:
    model = build_model()
    token_ids = tokens(1, 8)
    cache = KVCache.from_model_config(model.config, 1, 12)
    model(token_ids[:, :5], cache=cache)
    model(torch.zeros(1, 4, dtype=torch.long), cache=cache)  # a draft that is rejected
    cache.truncate([5])

    states = model(token_ids[:, 5:], cache=cache)

    torch.testing.assert_close(states, model(token_ids)[:, 5:], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_kept_rows_go_on_as_before() -> None:
    model = build_model()
    token_ids = tokens(4, 8)
    cache = KVCache.from_model_config(model.config, 4, 10)
    model(token_ids[:, :6], cache=cache)
    cache.keep([3, 1])

    states = model(token_ids[[3, 1], 6:], cache=cache)

    assert cache.batch_size == 2
    torch.testing.assert_close(states, model(token_ids)[[3, 1], 6:], atol=1e-4, rtol=1e-4)


def test_rows_cannot_be_kept_further_back_than_they_were() -> None:
    cache = KVCache.from_model_config(build_model().config, 3, 4)
    with pytest.raises(ValueError, match="towards the front"):
        cache.keep([0, 0])


def test_truncating_beyond_a_rows_end_is_an_error() -> None:
    cache = KVCache.from_model_config(build_model().config, 2, 8)
    cache.advance(3)
    with pytest.raises(ValueError, match="cannot truncate a row of 3 tokens to 4"):
        cache.truncate([3, 4])
    with pytest.raises(ValueError, match="1 lengths for 2 rows"):
        cache.truncate([3])


@torch.inference_mode()
def test_one_token_too_many_is_a_typed_error() -> None:
    model = build_model()
    cache = KVCache.from_model_config(model.config, 1, 4)
    model(tokens(1, 4), cache=cache)
    with pytest.raises(CacheFull, match="5 tokens do not fit into a key/value cache of 4"):
        model(tokens(1, 1), cache=cache)


def test_memory_is_what_grouped_heads_need_and_no_more() -> None:
    config = build_model().config  # 3 layers, 2 of 4 heads kept, 8 wide
    cache = KVCache.from_model_config(config, 5, 7, dtype=torch.bfloat16)
    assert cache.num_bytes == 2 * 3 * 5 * 2 * 7 * 8 * 2


def test_a_cache_larger_than_memory_is_a_typed_error() -> None:
    with pytest.raises(GeneratorError, match="GB"):
        KVCache.from_model_config(build_model().config, 1, 2**48)
