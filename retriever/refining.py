"""From the best candidates to the hits: reranked, without copies, diverse.

Everything here is a function of the query, the candidates and their order alone. So an answer whose
candidates are proven to be those of the true search is the answer of the true search.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from retriever.diversity import find_copies, maximal_marginal_relevance
from retriever.reranking import Reranker, reranked_scores
from retriever.settings import RetrievalSettings
from retriever.stopwatch import Stopwatch
from retriever.types import Hit


class Shortlist(NamedTuple):
    """The best chunks of a ranking, best first."""

    hits: tuple[Hit, ...]
    vectors: np.ndarray  # (n, dimension) float32; (0, 0) where MMR is off


class Refined(NamedTuple):
    """The hits that were chosen, and what was done."""

    hits: tuple[Hit, ...]
    explanation: dict[str, Any]


def refine(
    settings: RetrievalSettings,
    reranker: Reranker | None,
    query: str,
    shortlist: Shortlist,
    k: int,
    *,
    watch: Stopwatch,
) -> Refined:
    """The k best hits of a shortlist, ranked from 1."""
    hits, explanation = list(shortlist.hits), {}
    if not hits or not settings.refines:
        return Refined(tuple(hits[:k]), explanation)
    order = np.arange(len(hits))  # of the shortlist
    if reranker is not None:
        with watch.stage("rerank"):
            old = np.array([hit.score for hit in hits])
            chunks = [hit.chunk for hit in hits]
            scores = reranked_scores(reranker, query, chunks, old, weight=settings.rerank_weight)
        order = np.argsort(-scores, kind="stable")
        hits = [replace(hit, score=float(score)) for hit, score in zip(hits, scores, strict=True)]
        explanation |= {"reranker": reranker.name, "reranked": len(hits)}
    with watch.stage("diversify"):
        if settings.duplicate_overlap is not None:
            order, explanation["suppressed"] = _without_copies(settings, hits, order, k)
        if settings.mmr_lambda < 1:
            relevance = np.array([hits[i].score for i in order])
            chosen = maximal_marginal_relevance(
                relevance, shortlist.vectors[order], k, trade_off=settings.mmr_lambda
            )
            order = order[chosen]
            explanation["mmr_lambda"] = settings.mmr_lambda
    best = order[:k].tolist()
    explanation["ranks_before"] = [hits[i].rank for i in best]
    return Refined(tuple(replace(hits[i], rank=rank) for rank, i in enumerate(best, start=1)), explanation)


def _without_copies(
    settings: RetrievalSettings, hits: list[Hit], order: np.ndarray, k: int
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The order without those that are copies of a better one, and which those were."""
    assert settings.duplicate_overlap is not None
    wanted = k if settings.mmr_lambda == 1 else None  # MMR chooses among all
    texts = [hits[i].chunk.text for i in order]
    copies = find_copies(texts, settings.duplicate_overlap, wanted=wanted)
    suppressed = [
        {
            "chunk_id": hits[order[copy.index]].chunk.id,
            "copy_of": hits[order[copy.of]].chunk.id,
            "overlap": round(copy.overlap, 3),
        }
        for copy in copies
    ]
    return np.delete(order, [copy.index for copy in copies]), suppressed
