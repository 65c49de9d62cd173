"""Prompt lookup: drafts as a scan of the whole context would find them, and drafting only while it pays."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.engine.speculation import DraftPolicy, PromptLookup, StepCost, count_accepted


def scan(tokens: list[int], max_tokens: int, sizes: range) -> list[int]:
    """The definition: the last earlier occurrence of the longest known tail, and what followed it."""
    for size in reversed(sizes):
        tail = tokens[len(tokens) - size :]
        starts = [end for end in range(size, len(tokens)) if tokens[end - size : end] == tail]
        if size <= len(tokens) and starts:
            grown = list(tokens)
            for place in range(max_tokens):
                grown.append(grown[starts[-1] + place])
            return grown[len(tokens) :]
    return []


@settings(max_examples=200, deadline=None)
@given(
    tokens=st.lists(st.integers(0, 3), max_size=40),
    split=st.integers(0, 40),
    max_tokens=st.integers(0, 9),
    sizes=st.sampled_from([range(1, 2), range(1, 4), range(2, 5)]),
)
def test_a_draft_is_what_a_scan_of_the_context_finds(
    tokens: list[int], split: int, max_tokens: int, sizes: range
) -> None:
    lookup = PromptLookup(tokens[:split], min_ngram=sizes.start, max_ngram=sizes.stop - 1)
    for token in tokens[split:]:
        lookup.extend([token])
    assert lookup.propose(max_tokens) == scan(tokens, max_tokens, sizes)
    assert len(lookup) == len(tokens)


def test_a_loop_is_drafted_beyond_the_end_of_the_sequence() -> None:
    assert PromptLookup([9, 1, 2, 1, 2]).propose(5) == [1, 2, 1, 2, 1]


def test_senseless_n_grams_are_an_error() -> None:
    with pytest.raises(ValueError, match="no sense"):
        PromptLookup(min_ngram=3, max_ngram=2)


@pytest.mark.parametrize(
    ("draft", "chosen", "accepted"),
    [([], [4], 0), ([1, 2], [1, 2, 3], 2), ([1, 2], [1, 5, 3], 1), ([1, 2], [7, 2, 3], 0)],
)
def test_a_draft_stands_up_to_the_first_token_the_model_would_not_have_said(
    draft: list[int], chosen: list[int], accepted: int
) -> None:
    assert count_accepted(draft, chosen) == accepted


def test_a_choice_is_needed_for_every_place_and_the_one_after() -> None:
    with pytest.raises(ValueError, match="2 choices for a draft of 2"):
        count_accepted([1, 2], [1, 2])


def step_cost(*, fixed: float, per_token: float) -> StepCost:
    cost = StepCost()
    for width in (1, 5, 9, 1, 3, 1, 9) * 20:
        cost.observe(width, fixed + per_token * width)
    return cost


def test_the_cost_of_a_step_is_fitted_to_what_was_measured() -> None:
    cost = step_cost(fixed=0.02, per_token=0.001)
    assert cost.per_token_s == pytest.approx(0.001, rel=0.1)
    assert cost.seconds(1) == pytest.approx(0.021, rel=0.05)
    assert cost.seconds(9) == pytest.approx(0.029, rel=0.05)


def test_the_cost_follows_a_machine_that_changes() -> None:
    cost = step_cost(fixed=0.02, per_token=0.0)
    for width in (1, 9) * 200:
        cost.observe(width, 0.01 + 0.01 * width)
    assert cost.per_token_s == pytest.approx(0.01, rel=0.1)


def test_steps_of_one_width_leave_the_belief_that_a_token_adds_a_tenth() -> None:
    cost = StepCost()
    assert cost.seconds(3) == cost.per_token_s == 0
    for _ in range(50):
        cost.observe(1, 0.02)
    assert cost.per_token_s == pytest.approx(0.002)


def run(policy: DraftPolicy, cost: StepCost, *, accepted: bool, steps: int) -> list[int]:
    """Draft lengths of so many steps, every draft being right or wrong from its first token."""
    lengths = []
    for _ in range(steps):
        length = policy.draft_tokens(cost, num_sequences=1)
        if length:
            policy.observe_draft(length, length if accepted else 0)
        else:
            policy.observe_plain()
        lengths.append(length)
    return lengths


def test_drafts_that_stand_grow_to_the_limit() -> None:
    policy = DraftPolicy(max_draft_tokens=8)
    lengths = run(policy, step_cost(fixed=0.02, per_token=0.001), accepted=True, steps=10)
    assert lengths == sorted(lengths)
    assert lengths[-1] == 8
    assert policy.acceptance_rate == 1


def test_drafts_that_fail_are_switched_off_and_tried_ever_more_rarely() -> None:
    policy = DraftPolicy()
    cost = step_cost(fixed=0.02, per_token=0.002)
    lengths = run(policy, cost, accepted=False, steps=1000)
    assert sum(length > 0 for length in lengths[:100]) > sum(length > 0 for length in lengths[500:600])
    assert sum(lengths[500:]) < 100
    assert policy.acceptance_rate == 0


def test_a_sequence_that_begins_to_copy_is_drafted_again() -> None:
    policy = DraftPolicy()
    cost = step_cost(fixed=0.02, per_token=0.002)
    run(policy, cost, accepted=False, steps=60)
    lengths = run(policy, cost, accepted=True, steps=200)
    assert lengths[-1] == 8
    assert not policy.paused


def test_a_step_that_many_share_has_no_room_for_drafts() -> None:
    # At 64 sequences a plain token costs little more than the slope, so only sure drafts would pay.
    cost = step_cost(fixed=0.02, per_token=0.001)
    assert DraftPolicy().draft_tokens(cost, num_sequences=1) > 0
    assert DraftPolicy().draft_tokens(cost, num_sequences=64) == 0


def test_nothing_is_known_at_first_so_the_first_draft_is_long() -> None:
    assert DraftPolicy(max_draft_tokens=5).draft_tokens(StepCost(), num_sequences=1) == 5
