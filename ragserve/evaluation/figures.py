"""The figures of a run: what each one is a mean or a percentile of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ragserve.evaluation.bootstrap import Interval, Statistic, interval, mean, paired_interval, percentile
from ragserve.evaluation.outcomes import Outcome

Unit = Literal["percent", "ms"]
CUTOFFS = (1, 3, 5, 10, 20, 50, 100)
RIGHT_FROM_F1 = 0.5  # an answer counts as right


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report: a statistic over the questions that `value` is not None for."""

    name: str
    group: str
    about: str
    value: Callable[[Outcome], float | None]
    statistic: Statistic = mean
    unit: Unit = "percent"

    def values(self, outcomes: Sequence[Outcome]) -> np.ndarray:
        """One value an outcome, NaN where the figure does not apply."""
        scale = 100 if self.unit == "percent" else 1000
        found = (self.value(outcome) for outcome in outcomes)
        return np.array([math.nan if value is None else scale * float(value) for value in found])


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure's value, its 95% interval, and how many questions it is made from."""

    figure: Figure
    value: float
    interval: Interval
    questions: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of two runs over the same questions; the interval is of `after - before`."""

    figure: Figure
    before: float
    after: float
    interval: Interval

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return not self.interval.low <= 0 <= self.interval.high


def measure(outcomes: Sequence[Outcome], *, cutoff: int, seed: int = 0) -> list[Measured]:
    """Every figure that applies to at least one outcome; `cutoff` is how many passages were asked for."""
    measured = []
    for figure in figures(cutoff):
        values = figure.values(outcomes)
        if applying := int((~np.isnan(values)).sum()):
            bounds = interval(values, figure.statistic, seed=seed)
            measured.append(Measured(figure, float(figure.statistic(values)), bounds, applying))
    return measured


def compare(
    before: Sequence[Outcome], after: Sequence[Outcome], *, cutoff: int, seed: int = 0
) -> list[Difference]:
    """Differences of every figure that applies to both; outcomes are of the same questions, in order."""
    differences = []
    for figure in figures(cutoff):
        old, new = figure.values(before), figure.values(after)
        if np.isnan(old).all() or np.isnan(new).all():
            continue
        bounds = paired_interval(old, new, figure.statistic, seed=seed)
        values = float(figure.statistic(old)), float(figure.statistic(new))
        differences.append(Difference(figure, *values, bounds))
    return differences


def figures(cutoff: int) -> list[Figure]:
    """All figures there are, in the order of the report."""
    return [*_retrieval(cutoff), *_ANSWERS, *_ABSTENTION, *_CITATIONS, *_LATENCY]


def _retrieval(cutoff: int) -> list[Figure]:
    group = "retrieval"
    at = sorted({k for k in CUTOFFS if k < cutoff} | {cutoff})
    recalls = [
        Figure(f"recall@{k}", group, f"share of the gold items among the first {k}", _recall_at(k))
        for k in at
    ]
    return [
        *recalls,
        Figure(f"mrr@{cutoff}", group, "1 / rank of the first gold item", _reciprocal_rank),
        Figure(f"ndcg@{cutoff}", group, "discounted gain over the best order", _ndcg_at(cutoff)),
    ]


def _recall_at(k: int) -> Callable[[Outcome], float | None]:
    def value(outcome: Outcome) -> float | None:
        ranks = outcome.gold_ranks
        return None if ranks is None else sum(rank is not None and rank <= k for rank in ranks) / len(ranks)

    return value


def _reciprocal_rank(outcome: Outcome) -> float | None:
    ranks = outcome.gold_ranks
    return None if ranks is None else max((1 / rank for rank in ranks if rank is not None), default=0.0)


def _ndcg_at(k: int) -> Callable[[Outcome], float | None]:
    """Binary gains, each gold item once, at its first rank (Jarvelin and Kekalainen 2002)."""

    def value(outcome: Outcome) -> float | None:
        ranks = outcome.gold_ranks
        if ranks is None:
            return None
        gain = sum(1 / math.log2(1 + rank) for rank in ranks if rank is not None)
        best = sum(1 / math.log2(1 + rank) for rank in range(1, min(len(ranks), k) + 1))
        return min(1.0, gain / best)  # two passages in one chunk share its rank

    return value


def _answerable(part: Callable[[Outcome], float | None]) -> Callable[[Outcome], float | None]:
    return lambda outcome: part(outcome) if outcome.answerable else None


def _refused_when(
    applies: Callable[[Outcome], bool], value: Callable[[Outcome], bool]
) -> Callable[[Outcome], float | None]:
    """`value` over the questions that were answered or refused and for which `applies`."""
    return lambda o: float(value(o)) if o.supported is not None and applies(o) else None


def _right(outcome: Outcome) -> bool:
    return bool(outcome.answerable) and (outcome.f1 or 0.0) >= RIGHT_FROM_F1


_ANSWERS = (
    Figure("f1", "answers", "answerable questions, a refusal being wrong", _answerable(lambda o: o.f1)),
    Figure("exact", "answers", "answerable questions, a refusal being wrong", _answerable(lambda o: o.exact)),
    Figure("f1_of_draft", "answers", "the same without a threshold", lambda o: o.f1_of_draft),
    Figure("exact_of_draft", "answers", "the same without a threshold", lambda o: o.exact_of_draft),
    Figure("f1_overall", "answers", "refusing the unanswerable being right", lambda o: o.f1),
    Figure("exact_overall", "answers", "refusing the unanswerable being right", lambda o: o.exact),
    Figure(
        "right_of_given",
        "answers",
        "answers given whose F1 is at least a half",
        _refused_when(lambda o: bool(o.supported) and o.f1 is not None, _right),
    ),
)
_ABSTENTION = (
    Figure(
        "answered", "abstention", "of all questions", _refused_when(lambda o: True, lambda o: o.supported)
    ),
    Figure(
        "answerable_answered",
        "abstention",
        "of the answerable ones",
        _refused_when(lambda o: o.answerable is True, lambda o: bool(o.supported)),
    ),
    Figure(
        "refusal_recall",
        "abstention",
        "of the unanswerable ones, refused",
        _refused_when(lambda o: o.answerable is False, lambda o: not o.supported),
    ),
    Figure(
        "refusal_precision",
        "abstention",
        "of the refused ones, unanswerable",
        _refused_when(lambda o: not o.supported and o.answerable is not None, lambda o: not o.answerable),
    ),
)
_CITATIONS = (
    Figure("quotes_verbatim", "citations", "answers whose quotes stand there", lambda o: o.quotes_verbatim),
    Figure("quotes_hold_draft", "citations", "answers whose words are quoted", lambda o: o.quotes_hold_draft),
    Figure("quotes_hold_answer", "citations", "that quote a known answer", lambda o: o.quotes_hold_answer),
)
_LATENCY = tuple(
    Figure(f"{part}_p{q}", "latency", about, value, percentile(q), "ms")
    for part, about, value in (
        ("retrieval", "finding the passages", lambda o: o.retrieval_seconds),
        ("generation", "reading them and answering", lambda o: o.generation_seconds),
    )
    for q in (50, 95)
)
