"""The lists of past queries, read for a new query."""

from __future__ import annotations

import numpy as np

from indexer.scoring import exact_scores
from retriever.cache_lists import Nearby
from retriever.corpus import CorpusView
from retriever.lists import DenseList

# Chunks this close to a cut by plain products are scored exactly before they are cut off.
_ROUNDING = 1e-4


def reread(
    view: CorpusView, nearby: Nearby, query: np.ndarray, *, depth: int, allowed: np.ndarray | None
) -> DenseList:
    """The up to `depth` chunks of the lists that are the most similar to another query, with their scores.

    With a certificate: those above its bound, which are certainly the most similar of all chunks. Without one
    (the bound is infinite): the best there are, none of them certain.
    """
    certified = nearby.bound < np.inf
    floor = nearby.bound if certified else -np.inf
    numbers = nearby.chunks
    if allowed is not None:  # a chunk may have got other paths since
        numbers = np.intersect1d(numbers, allowed)
    numbers, vectors = view.vectors(numbers)
    rough = vectors @ query
    worth = np.flatnonzero(rough > floor - _ROUNDING)
    more = len(worth) > depth  # than are wanted
    if more:
        cut = np.partition(rough[worth], -depth)[-depth]
        worth = worth[rough[worth] >= cut - _ROUNDING]
    numbers, scores = numbers[worth], exact_scores(vectors[worth], query)
    order = np.lexsort((view.ids(numbers), -scores))[:depth]
    if not certified:  # also chunks on none of the lists may be as similar as any
        return DenseList(numbers[order], scores[order], np.inf, 0)
    order = order[scores[order] > floor]
    bound = float(scores[order[-1]]) if more and len(order) else floor
    return DenseList(numbers[order], scores[order], bound, len(order))
