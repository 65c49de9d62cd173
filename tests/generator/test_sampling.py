"""The next token: filters against a plain reading of their definitions, and streams that stay apart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.engine.sampling import NUCLEUS_PREFIX, SampledToken, Sampler, sample
from generator.engine.sampling_state import RandomStream, SamplingState, TokenConstraint
from generator.errors import InvalidSampling, NonFiniteLogits, NoTokenAllowed
from generator.types import SamplingOptions


def sampler(
    *options: SamplingOptions, prompts: list[list[int]] | None = None, vocab_size: int = 8
) -> Sampler:
    return Sampler(options, prompts or [[0]] * len(options), vocab_size=vocab_size)


def tokens(draw: Sampler, logits: torch.Tensor) -> list[int]:
    return [token.token_id for token in draw.sample(logits)]


def state(prompt: Sequence[int] = (0,), *, vocab_size: int = 8, **fields: Any) -> SamplingState:
    constraint = fields.pop("constraint", None)
    return SamplingState(SamplingOptions(**fields), prompt, vocab_size=vocab_size, constraint=constraint)


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

    drawn = set(tokens(draw, logits.expand(rows, -1)))

    permitted = allowed(logits, options)
    assert drawn <= permitted
    likely = {token for token in permitted if (logits / temperature).softmax(0)[token] > 0.05}
    assert likely <= drawn


def _fields(options: SamplingOptions) -> dict[str, object]:
    return {name: getattr(options, name) for name in ("temperature", "top_k", "top_p", "min_p")}


def test_frequencies_follow_the_probabilities() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    draw = sampler(SamplingOptions(temperature=1.0, seed=7), vocab_size=4)
    counts = Counter(tokens(draw, probabilities.log()[None])[0] for _ in range(4000))
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
    rows = list(zip(*(tokens(together, step) for step in logits), strict=True))
    for row, options in enumerate(mixed):
        alone = sampler(options)
        assert tuple(tokens(alone, step[row : row + 1])[0] for step in logits) == rows[row]


def test_dropping_a_row_leaves_the_others_streams_alone() -> None:
    options = [SamplingOptions(temperature=1.0, seed=seed, repetition_penalty=1.2) for seed in (1, 2, 3)]
    logits = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    draw, whole = sampler(*options, vocab_size=1000), sampler(*options, vocab_size=1000)
    first, second = (tokens(whole, logits.expand(3, -1)) for _ in range(2))
    assert tokens(draw, logits.expand(3, -1)) == first
    draw.keep([2, 1])
    assert tokens(draw, logits.expand(2, -1)) == [second[2], second[1]]


def test_the_same_seed_draws_the_same_tokens_and_no_seed_does_not() -> None:
    logits = torch.zeros(1, 1000)

    def draws(seed: int | None) -> list[int]:
        draw = sampler(SamplingOptions(temperature=1.0, seed=seed), vocab_size=1000)
        return [tokens(draw, logits)[0] for _ in range(8)]

    assert draws(3) == draws(3)
    assert draws(3) != draws(4)
    assert draws(None) != draws(None)


def test_a_penalty_weakens_what_the_prompt_or_the_output_has_already() -> None:
    logits = torch.tensor([[2.0, 1.9, -1.0, 1.5]])
    draw = sampler(SamplingOptions(repetition_penalty=2.0), prompts=[[0]], vocab_size=4)
    assert [tokens(draw, logits)[0] for _ in range(3)] == [1, 3, 0]


def test_a_penalty_agrees_with_transformers() -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    prompt = [3, 7, 7, 11]
    draw = sampler(SamplingOptions(repetition_penalty=1.4), prompts=[prompt], vocab_size=50)
    expected = RepetitionPenaltyLogitsProcessor(1.4)(torch.tensor([prompt]), logits.clone())
    assert tokens(draw, logits) == expected.argmax(-1).tolist()


def test_logprobs_are_the_models_own() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]])
    asked = SamplingOptions(logprobs=True, repetition_penalty=1.5)
    first, second = sampler(asked, SamplingOptions(), vocab_size=3).sample(logits)
    assert first.logprob == pytest.approx(float(logits[0].log_softmax(0)[first.token_id]))
    assert second.logprob is None


def test_top_logprobs_are_the_most_likely_tokens_of_the_model() -> None:
    logits = torch.randn(3, 30, generator=torch.Generator().manual_seed(0))
    asked = [
        SamplingOptions(logprobs=True, top_logprobs=2, logit_bias=((5, 50.0),)),
        SamplingOptions(logprobs=True),
        SamplingOptions(logprobs=True, top_logprobs=20),
    ]
    first, second, third = sampler(*asked, vocab_size=30).sample(logits)

    expected = logits.log_softmax(-1).topk(20)
    assert first.token_id == 5
    assert [entry.token_id for entry in first.top_logprobs] == expected.indices[0, :2].tolist()
    assert [entry.logprob for entry in third.top_logprobs] == pytest.approx(expected.values[2].tolist())
    assert second.top_logprobs == ()


class Only:
    """Allows a list of tokens, another one after each token."""

    def __init__(self, *allowed: set[int] | None, size: int = 8) -> None:
        self.allowed = list(allowed)
        self.size = size

    def allowed_tokens(self) -> torch.Tensor | None:
        allowed = self.allowed[0]
        return None if allowed is None else torch.tensor([token in allowed for token in range(self.size)])

    def accept(self, token_id: int) -> None:
        self.allowed.pop(0)


def step(logits: torch.Tensor, *states: SamplingState) -> list[int]:
    """Sample, accept, and return the tokens; none may fail."""
    found = []
    for row, token in zip(states, sample(logits.expand(len(states), -1), states), strict=True):
        assert isinstance(token, SampledToken)
        row.accept(token.token_id)
        found.append(token.token_id)
    return found


def test_a_constraint_rules_what_may_come_and_a_short_mask_rules_out_the_rest() -> None:
    logits = torch.arange(8.0)[None]
    constraint: TokenConstraint = Only({1, 3}, None, {2, 0}, size=4)
    rows = [state(constraint=constraint), state()]
    assert [step(logits, *rows) for _ in range(3)] == [[3, 7], [7, 7], [2, 7]]


def test_a_row_without_an_allowed_token_fails_alone() -> None:
    logits = torch.zeros(3, 8)
    logits[2, 1] = math.nan
    rows = [state(constraint=Only(set())), state(), state(temperature=1.0, seed=1)]
    starved, fine, poisoned = sample(logits, rows)
    assert isinstance(starved, NoTokenAllowed)
    assert fine == SampledToken(0)
    assert isinstance(poisoned, NonFiniteLogits)


def test_presence_and_frequency_count_the_output_and_not_the_prompt() -> None:
    logits = torch.tensor([[1.0, 0.8, 0.3, 0.0]])
    present = state([0], vocab_size=4, presence_penalty=0.5)
    frequent = state([0], vocab_size=4, frequency_penalty=0.3)
    steps = [step(logits, present, frequent) for _ in range(4)]
    # present: 0, 0.5 lower, 1 beats it, both 0.5 lower, and so they stay;
    # frequent: 0 falls by 0.3 at each occurrence, so does 1.
    assert [first for first, _ in steps] == [0, 1, 0, 0]
    assert [second for _, second in steps] == [0, 1, 0, 1]


def test_rows_that_stand_ahead_draw_what_the_sequence_would_have_drawn() -> None:
    logits = torch.randn(1, 500, generator=torch.Generator().manual_seed(0))
    plain = state(temperature=1.0, seed=9, vocab_size=500)
    one_by_one = [step(logits, plain)[0] for _ in range(5)]
    drafting = state(temperature=1.0, seed=9, vocab_size=500)
    at_once = sample(logits.expand(5, -1), [drafting] * 5, ahead=range(5))
    assert [token.token_id for token in at_once if isinstance(token, SampledToken)] == one_by_one


def test_only_penalties_and_constraints_depend_on_history() -> None:
    assert not state(temperature=1.0, top_p=0.5, logit_bias=((1, 2.0),)).depends_on_history
    assert state(presence_penalty=0.1).depends_on_history
    assert state(constraint=Only(None)).depends_on_history


def test_a_bias_on_a_token_that_the_model_lacks_is_an_error() -> None:
    with pytest.raises(InvalidSampling, match="token 8"):
        state(logit_bias=((8, 1.0),))


def test_samples_of_one_seed_differ_and_can_be_repeated() -> None:
    streams = [RandomStream(seed, sample_index=sample) for seed in range(20) for sample in range(3)]
    first = [[stream.uniform(position) for position in range(3)] for stream in streams]
    assert len({number for row in first for number in row}) == 180
    assert streams[7].uniform(1) == RandomStream(2, sample_index=1).uniform(1)


def test_random_numbers_are_uniform() -> None:
    stream = RandomStream(0)
    counts = Counter(int(stream.uniform(position) * 16) for position in range(16_000))
    assert sorted(counts) == list(range(16))
    # Chi-squared with 15 degrees of freedom exceeds 37.7 once in a thousand times.
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 37.7


rules = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 0.4, 1.0, 3.0]),
        "top_k": st.sampled_from([None, 1, 3, 40]),
        "top_p": st.sampled_from([None, 0.2, 0.9, 1.0]),
        "min_p": st.sampled_from([None, 0.1, 0.5]),
        "repetition_penalty": st.sampled_from([1.0, 0.8, 1.7]),
        "presence_penalty": st.sampled_from([0.0, -1.0, 1.3]),
        "frequency_penalty": st.sampled_from([0.0, 0.7, 2.0]),
        "logit_bias": st.sampled_from([(), ((2, 3.0),), ((0, -50.0), (9, 1.5))]),
        "seed": st.integers(0, 2**63 - 1),
    }
)
forbidden = st.one_of(st.none(), st.sets(st.integers(0, 11), max_size=9))


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(rules, forbidden), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
    num_steps=st.integers(1, 4),
)
def test_a_batch_is_what_a_plain_reading_of_the_rules_gives_row_by_row(
    rows: list[tuple[dict[str, Any], set[int] | None]], seed: int, num_steps: int
) -> None:
    vocab_size = 12
    generator = torch.Generator().manual_seed(seed)
    states, outputs, prompts = [], [[] for _ in rows], []
    for row, (options, barred) in enumerate(rows):
        prompts.append([row % vocab_size, (row * 5 + 1) % vocab_size])
        allowed = None if barred is None else set(range(vocab_size)) - barred
        constraint = Only(*[allowed] * (num_steps + 1), size=vocab_size)
        states.append(state(prompts[row], vocab_size=vocab_size, constraint=constraint, **options))
    for _ in range(num_steps):
        logits = 3 * torch.randn(len(rows), vocab_size, generator=generator)
        uniforms = [row.uniform() for row in states]
        sampled = sample(logits, states)
        for row, (token, (options, barred)) in enumerate(zip(sampled, rows, strict=True)):
            assert isinstance(token, SampledToken)
            possible = model_of_a_draw(
                logits[row].tolist(), SamplingOptions(**options), barred or set(), prompts[row],
                outputs[row], uniforms[row],
            )  # fmt: skip
            assert token.token_id in possible
            states[row].accept(token.token_id)
            outputs[row].append(token.token_id)


def model_of_a_draw(
    logits: list[float],
    options: SamplingOptions,
    barred: set[int],
    prompt: list[int],
    output: list[int],
    uniform: float,
) -> set[int]:
    """The token that the rules give in double precision; its neighbour, too, where rounding may decide."""
    scores: dict[int, float] = {}
    for token, value in enumerate(logits):
        if token in prompt or token in output:
            factor = options.repetition_penalty
            value = value / factor if value > 0 else value * factor
        value -= options.frequency_penalty * output.count(token)
        value -= options.presence_penalty * (token in output)
        value += dict(options.logit_bias).get(token, 0.0)
        if token not in barred:
            scores[token] = value
    ranked = sorted(scores, key=scores.__getitem__, reverse=True)
    if options.greedy:
        return {token for token in ranked if scores[ranked[0]] - scores[token] < TOLERANCE}
    weights = {token: math.exp((scores[token] - scores[ranked[0]]) / options.temperature) for token in ranked}
    kept = ranked[: options.top_k]
    if options.top_p is not None and options.top_p < 1:
        total, mass, nucleus = sum(weights[token] for token in kept), 0.0, []
        for token in kept:
            if mass < (options.top_p - TOLERANCE) * total:
                nucleus.append(token)
            mass += weights[token]
        kept = nucleus
    kept = [token for token in kept if weights[token] >= (options.min_p or 0) * weights[ranked[0]]]
    cuts_by_rank = options.top_k is not None or (options.top_p is not None and options.top_p < 1)
    order = kept if cuts_by_rank else sorted(kept)
    total = sum(weights[token] for token in order)
    possible, mass = set(), 0.0
    for token in order:
        low, mass = mass, mass + weights[token] / total
        if low - TOLERANCE <= uniform < mass + TOLERANCE:
            possible.add(token)
    return possible


TOLERANCE = 1e-4


def test_a_nucleus_wider_than_the_sorted_prefix_is_as_exact_as_a_narrow_one() -> None:
    size = 3 * NUCLEUS_PREFIX
    steep, flat = torch.arange(size) * -0.05, torch.arange(size) * -1e-4
    logits = torch.stack([steep, flat])
    options = [SamplingOptions(temperature=1.0, top_p=0.9, seed=seed) for seed in (1, 2)]
    for _ in range(3):
        together = tokens(sampler(*options, vocab_size=size), logits)
        alone = [
            tokens(sampler(row, vocab_size=size), logits[index : index + 1])[0]
            for index, row in enumerate(options)
        ]
        assert together == alone
    limit = int((flat.double().softmax(0).cumsum(0) < 0.9).sum())
    assert limit > NUCLEUS_PREFIX
    many = [SamplingOptions(temperature=1.0, top_p=0.9, seed=seed) for seed in range(300)]
    drawn = tokens(sampler(*many, vocab_size=size), flat.expand(300, -1))
    assert NUCLEUS_PREFIX < max(drawn) <= limit


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
    assert tokens(draw, logits) == [0]


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
        {"presence_penalty": 2.1},
        {"frequency_penalty": float("nan")},
        {"logit_bias": {3: 1.0}},
        {"logit_bias": ((3, 1.0), (3, 2.0))},
        {"logit_bias": ((-1, 1.0),)},
        {"logit_bias": ((1, float("inf")),)},
        {"top_logprobs": 21},
        {"top_logprobs": 1},
        {"stop": ("",)},
        {"stop": (3,)},
        {"stop": "text"},
    ],
)
def test_an_option_out_of_range_is_named(fields: dict[str, object]) -> None:
    [name] = fields
    with pytest.raises(InvalidSampling, match=f"{name} is "):
        SamplingOptions(**fields)
