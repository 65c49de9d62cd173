from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.binomial import lower_bound, upper_bound
from retriever.cache_calibration import Audit, Calibrator, Calibrators, Decision


class Traffic:
    """Answers from past queries that are right with a probability that rises with their alignment."""

    def __init__(self, *, slope: float = 30.0, midpoint: float = 0.3, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self.slope, self.midpoint = slope, midpoint
        self.served = self.wrong = 0

    def through(self, calibrator: Calibrator, count: int, *, queries: int = 50) -> None:
        for _ in range(count):
            alignment = self._random.uniform(0, 1)
            right = self._random.random() < 1 / (1 + np.exp(-self.slope * (alignment - self.midpoint)))
            query = f"past {self._random.integers(queries)}"
            decision = calibrator.decide(query, alignment)
            if decision.serve:
                self.served += 1
                self.wrong += not right
            if not decision.serve or decision.audit:
                calibrator.learn(query, decision, right=bool(right))


@pytest.mark.parametrize(
    ("failures", "trials", "upper", "lower"),
    [(0, 0, 1, 0), (0, 299, 0.009969, 0), (3, 3, 1, 0.368403), (5, 100, 0.102253, 0.019906), (1, 1, 1, 0.05)],
)
def test_the_bounds_are_those_of_clopper_and_pearson(failures, trials, upper, lower):
    assert upper_bound(failures, trials) == pytest.approx(upper, abs=2e-6)
    assert lower_bound(failures, trials) == pytest.approx(lower, abs=2e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.data())
def test_the_true_rate_is_beyond_a_bound_in_at_most_one_of_twenty_series(trials, data):
    rate = data.draw(st.floats(0.01, 0.99))
    counts = np.arange(trials + 1)
    log_weights = counts * np.log(rate) + (trials - counts) * np.log1p(-rate)
    log_weights += [
        np.sum(np.log(np.arange(trials - c + 1, trials + 1)) - np.log(np.arange(1, c + 1))) for c in counts
    ]
    weights = np.exp(log_weights)
    likely = np.flatnonzero(weights > 1e-6)
    too_low = sum(weights[c] for c in likely if upper_bound(int(c), trials) < rate)
    too_high = sum(weights[c] for c in likely if lower_bound(int(c), trials) > rate)
    assert too_low <= 0.05 + 1e-3
    assert too_high <= 0.05 + 1e-3


def earn(calibrator: Calibrator, count: int) -> list[Decision]:
    """So many answers that cannot be better, all of them right; labels come where a true search was made."""
    decisions = []
    for _ in range(count):
        decision = calibrator.decide("past", 1.0)
        decisions.append(decision)
        if decision.audit or not decision.serve:
            calibrator.learn("past", decision, right=True)
    return decisions


def test_nothing_is_served_before_it_is_earned():
    calibrator = Calibrator(max_false_hit_rate=0.01, audit_share=0.05)
    assert not calibrator.is_serving
    assert not any(decision.serve for decision in earn(calibrator, 40))
    earn(calibrator, 60)
    assert calibrator.is_serving


def test_answers_on_probation_are_audited_one_and_all_until_they_are_beyond_doubt():
    calibrator = Calibrator(max_false_hit_rate=0.01, audit_share=1e-9)
    decisions = earn(calibrator, 300)
    served = [number for number, decision in enumerate(decisions) if decision.serve]
    audited = [number for number, decision in enumerate(decisions) if decision.audit]
    assert 45 <= served[0] <= 55
    assert served == list(range(served[0], 300))
    assert audited == list(range(served[0], audited[-1] + 1))
    assert upper_bound(0, audited[-1]) == pytest.approx(0.016, abs=0.001)  # Jeffreys' bound is 0.01 there


@pytest.mark.parametrize(("num_wrong", "num_labels"), [(0, 192), (1, 390), (3, 703)])
def test_what_is_beyond_doubt_has_a_95_percent_bound_within_the_budget(num_wrong, num_labels):
    """So many labels it takes by Jeffreys' bound: the 95% quantile of a beta distribution is then 0.01."""
    calibrator = Calibrator(max_false_hit_rate=0.01, audit_share=1e-9)
    for number in range(2000):
        decision = calibrator.decide(f"past {number}", 0.8)
        if decision.serve and not decision.audit:
            break
        calibrator.learn(f"past {number}", decision._replace(audit=False), right=number >= num_wrong)
    assert number == pytest.approx(num_labels, rel=0.05)


def test_labels_that_come_after_a_calibrator_was_replaced_are_not_taken_for_its_own_answers():
    gone, new = (Calibrator(max_false_hit_rate=0.01, audit_share=0.1) for _ in range(2))
    before = new.decide("other", 0.5).probability_wrong
    gone.decide("past", 0.0)
    for _ in range(100):
        new.learn("past", gone.decide("past", 0.0), right=True)
    assert new.decide("other", 0.5).probability_wrong == before


def test_a_wrong_answer_ends_the_probation():
    calibrator = Calibrator(max_false_hit_rate=0.01, audit_share=0.05)
    last = earn(calibrator, 80)[-1]
    assert last.serve
    calibrator.learn("past", calibrator.decide("past", 1.0), right=False)
    assert not calibrator.is_serving


def test_strata_are_judged_together_however_the_labels_are_spread_over_them():
    """A handful of right labels in each of many strata says as much as all of them in one."""
    together, spread = (Calibrator(max_false_hit_rate=0.01, audit_share=1e-9) for _ in range(2))
    earn(together, 200)
    for number in range(200):
        decision = spread.decide("past", 0.5 + 0.1 * (number % 6))
        if decision.audit or not decision.serve:
            spread.learn("past", decision, right=True)
    assert not together.decide("past", 1.0).audit
    assert spread.decide("past", 1.0).serve


@pytest.mark.parametrize("budget", [0.01, 0.05])
def test_what_is_served_keeps_within_the_budget_and_is_not_little(budget):
    calibrator, traffic = Calibrator(max_false_hit_rate=budget, audit_share=0.1), Traffic(seed=1)
    traffic.through(calibrator, 3000)
    assert traffic.served > 800
    assert traffic.wrong / traffic.served <= budget
    audit = calibrator.audit()
    assert audit.num_audited > 50
    assert audit.false_hit_rate <= audit.upper_bound
    assert audit.num_suspensions == 0


def test_what_is_unsafe_at_any_alignment_is_never_served():
    calibrator, traffic = Calibrator(max_false_hit_rate=0.01, audit_share=0.1), Traffic(slope=0.0)
    traffic.through(calibrator, 1500)
    assert traffic.served == 0


def test_a_budget_of_one_serves_everything():
    calibrator = Calibrator(max_false_hit_rate=1.0, audit_share=0.1)
    for _ in range(50):
        decision = calibrator.decide("past", -1.0)
        assert decision.serve
        calibrator.learn("past", decision, right=False)


def test_a_past_query_whose_answers_were_wrong_gets_a_higher_threshold_than_the_others():
    calibrator, traffic = Calibrator(max_false_hit_rate=0.05, audit_share=0.1), Traffic()
    traffic.through(calibrator, 1500)
    before = calibrator.decide("treacherous", 0.5)
    assert before.threshold == pytest.approx(calibrator.decide("never seen", 0.5).threshold)
    for _ in range(4):
        calibrator.learn("treacherous", calibrator.decide("treacherous", 0.7), right=False)
    for _ in range(4):
        calibrator.learn("reliable", calibrator.decide("reliable", 0.3), right=True)
    thresholds = [
        calibrator.decide(name, 0.5).threshold for name in ("reliable", "never seen", "treacherous")
    ]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] < thresholds[2]
    assert calibrator.decide("treacherous", 0.5).probability_wrong > before.probability_wrong


