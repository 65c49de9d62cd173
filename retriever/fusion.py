"""One ranking out of two lists.

"pool" reads each list as an opinion on how probable it is that a chunk is what was asked for, and takes the
mean of the two opinions (a linear opinion pool: Stone, "The opinion pool", 1961):

    dense     p(x) = 1 / (1 + exp(-(z(x) - midpoint) / scale))
    lexical   p(x) = exp(b(x) / scale) / (exp(floor / scale) + sum of exp(b(y) / scale))

with z as in background.py, b the BM25 score, and the sum over the best `depth` chunks y; p is 0 for a chunk
without any term of the query. So a list speaks up where it is sure: a chunk that stands out from the corpus,
a BM25 score that leaves the others behind. A list that cannot tell says nearly the same of all, and the other
one decides. Ranks cannot say any of that, which is why reciprocal rank fusion drags the better list down to
the worse one; measured in docs/retrieval.md.

Both opinions rise with their score, so a bound on the scores of the chunks that were never looked at is a
bound on their fused score. That is what proves a ranking complete, and what the cache's certificates are
made of.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from retriever.background import Background
from retriever.lists import Candidates, DenseList, LexicalList, Ranked
from retriever.settings import RetrievalSettings

# Two fused scores closer than this may be the same number, summed in another order.
SCORE_ROUNDING = 1e-9


class FusionInput(NamedTuple):
    """All that is known about one query."""

    query: np.ndarray  # (dimension,) float32; empty where ranking is "lexical"
    depth: int  # how far down ranks count: the setting, or k if that is more
    background: Background
    dense: DenseList
    lexical: LexicalList
    candidates: Candidates


def rank(settings: RetrievalSettings, given: FusionInput) -> Ranked:
    """The candidates by fused score, and how many of the first no other chunk can displace."""
    chunks, ids, dense, lexical = given.candidates
    match settings.ranking:
        case "pool":
            scores = _pool(settings, given, dense, lexical)
        case "rrf":
            scores = _reciprocal_ranks(settings, given)
        case "dense":
            scores = dense
        case "lexical":
            scores = lexical
    order = np.lexsort((ids, -scores))
    scores = scores[order].astype(np.float64)
    return Ranked(chunks[order], scores, _num_certain(settings, given, scores))


def _num_certain(settings: RetrievalSettings, given: FusionInput, scores: np.ndarray) -> float:
    """How many of the best (n,) scores no chunk outside the candidates can reach."""
    dense, lexical = given.dense, given.lexical
    match settings.ranking:
        case "pool":
            if dense.bound == -np.inf:
                return np.inf
            bound = _pool(settings, given, np.array([dense.bound]), np.array([lexical.bound]))[0]
            return int(np.count_nonzero(scores > bound + SCORE_ROUNDING))
        case "rrf":  # certain if the ranks are
            return len(scores) if dense.num_certain >= given.depth or dense.bound == -np.inf else 0
        case "dense":
            return dense.num_certain if dense.bound > -np.inf else np.inf
        case "lexical":
            return len(lexical.chunks) if lexical.bound > 0 else np.inf


def needed_similarity(settings: RetrievalSettings, given: FusionInput, score: float) -> float:
    """The similarity that a chunk outside the candidates needs for a fused score; infinite if none is
    enough."""
    match settings.ranking:
        case "pool":
            by_lexical = _shares(
                np.array([given.lexical.bound]), given.lexical.scores[: settings.depth], settings
            )
            weight = settings.dense_weight
            by_dense = (score - (1 - weight) * by_lexical[0]) / weight if weight else np.inf
            if by_dense >= 1:
                return np.inf
            if by_dense <= 0:
                return -np.inf
            z = settings.dense_midpoint + settings.dense_scale * np.log(by_dense / (1 - by_dense))
            at_0, at_1 = given.background.standardise(given.query, np.array([0, 1]))
            return float((z - at_0) / (at_1 - at_0))
        case "rrf":  # whatever gets on the list
            return float(given.dense.scores[-1]) if len(given.dense.scores) else -np.inf
        case "dense":
            return score
        case "lexical":
            return np.inf


def _pool(
    settings: RetrievalSettings, given: FusionInput, dense: np.ndarray, lexical: np.ndarray
) -> np.ndarray:
    """(n,) float64 fused scores of chunks with these dense and lexical scores."""
    z = given.background.standardise(given.query, dense)
    by_dense = _logistic((z - settings.dense_midpoint) / settings.dense_scale)
    by_lexical = _shares(lexical, given.lexical.scores[: settings.depth], settings)
    return settings.dense_weight * by_dense + (1 - settings.dense_weight) * by_lexical


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -500, 500)))


def _shares(scores: np.ndarray, best: np.ndarray, settings: RetrievalSettings) -> np.ndarray:
    """Each BM25 score's share among the best ones and the floor; 0 for a score of 0."""
    scores, best = scores.astype(np.float64), best.astype(np.float64)
    top = max(float(best[0]) if len(best) else 0.0, settings.lexical_floor)  # keeps exp() in range
    total = np.exp((best - top) / settings.lexical_scale).sum()
    total += np.exp((settings.lexical_floor - top) / settings.lexical_scale)
    return np.where(scores > 0, np.exp((scores - top) / settings.lexical_scale) / total, 0.0)


def _reciprocal_ranks(settings: RetrievalSettings, given: FusionInput) -> np.ndarray:
    """score(x) = w / (c + rank in the dense list) + (1 - w) / (c + rank in the lexical list), each to
    `depth`.

    Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet", SIGIR 2009.
    """
    scores = np.zeros(len(given.candidates.chunks))
    weights = (settings.dense_weight, 1 - settings.dense_weight)
    for weight, listed in zip(weights, (given.dense.chunks, given.lexical.chunks), strict=True):
        listed = listed[: given.depth]
        at = np.searchsorted(given.candidates.chunks, listed)
        scores[at] += weight / (settings.rrf_constant + 1 + np.arange(len(listed)))
    return scores
