"""The next token: filters against a plain reading of their definitions, and streams that stay apart."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.engine.sampling import Sampler
from generator.errors import InvalidSampling, NonFiniteLogits
from generator.types import SamplingOptions


def sampler(
    *options: SamplingOptions, prompts: list[list[int]] | None = None, vocab_size: int = 8
) -> Sampler:
    return Sampler(
        options, prompts or [[0]] * len(options), vocab_size=vocab_size, device=torch.device("cpu")
    )


def allowed(logits: torch.Tensor, options: SamplingOptions) -> set[int]:
    """Tokens that may come, straight from the definitions of the filters, in their order."""
    probabilities = (logits / options.temperature).softmax(0)
    order = probabilities.argsort(descending=True).tolist()
    kept = order[: options.top_k] if options.top_k else order
    if options.top_p:
        mass, nucleus, total = 0.0, [], sum(float(probabilities[token]) for token in kept)
        for token in kept:
            if mass < options.top_p or options.top_p == 1:
                nucleus.append(token)
            mass += float(probabilities[token]) / total
        kept = nucleus
    if options.min_p:
        floor = options.min_p * float(probabilities[order[0]])
        kept = [token for token in kept if float(probabilities[token]) >= floor]
    return set(kept)


@settings(max_examples=40, deadline=None)
@given(
    scores=st.lists(st.integers(-6, 6), min_size=8, max_size=8, unique=True),
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_k=st.sampled_from([None, 1, 3, 8, 50]),
    top_p=st.sampled_from([None, 0.05, 0.5, 0.93, 1.0]),
    min_p=st.sampled_from([None, 0.0, 0.07, 0.4]),
)
def test_drawn_tokens_are_those_that_the_filters_leave(
    scores: list[int], temperature: float, top_k: int | None, top_p: float | None, min_p: float | None
) -> None:
    options = SamplingOptions(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=0)
    logits = torch.tensor(scores, dtype=torch.float32) * 0.7
    rows = 200
    draw = sampler(*[SamplingOptions(**{**_fields(options), "seed": seed}) for seed in range(rows)])

    drawn = set(draw.sample(logits.expand(rows, -1)).token_ids)

    permitted = allowed(logits, options)
    assert drawn <= permitted
    likely = {token for token in permitted if (logits / temperature).softmax(0)[token] > 0.05}
    assert likely <= drawn


def _fields(options: SamplingOptions) -> dict[str, object]:
    return {name: getattr(options, name) for name in ("temperature", "top_k", "top_p", "min_p")}


def test_frequencies_follow_the_probabilities() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    draw = sampler(SamplingOptions(temperature=1.0, seed=7), vocab_size=4)
    counts = Counter(draw.sample(probabilities.log()[None]).token_ids[0] for _ in range(4000))
    for token, probability in enumerate(probabilities.tolist()):
        assert abs(counts[token] / 4000 - probability) < 0.03


def test_a_rows_tokens_do_not_depend_on_its_neighbours() -> None:
    logits = torch.randn(20, 3, 8, generator=torch.Generator().manual_seed(0))
    mixed = (
        SamplingOptions(temperature=1.0, seed=5),
        SamplingOptions(),
        SamplingOptions(temperature=0.7, top_k=3, top_p=0.8, min_p=0.02, repetition_penalty=1.3, seed=5),
    )
    together = sampler(*mixed)
    rows = list(zip(*(together.sample(step).token_ids for step in logits), strict=True))
    for row, options in enumerate(mixed):
        alone = sampler(options)
        assert tuple(alone.sample(step[row : row + 1]).token_ids[0] for step in logits) == rows[row]


def test_dropping_a_row_leaves_the_others_streams_alone() -> None:
    options = [SamplingOptions(temperature=1.0, seed=seed, repetition_penalty=1.2) for seed in (1, 2, 3)]
    logits = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    draw, whole = sampler(*options, vocab_size=1000), sampler(*options, vocab_size=1000)
    first, second = (whole.sample(logits.expand(3, -1)).token_ids for _ in range(2))
    assert draw.sample(logits.expand(3, -1)).token_ids == first
    draw.keep([2, 1])
    assert draw.sample(logits.expand(2, -1)).token_ids == [second[2], second[1]]


def test_the_same_seed_draws_the_same_tokens_and_no_seed_does_not() -> None:
    logits = torch.zeros(1, 1000)

    def draws(seed: int | None) -> list[int]:
        draw = sampler(SamplingOptions(temperature=1.0, seed=seed), vocab_size=1000)
        return [draw.sample(logits).token_ids[0] for _ in range(8)]

    assert draws(3) == draws(3)
    assert draws(3) != draws(4)
    assert draws(None) != draws(None)


def test_a_penalty_weakens_what_the_prompt_or_the_output_has_already() -> None:
    logits = torch.tensor([[2.0, 1.9, -1.0, 1.5]])
    draw = sampler(SamplingOptions(repetition_penalty=2.0), prompts=[[0]], vocab_size=4)
    assert [draw.sample(logits).token_ids[0] for _ in range(3)] == [1, 3, 0]


def test_a_penalty_agrees_with_transformers() -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    prompt = [3, 7, 7, 11]
    draw = sampler(SamplingOptions(repetition_penalty=1.4), prompts=[prompt], vocab_size=50)
    expected = RepetitionPenaltyLogitsProcessor(1.4)(torch.tensor([prompt]), logits.clone())
    assert draw.sample(logits).token_ids == expected.argmax(-1).tolist()


def test_logprobs_are_the_models_own() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]])
    asked = SamplingOptions(logprobs=True, repetition_penalty=1.5)
    sampled = sampler(asked, SamplingOptions(), vocab_size=3).sample(logits)
    assert sampled.logprobs[0] == pytest.approx(float(logits[0].log_softmax(0)[sampled.token_ids[0]]))
    assert sampled.logprobs[1] is None


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("top_k", [None, 2])
def test_scores_that_are_not_finite_are_an_error(
    poison: float, temperature: float, top_k: int | None
) -> None:
    logits = torch.zeros(2, 8)
    logits[1, 5] = poison
    options = SamplingOptions(temperature=temperature, top_k=top_k, seed=0)
    with pytest.raises(NonFiniteLogits, match="not finite"):
        sampler(options, options).sample(logits)


def test_a_tiny_temperature_is_greedy_and_does_not_overflow() -> None:
    logits = torch.tensor([[1e4, 9.9e3, -1e4, 0.0]])
    draw = sampler(SamplingOptions(temperature=1e-6, seed=0), vocab_size=4)
    assert draw.sample(logits).token_ids == [0]


@pytest.mark.parametrize(
    "fields",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": -3},
        {"max_new_tokens": 2.5},
        {"max_new_tokens": True},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"min_p": "much"},
        {"repetition_penalty": 0.0},
        {"seed": -1},
        {"seed": "lucky"},
        {"stop": ("",)},
        {"stop": (3,)},
        {"stop": "text"},
    ],
)
def test_an_option_out_of_range_is_named(fields: dict[str, object]) -> None:
    [name] = fields
    with pytest.raises(InvalidSampling, match=f"{name} is "):
        SamplingOptions(**fields)