def test_a_tier_whose_answers_turn_wrong_stops_soon_and_can_earn_its_place_again():
    calibrator, traffic = Calibrator(max_false_hit_rate=0.02, audit_share=0.2), Traffic()
    traffic.through(calibrator, 1200)
    assert calibrator.is_serving
    traffic.midpoint = 2.0  # from now on everything is wrong: another corpus, other people
    before = traffic.wrong
    traffic.through(calibrator, 300)
    assert not calibrator.is_serving
    assert traffic.wrong - before < 60


def test_audits_that_are_beyond_doubt_over_the_budget_suspend_the_tier_until_it_is_earned_anew():
    calibrator, traffic = Calibrator(max_false_hit_rate=0.02, audit_share=1e-9), Traffic()
    traffic.through(calibrator, 1000)
    assert calibrator.is_serving
    late = calibrator.decide("past 1", 0.95)
    while calibrator.audit().num_audited:  # beyond doubt takes a few: those on probation were all right
        decision = calibrator.decide("past 1", 0.9)
        calibrator.learn("past 1", decision._replace(audit=True), right=False)
    assert calibrator.audit() == Audit(0, 0, 1)
    assert not calibrator.is_serving
    calibrator.learn("past 1", late, right=True)  # it comes too late to be one of the new ones
    assert (calibrator._labels == 1).sum() == 0
    traffic.through(calibrator, 1000)
    assert calibrator.is_serving


def test_false_hits_in_the_audits_make_it_stricter_before_they_suspend_it():
    calibrator, traffic = Calibrator(max_false_hit_rate=0.05, audit_share=0.2), Traffic()
    traffic.through(calibrator, 2500)
    threshold = calibrator.decide("any", 0.9).threshold
    for _ in range(200):
        decision = calibrator.decide("past 1", 0.6)
        if decision.audit:
            calibrator.learn("past 1", decision, right=False)
            break
    for _ in range(2000):
        if calibrator.decide("any", 0.9).threshold > threshold or not calibrator.is_serving:
            break
        decision = calibrator.decide("past 2", 0.7)
        if decision.audit:
            calibrator.learn("past 2", decision, right=False)
    assert calibrator.audit().num_suspensions == 0
    assert calibrator.decide("any", 0.9).threshold > threshold


def test_a_label_of_a_calibrator_that_was_dropped_is_not_its_successors() -> None:
    calibrators: Calibrators[str] = Calibrators(
        lambda number: Calibrator(max_false_hit_rate=0.01, audit_share=1.0, first_number=number)
    )
    late = calibrators.of("kind").decide("past", 0.3)
    calibrators.clear()
    successor = calibrators.of("kind")
    successor.decide("past", 0.9)
    successor.learn("past", late._replace(audit=True), right=False)
    assert successor.audit().num_audited == 0
    assert not successor._past_queries
    assert not (successor._labels == 0).any()


def test_memory_does_not_grow_with_the_number_or_the_length_of_past_queries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("retriever.cache_calibration._MAX_QUERIES", 50)
    calibrator = Calibrator(max_false_hit_rate=0.01, audit_share=0.1)

    def bytes_after(start: int, stop: int) -> int:
        for number in range(start, stop):
            query = f"{number} " + "long " * 4000  # 20 kB
            calibrator.learn(query, calibrator.decide(query, 0.5), right=True)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        full = bytes_after(0, 100)
        assert full < 500_000  # of 50 queries that are a megabyte together
        assert bytes_after(100, 400) < full + 20_000
    finally:
        tracemalloc.stop()
