"""Bootstrap intervals: how much a figure would move had other questions been asked.

Percentile bootstrap over questions (Efron and Tibshirani 1993, chapter 13). Values are one a question, NaN
where the figure does not apply to it; a resample keeps that pattern, so shares of subsets vary as they would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

Statistic = Callable[[np.ndarray], np.ndarray]
"""(..., n) values with NaN to (...) results, NaN where nothing applies."""

ROUNDS = 2000
_BLOCK = 2_000_000  # values resampled at a time: bounds memory


class Interval(NamedTuple):
    """Where 95% of the resampled figures lie."""

    low: float
    high: float


def mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what applies."""
    applies = ~np.isnan(values)
    count = applies.sum(axis=-1)
    total = np.where(applies, values, 0.0).sum(axis=-1)
    return np.divide(total, count, out=np.full(np.shape(total), math.nan), where=count > 0)


def percentile(q: float) -> Statistic:
    """The q-th percentile over the last axis, 0 to 100; values that do not apply are not counted."""

    def statistic(values: np.ndarray) -> np.ndarray:
        if np.isnan(values).any():
            ordered = np.sort(values, axis=-1)  # NaN go last
            count = (~np.isnan(ordered)).sum(axis=-1)
            index = np.clip(np.round(q / 100 * (count - 1)).astype(np.int64), 0, None)
            return np.take_along_axis(ordered, index[..., None], axis=-1)[..., 0]
        return np.percentile(values, q, axis=-1, method="nearest")

    return statistic


def interval(
    values: np.ndarray, statistic: Statistic = mean, *, rounds: int = ROUNDS, seed: int = 0
) -> Interval:
    """95% interval of `statistic` over `values` (n,)."""
    return _bounds(
        np.concatenate([statistic(values[index]) for index in _resamples(len(values), rounds, seed)])
    )


def paired_interval(
    before: np.ndarray, after: np.ndarray, statistic: Statistic = mean, *, rounds: int = ROUNDS, seed: int = 0
) -> Interval:
    """95% interval of `statistic(after) - statistic(before)`, the same questions drawn for both."""
    if before.shape != after.shape:
        raise ValueError("paired values must be of the same questions")
    differences = [
        statistic(after[index]) - statistic(before[index]) for index in _resamples(len(before), rounds, seed)
    ]
    return _bounds(np.concatenate(differences))


def _resamples(size: int, rounds: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks (rounds in the block, size) of indices drawn with replacement."""
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // max(size, 1))
    for begin in range(0, rounds, block):
        yield rng.integers(0, size, size=(min(block, rounds - begin), size))


def _bounds(results: np.ndarray) -> Interval:
    found = results[~np.isnan(results)]
    if not len(found):
        return Interval(math.nan, math.nan)
    low, high = np.percentile(found, [2.5, 97.5])
    return Interval(float(low), float(high))
