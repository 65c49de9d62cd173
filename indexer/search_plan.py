"""How far an approximate index has to look for k hits: measured at a few k, and read off between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_SPARE_HITS = 8


@dataclass(frozen=True, slots=True)
class PlanPoint:
    """What it takes to find the k nearest, and how many of them were found so.

    `recall` is measured on queries that had no say in the choice of the two numbers.
    """

    k: int
    num_probes: int  # lists that are looked through
    rerank_depth: int  # candidates that are compared again by their stored vectors
    recall: float


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """Plan points by rising k; at least one."""

    points: tuple[PlanPoint, ...]

    @classmethod
    def of(cls, points: Iterable[PlanPoint]) -> SearchPlan:
        """A plan of points in any order. Raises ValueError where they make no sense."""
        ordered = tuple(sorted(points, key=lambda point: point.k))
        numbers = [n for point in ordered for n in (point.k, point.num_probes, point.rerank_depth)]
        if not ordered or not all(isinstance(n, int) and n >= 1 for n in numbers):
            raise ValueError("a plan needs points of positive whole numbers")
        return cls(ordered)

    def num_probes(self, k: float) -> int:
        """How many lists to look through for the k nearest; may be more than there are."""
        return int(np.ceil(self._at(k, [point.num_probes for point in self.points])))

    def rerank_depth(self, k: int) -> int:
        """How many candidates to compare again for the k nearest."""
        depth = self._at(k, [point.rerank_depth for point in self.points])
        return max(int(np.ceil(depth)), k + _SPARE_HITS)

    def _at(self, k: float, values: list[int]) -> float:
        """Between the points on straight lines of the logarithms; beyond the last one in proportion to k."""
        ks = [point.k for point in self.points]
        if k > ks[-1]:
            return values[-1] * k / ks[-1]
        return float(np.exp(np.interp(np.log(max(k, 1)), np.log(ks), np.log(values)))) - 1e-9
