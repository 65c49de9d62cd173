"""Answers that past queries suggest without proving them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from retriever.cache import RetrievalCache
from retriever.cache_calibration import Decision
from retriever.cache_keys import CalibrationKey, Space
from retriever.cache_lists import Nearby
from retriever.corpus import CorpusView
from retriever.fusion import needed_similarity, rank
from retriever.lists import Ranked, TextMatch
from retriever.search import Question, Searcher
from retriever.settings import RetrievalSettings

_READ_SHARE = 8


class Suggestion(NamedTuple):
    """A ranking made of past queries' lists, scored with the new query, and what is to become of it."""

    ranked: Ranked
    nearby: Nearby
    key: CalibrationKey
    decision: Decision

    def recall(self, true: Ranked) -> float:
        """The share of the k best of the true search that are among its k best."""
        best = true.chunks[: self.key.k]
        return float(np.isin(best, self.ranked.chunks[: self.key.k]).mean()) if len(best) else 1.0


def suggest(
    cache: RetrievalCache,
    view: CorpusView,
    space: Space,
    settings: RetrievalSettings,
    searcher: Searcher,
    question: Question,
    match: TextMatch | None,
) -> Suggestion | None:
    """What past queries suggest, if any are similar enough and have candidates enough."""
    limit = searcher.count // _READ_SHARE
    nearby = cache.similar(view, space, question.text, question.vector, max_chunks=limit)
    if nearby is None or not searcher.k:
        return None
    dense = searcher.reread(nearby, question.vector)
    if len(dense.chunks) < searcher.k:
        return None
    given = searcher.fusion_input(question, dense, match)
    ranked = rank(settings, given)
    needed = needed_similarity(settings, given, float(ranked.scores[searcher.k - 1]))
    key = CalibrationKey(space.embedder, searcher.k, settings)
    decision = cache.decide(key, space, nearby, alignment=nearby.alignment(needed))
    return Suggestion(ranked, nearby, key, decision)


def explanation(cache: RetrievalCache, suggestion: Suggestion) -> dict[str, Any]:
    """What an approximate hit rests on. The bound is that of the audits: of the answers, not of this one."""
    decision, audit = suggestion.decision, cache.audit(suggestion.key)
    return {
        "lists": len(suggestion.nearby.texts),
        "alignment": round(decision.alignment, 4),
        "alignment_threshold": round(decision.threshold, 4),
        "probability_wrong": round(decision.probability_wrong, 5),
        "max_false_hit_rate": cache.max_false_hit_rate,
        "audited": audit.num_audited,
        "audited_false_hit_rate": round(audit.false_hit_rate, 5),
        "audited_upper_bound": round(audit.upper_bound, 5),
    }
