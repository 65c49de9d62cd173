"""How similar a chunk outside some lists can be to a query that none of the lists was made for.

A list made for a query a holds every chunk x with <a, x> above c. So a chunk outside the lists of a1 ... an
has <ai, x> <= ci for all of them, and whatever weights w >= 0 are chosen, its similarity to a new query q
is

    <q, x> = <q - sum wi ai, x> + sum wi <ai, x>  <=  |q - sum wi ai| |x| + sum wi ci

For one list and the best weight that is the triangle inequality on the sphere, cos(arccos(c) - angle(q,
a)), as in metric caches (Falchi et al., "Similarity caching in large-scale image retrieval", 2012, with
straight-line distances, which prove less). Several lists around a query prove more than the best of them: a
chunk would have to be far from all of them at once. The weights are the dual variables of "maximise <q, x>
over unit x outside all lists"; any will do, better ones only lower the bound.

Every chunk on the lists is scored anew with q. Those that score above the bound are, in that order, exactly
the most similar of all chunks.
"""

from __future__ import annotations

import math
from operator import mul

import numpy as np

# How far the lengths of the chunks' vectors may be from 1: what the indexer lets pass.
_UNIT_TOLERANCE = 1e-3
# A sum of a few hundred float32 products of unit vectors, in whatever order, is off by less than this.
_ROUNDING = 1e-4
_RIDGE = 1e-6  # added to each list's product with itself: two lists may have one query


def single_bounds(similarities: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """(n,) bounds by each list alone, 1 where it proves nothing: good for choosing lists, not exact.

    `similarities` are those of the lists' queries to the new one, `radii` the lists' c.
    """
    # cos(arccos c - arccos s) = c s + sqrt((1 - c^2) (1 - s^2)), without the time that angles take
    radii = np.maximum(radii, -1)
    opposite = np.maximum(1 - radii * radii, 0) * np.maximum(1 - similarities * similarities, 0)
    bounds = radii * similarities + np.sqrt(opposite)
    return np.where(radii < similarities, np.minimum(bounds, 1), 1.0)


def bound_outside(
    query: np.ndarray, list_queries: np.ndarray, radii: np.ndarray, *, max_lists: int | None = None
) -> tuple[float, np.ndarray]:
    """The bound by several lists together, whatever rounding did, and the (n,) weights that give it.

    `query` (dimension,) and `list_queries` (n, dimension) float32, `radii` (n,). A list of weight 0 adds
    nothing; up to `max_lists` have another.
    """
    reach = radii.astype(np.float64) + _ROUNDING
    weights = _weights(
        list_queries, (list_queries @ query).astype(np.float64), reach, max_lists or len(reach)
    )
    # Whatever the weights are, this is a bound: only here does it matter how precisely is reckoned.
    used = np.flatnonzero(weights)
    rest = np.linalg.norm(query.astype(np.float64) - weights[used] @ list_queries[used].astype(np.float64))
    return float(rest * (1 + _UNIT_TOLERANCE) + weights[used] @ reach[used]) + _ROUNDING, weights


def _weights(
    list_queries: np.ndarray, similarities: np.ndarray, reach: np.ndarray, max_lists: int
) -> np.ndarray:
    """Weights w >= 0 that make |q - sum w a| + sum w c small, by the active set method.

    The most similar unit vector x with <ai, x> = ci for the lists of a set is known in closed form. If
    another list holds it, the one that holds it best joins the set; one whose weight comes out negative does
    not bind and leaves it.
    """
    active = [int(single_bounds(similarities, reach).argmin())]
    products = {active[0]: list_queries @ list_queries[active[0]]}  # (n,) each, by number
    weights = np.zeros(len(reach))
    for _ in range(2 * max_lists):
        gram = [[float(products[i][j]) for j in active] for i in active]
        found, rest = _most_similar_at(gram, similarities[active].tolist(), reach[active].tolist())
        if len(active) > 1 and min(found) < 0:
            del active[found.index(min(found))]
            continue
        weights[:] = 0
        weights[active] = np.maximum(found, 0)
        if len(active) == max_lists:
            break
        # x = (q - sum w a) / rest: how far inside each list is it?
        explained = sum(weights[i] * products[i] for i in active)
        inside = (similarities - explained) / rest - reach
        inside[active] = -np.inf
        worst = int(inside.argmax())
        if inside[worst] <= _ROUNDING:
            break
        active.append(worst)
        products[worst] = list_queries @ list_queries[worst]
    return weights


def _most_similar_at(gram: list[list[float]], b: list[float], c: list[float]) -> tuple[list[float], float]:
    """The weights of the lists of an active set, and the length of what they leave of the query.

    `gram` (n, n) has the products of the lists' queries. Numbers instead of arrays: n is 4 at most, and a
    call into a library takes longer than all of the arithmetic.
    """
    lower: list[list[float]] = []  # Cholesky's factor
    by_b: list[float] = []  # the solutions of lower x = b and lower x = c
    by_c: list[float] = []
    for i, row in enumerate(gram):
        own: list[float] = []
        for j in range(i):
            own.append((row[j] - _dot(own, lower[j])) / lower[j][j])
        own.append(math.sqrt(max(row[i] + _RIDGE - _dot(own, own), _RIDGE)))
        by_b.append((b[i] - _dot(own, by_b)) / own[i])
        by_c.append((c[i] - _dot(own, by_c)) / own[i])
        lower.append(own)
    rest = math.sqrt(max(1 - _dot(by_b, by_b), 1e-12) / max(1 - _dot(by_c, by_c), 1e-12))
    found = [x - rest * y for x, y in zip(by_b, by_c, strict=True)]
    for i in reversed(range(len(found))):  # lower' w = what is found so far
        later = sum(lower[j][i] * found[j] for j in range(i + 1, len(found)))
        found[i] = (found[i] - later) / lower[i][i]
    return found, rest


def _dot(one: list[float], other: list[float]) -> float:
    """Of as many as both have."""
    return sum(map(mul, one, other))
