"""Generation over a batch: every prompt as if it were alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.engine import generate
from generator.engine.generate import BatchGeneration, batch_generate, generate_with_cache
from generator.errors import InvalidPrompt, NonFiniteLogits, PromptTooLong
from generator.model.config import ModelConfig
from generator.model.transformer import Transformer
from generator.types import SamplingOptions

SHAPES = {
    "full": {},
    "windows": {"windows": (None, 4)},
    "multi-query with qk norm": {"num_kv_heads": 1, "qk_norm": True},
    "biases, no positions above": {"rope_layers": (True, False), "qkv_bias": True, "output_bias": True},
}


def build_model(**changes: Any) -> Transformer:
    shape = {
        "vocab_size": 60,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 8,
        "max_positions": 64,
    }
    model = Transformer(ModelConfig(**{**shape, **changes})).eval()
    model.initialise(std=0.4, generator=torch.Generator().manual_seed(0))
    return model


@torch.inference_mode()
def plain_greedy(model: Transformer, prompt: list[int], num_tokens: int) -> list[int]:
    """No cache, no batch, no cleverness."""
    tokens = list(prompt)
    for _ in range(num_tokens):
        logits = model.project(model(torch.tensor([tokens])))[0, -1]
        tokens.append(int(logits.argmax()))
    return tokens[len(prompt) :]


@settings(max_examples=20, deadline=None)
@given(
    prompts=st.lists(st.lists(st.integers(0, 59), min_size=1, max_size=12), min_size=1, max_size=5),
    shape=st.sampled_from(sorted(SHAPES)),
)
def test_a_batch_of_ragged_prompts_equals_plain_greedy_one_by_one(
    prompts: list[list[int]], shape: str
) -> None:
    model = build_model(**SHAPES[shape])
    outputs = batch_generate(model, prompts, SamplingOptions(max_new_tokens=7))
    assert outputs == [plain_greedy(model, prompt, 7) for prompt in prompts]


def test_rows_that_end_early_leave_the_others_alone() -> None:
    model = build_model()
    prompts = [[index, index + 1, *range(index)] for index in range(6)]
    lengths = [3, 9, 1, 9, 5, 2]
    options = [SamplingOptions(max_new_tokens=length) for length in lengths]
    generation = BatchGeneration(model, prompts, options)
    outputs: list[list[int]] = [[] for _ in prompts]
    while generation.has_pending_work:
        for token in generation.step():
            outputs[token.index].append(token.token_id)
            assert (token.finish_reason == "length") == (len(outputs[token.index]) == lengths[token.index])
    expected = [plain_greedy(model, prompt, length) for prompt, length in zip(prompts, lengths, strict=True)]
    assert outputs == expected


def test_a_row_stopped_from_outside_is_not_continued() -> None:
    model = build_model()
    generation = BatchGeneration(model, [[1], [2, 3]], [SamplingOptions(max_new_tokens=4)] * 2)
    generation.step()
    generation.stop(0)
    rest = []
    while generation.has_pending_work:
        rest += generation.step()
    assert {token.index for token in rest} == {1}
    assert generation.step() == []


def test_sampled_rows_are_the_same_alone_and_together() -> None:
    model = build_model()
    prompts = [[1, 2, 3], [4], [5, 6]]
    options = SamplingOptions(temperature=1.3, top_k=20, top_p=0.9, seed=11, max_new_tokens=10)
    together = batch_generate(model, prompts, options)
    assert together == [generate_with_cache(model, prompt, options) for prompt in prompts]


def test_long_prompts_are_read_in_pieces_with_the_same_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(windows=(None, 4))
    prompts = [list(range(20)), [7], list(range(30, 43)), list(range(8))]
    whole = batch_generate(model, prompts, SamplingOptions(max_new_tokens=5))
    monkeypatch.setattr(generate, "PREFILL_TOKENS", 4)
    assert batch_generate(model, prompts, SamplingOptions(max_new_tokens=5)) == whole


def test_generation_ends_with_an_end_token_unless_told_otherwise() -> None:
    model = build_model()
    free = generate_with_cache(model, [1, 2], SamplingOptions(max_new_tokens=8))
    end = free[3]
    first = free.index(end)
    assert (
        generate_with_cache(model, [1, 2], SamplingOptions(max_new_tokens=8), eos_token_ids={end})
        == (free[: first + 1])
    )
    ignoring = SamplingOptions(max_new_tokens=8, ignore_eos=True)
    assert generate_with_cache(model, [1, 2], ignoring, eos_token_ids={end}) == free


def test_generation_ends_where_the_context_does() -> None:
    model = build_model(max_positions=10)
    assert len(generate_with_cache(model, [1] * 7, SamplingOptions(max_new_tokens=50))) == 3
    assert [
        len(out) for out in batch_generate(model, [[1] * 9, [2]], SamplingOptions(max_new_tokens=50))
    ] == [1, 9]


def test_no_prompts_give_no_outputs() -> None:
    assert batch_generate(build_model(), []) == []


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        ([], InvalidPrompt, "no tokens"),
        ([1, 60], InvalidPrompt, "holds token 60, but the model knows 0 to 59"),
        ([-1, 3], InvalidPrompt, "holds token -1"),
        ([1, "two"], InvalidPrompt, "not a whole number"),
        ([1] * 64, PromptTooLong, "64 tokens is too long for a context of 64"),
    ],
)
def test_an_impossible_prompt_is_a_typed_error(
    prompt: list[int], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        batch_generate(build_model(), [[1], prompt])


def test_damaged_weights_are_noticed_at_the_first_token() -> None:
    model = build_model()
    with torch.no_grad():
        model.layers[1].mlp.down.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteLogits):
        generate_with_cache(model, [1, 2, 3])
