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

import numpy as np

# How far the lengths of the chunks' vectors may be from 1: what the indexer lets pass.
_UNIT_TOLERANCE = 1e-3
# A sum of a few hundred float32 products of unit vectors, in whatever order, is off by less than this.
_ROUNDING = 1e-4


def single_bounds(similarities: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """(n,) bounds by each list alone, 1 where it proves nothing: good for choosing lists, not exact.

    `similarities` are those of the lists' queries to the new one, `radii` the lists' c.
    """
    angles = np.arccos(np.clip(similarities, -1, 1))
    return np.cos(np.maximum(np.arccos(np.clip(radii, -1, 1)) - angles, 0))


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
    active = [int(np.argmin(single_bounds(similarities, reach)))]
    products = {active[0]: list_queries @ list_queries[active[0]]}  # (n,) each, by number
    weights = np.zeros(len(reach))
    for _ in range(2 * max_lists):
        rows = np.stack([products[i] for i in active]).astype(np.float64)
        gram = rows[:, active] + 1e-6 * np.eye(len(active))  # two lists may have one query
        b, c = similarities[active], reach[active]
        by_b, by_c = np.linalg.solve(gram, np.stack([b, c], axis=1)).T
        rest = np.sqrt(max(1 - b @ by_b, 1e-12) / max(1 - c @ by_c, 1e-12))
        found = by_b - rest * by_c
        if len(active) > 1 and found.min() < 0:
            del active[int(found.argmin())]
            continue
        found = np.maximum(found, 0)
        weights = np.zeros(len(reach))
        weights[active] = found
        # x = (q - sum w a) / rest: how far inside each list is it?
        inside = (similarities - found @ rows) / rest - reach
        inside[active] = -np.inf
        worst = int(inside.argmax())
        if inside[worst] <= _ROUNDING or len(active) == max_lists:
            break
        active.append(worst)
        products[worst] = list_queries @ list_queries[worst]
    return weights
