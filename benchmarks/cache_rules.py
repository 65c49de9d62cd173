"""How other caches decide a hit, written down from their formulas: the peers of cache_traffic.py.

Each rule sees unit vectors of queries in the order of their coming. `look_up` says what it would serve, as k
chunk numbers, or None; after a None the caller runs the true search and hands its result to `store`. None of
this is the peers' code: it is their decision, without their overhead, so that only the decision is compared.

- GPTCache 0.1: distance = |q - a|^2, score = 4 - distance, a hit from 0.8 of the range: cosine >= 0.6.
- A fixed cosine threshold, as in redisvl (0.9).
- Proximity (EuroMLSys 2025): the nearest past query within a distance tau; first in, first out.
- vCache (ICLR 2026): every entry fits a logistic curve to whether it was right at which similarity, and
  explores with a probability that keeps the expected error within delta.
- QVCache (VLDB 2026): keeps the vectors of past results, searches among them, and takes the result if its
  k-th distance is not above (1 + D) times what is usual in the query's region.
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from statistics import NormalDist
from typing import Protocol

import numpy as np

# vCache takes the variance of an entry's threshold from a table while its labels separate perfectly.
_SEPARABLE_VARIANCE = ((6, 0.035), (27, 0.0088))
_MIN_LABELS = 6
_EPSILONS = np.linspace(0.01, 0.99, 50)
_QUANTILES = np.array([NormalDist().inv_cdf(1 - epsilon) for epsilon in _EPSILONS])


class Rule(Protocol):
    """A cache's decision."""

    def look_up(self, query: np.ndarray) -> np.ndarray | None:
        """(k,) chunk numbers that are served for a (dimension,) float32 unit vector, or None."""
        ...

    def store(self, query: np.ndarray, found: np.ndarray) -> None:
        """Takes in the (k,) chunk numbers of the true search, after a None."""
        ...


class Entries:
    """Past queries and their results, as many as fit."""

    def __init__(self, capacity: int, *, lru: bool) -> None:
        self._capacity, self._lru = capacity, lru
        self._vectors = np.zeros((0, 0), np.float32)
        self._results: list[np.ndarray] = []
        self._order: OrderedDict[int, None] = OrderedDict()  # slots, the next to go first

    def nearest(self, query: np.ndarray) -> tuple[int, float] | None:
        """Slot and similarity of the nearest past query."""
        if not self._results:
            return None
        similarities = self._vectors[: len(self._results)] @ query
        slot = int(similarities.argmax())
        return slot, float(similarities[slot])

    def use(self, slot: int) -> np.ndarray:
        """The result in a slot."""
        if self._lru:
            self._order.move_to_end(slot)
        return self._results[slot]

    def put(self, query: np.ndarray, found: np.ndarray) -> int:
        """Adds an entry, in the place of another if there is no room; its slot."""
        if len(self._results) < self._capacity:
            slot = len(self._results)
            if slot == len(self._vectors):
                grown = np.zeros((max(2 * slot, 64), len(query)), np.float32)
                grown[:slot] = self._vectors[:slot] if slot else 0
                self._vectors = grown
            self._results.append(found)
        else:
            slot, _ = self._order.popitem(last=False)
            self._results[slot] = found
        self._vectors[slot] = query
        self._order[slot] = None
        return slot


class FixedCosine:
    """The nearest past query's result at or above a cosine."""

    def __init__(self, threshold: float, *, capacity: int = 100_000, lru: bool = True) -> None:
        self.threshold = threshold
        self._entries = Entries(capacity, lru=lru)

    def look_up(self, query: np.ndarray) -> np.ndarray | None:
        near = self._entries.nearest(query)
        return self._entries.use(near[0]) if near and near[1] >= self.threshold else None

    def store(self, query: np.ndarray, found: np.ndarray) -> None:
        self._entries.put(query, found)


def gptcache(*, threshold: float = 0.8, capacity: int = 1000) -> FixedCosine:
    """4 - |q - a|^2 >= 4 * threshold, and |q - a|^2 = 2 - 2 cos."""
    return FixedCosine(1 - 2 * (1 - threshold), capacity=capacity)


def proximity(tau: float, *, capacity: int = 100_000) -> FixedCosine:
    """|q - a| < tau, first in, first out."""
    return FixedCosine(1 - tau**2 / 2, capacity=capacity, lru=False)


