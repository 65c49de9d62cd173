"""How certain a rate is that was counted.

The bounds are exact for any number of trials (Clopper and Pearson, "The use of confidence or fiducial
limits illustrated in the case of the binomial", Biometrika 1934): the true rate is above `upper_bound`, or
below `lower_bound`, in at most 5% of all series of trials.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

CONFIDENCE = 0.95  # of each bound by itself
_STEPS = 40  # halvings of [0, 1]: far finer than any rate is shown


@functools.lru_cache(maxsize=64)  # the same counts are asked for at every hit between two audits
def upper_bound(failures: int, trials: int) -> float:
    """The largest rate at which so few failures are not yet too few; 1 if nothing was tried."""
    if failures >= trials:
        return 1.0
    return _boundary(lambda rate: _at_most(failures, trials, rate) > 1 - CONFIDENCE)


def lower_bound(failures: int, trials: int) -> float:
    """The smallest rate at which so many failures are not yet too many; 0 if nothing was tried."""
    if failures <= 0:
        return 0.0
    return _boundary(lambda rate: _at_most(failures - 1, trials, rate) >= CONFIDENCE)


def _boundary(below: Callable[[float], bool]) -> float:
    """Where, from 0 to 1, what holds at first ceases to hold."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return high


def _at_most(failures: int, trials: int, rate: float) -> float:
    """The probability of at most so many failures."""
    log_hit, log_miss = math.log(rate), math.log1p(-rate)
    whole = math.lgamma(trials + 1)
    return math.fsum(
        math.exp(
            whole - math.lgamma(i + 1) - math.lgamma(trials - i + 1) + i * log_hit + (trials - i) * log_miss
        )
        for i in range(failures + 1)
    )