class VCache:
    """Verified semantic prompt caching with the label "recall of the old result is high enough".

    p(right | s) = sigmoid(gamma (s - t)); t' = t + Phi^-1(1 - e) sd(t); alpha(e) = (1 - e) sigmoid(gamma
    (s - t')); explore with probability min over e of 1 - delta / (1 - alpha(e)).
    """

    def __init__(self, delta: float, *, k: int, min_recall: float, seed: int = 0) -> None:
        self._delta, self._k, self._min_recall = delta, k, min_recall
        self._entries = Entries(100_000, lru=True)
        self._labels: dict[int, list[tuple[float, bool]]] = {}
        self._curves: dict[int, tuple[float, float, float]] = {}  # t, variance of t, gamma
        self._random = random.Random(seed)
        self._explored: tuple[int, float] | None = None

    def look_up(self, query: np.ndarray) -> np.ndarray | None:
        self._explored = self._entries.nearest(query)
        if self._explored is None:
            return None
        slot, similarity = self._explored
        if slot not in self._curves or self._random.random() <= self._explore(slot, similarity):
            return None
        return self._entries.use(slot)

    def store(self, query: np.ndarray, found: np.ndarray) -> None:
        right = False
        if self._explored is not None:
            slot, similarity = self._explored
            old = self._entries.use(slot)
            right = bool(np.isin(found, old).mean() >= self._min_recall)
            labels = self._labels.setdefault(slot, [])
            labels.append((similarity, right))
            if len(labels) >= _MIN_LABELS:
                self._curves[slot] = self._fit(labels)
        if not right:
            self._labels.pop(self._entries.put(query, found), None)

    def _explore(self, slot: int, similarity: float) -> float:
        t, variance, gamma = self._curves[slot]
        thresholds = np.clip(t + _QUANTILES * math.sqrt(variance), 0, 1)
        alpha = (1 - _EPSILONS) / (1 + np.exp(-np.clip(gamma * (similarity - thresholds), -50, 50)))
        return float(np.min(1 - self._delta / (1 - alpha)))

    @staticmethod
    def _fit(labels: list[tuple[float, bool]]) -> tuple[float, float, float]:
        s = np.array([similarity for similarity, _ in labels])
        y = np.array([right for _, right in labels], float)
        x = np.stack([np.ones(len(s)), s])
        beta = np.array([-8.0, 10.0])
        for _ in range(25):  # Newton, with a ridge that keeps separable labels finite
            p = 1 / (1 + np.exp(-np.clip(beta @ x, -30, 30)))
            curvature = (x * (p * (1 - p))) @ x.T + 1e-3 * np.eye(2)
            beta = beta + np.clip(np.linalg.solve(curvature, x @ (y - p) - 1e-3 * beta), -10, 10)
        gamma = max(float(beta[1]), 1e-3)
        t = float(-beta[0] / gamma)
        separable = y.all() or not y.any() or s[y == 1].min() > s[y == 0].max()
        if separable:
            (n0, v0), (n1, v1) = _SEPARABLE_VARIANCE
            variance = float(np.interp(len(y), [n0, n1], [v0, v1]))
        else:
            gradient = np.array([-1 / gamma, beta[0] / gamma**2])
            variance = float(gradient @ np.linalg.inv(curvature) @ gradient)
        return t, variance, gamma


class QVCache:
    """Regional thresholds on the k-th distance among the vectors of past results.

    A region is the first 16 principal components of the query in 8 buckets each; theta follows the true k-th
    distance there, theta <- 0.9 d + 0.1 theta; a hit needs a k-th distance of at most (1 + D) theta.
    """

    def __init__(self, deviation: float, *, k: int, vectors: np.ndarray, sample: np.ndarray) -> None:
        """`vectors` are the corpus's, `sample` queries to find the principal components on."""
        self._deviation, self._k, self._vectors = deviation, k, vectors
        centred = sample - sample.mean(axis=0)
        self._mean = sample.mean(axis=0)
        self._axes = np.linalg.svd(centred, full_matrices=False)[2][:16]
        projected = centred @ self._axes.T
        self._low, self._high = projected.min(axis=0), projected.max(axis=0)
        self._thetas: dict[bytes, float] = {}
        self._kept: list[int] = []  # chunk numbers in the cache
        self._rows = np.zeros((1024, vectors.shape[1]), np.float32)  # their vectors, and room for more
        self._known: set[int] = set()

    def look_up(self, query: np.ndarray) -> np.ndarray | None:
        theta = self._thetas.get(self._region(query))
        if theta is None or len(self._kept) < self._k:
            return None
        scores = self._rows[: len(self._kept)] @ query
        best = np.argpartition(-scores, self._k - 1)[: self._k]
        distance = math.sqrt(max(2 - 2 * float(scores[best].min()), 0.0))
        if distance > (1 + self._deviation) * theta:
            return None
        return np.array([self._kept[i] for i in best.tolist()])

    def store(self, query: np.ndarray, found: np.ndarray) -> None:
        region = self._region(query)
        distance = math.sqrt(max(2 - 2 * float((self._vectors[found] @ query).min()), 0.0))
        before = self._thetas.get(region, distance)
        self._thetas[region] = 0.9 * distance + 0.1 * before
        for number in found.tolist():
            if number not in self._known:
                if len(self._kept) == len(self._rows):
                    self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
                self._rows[len(self._kept)] = self._vectors[number]
                self._kept.append(number)
                self._known.add(number)

    def _region(self, query: np.ndarray) -> bytes:
        place = (self._axes @ (query - self._mean) - self._low) / np.maximum(self._high - self._low, 1e-9)
        return np.clip((place * 8).astype(np.int64), 0, 7).astype(np.uint8).tobytes()
