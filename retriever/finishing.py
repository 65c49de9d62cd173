"""From shortlists to results: refined outside of the corpus's view, which others wait for, then expanded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from indexer.types import Filters
from retriever.corpus import Corpus, CorpusView, Version
from retriever.lists import Ranked
from retriever.passages import expand
from retriever.refining import Refined, Shortlist, refine
from retriever.reranking import Reranker
from retriever.settings import RetrievalSettings
from retriever.stopwatch import Stopwatch
from retriever.types import Hit


class Finished(NamedTuple):
    """A query's hits, and what was done to get from the ranking to them."""

    hits: tuple[Hit, ...]
    explanation: dict[str, Any]
    one_state: bool  # whether all of it is of the state of the corpus that the ranking is of


def shortlist(
    view: CorpusView, ranked: Ranked, count: int, settings: RetrievalSettings, filters: Filters | None
) -> Shortlist:
    """The first `count` chunks of a ranking, loaded."""
    numbers = ranked.chunks[:count]
    chunks, scores = view.chunks(numbers, filters=filters), ranked.scores[:count].tolist()
    hits = tuple(Hit(*found, rank) for rank, found in enumerate(zip(chunks, scores, strict=True), start=1))
    vectors = view.vectors(numbers)[1] if settings.mmr_lambda < 1 else np.zeros((0, 0), np.float32)
    return Shortlist(hits, vectors)


def finish(
    corpus: Corpus,
    settings: RetrievalSettings,
    reranker: Reranker | None,
    queries: Sequence[str],
    shortlists: Sequence[Shortlist],
    k: int,
    *,
    filters: Filters | None,
    version: Version,
    watch: Stopwatch,
) -> list[Finished]:
    """The k best hits of each query's shortlist, as passages where that is asked for."""
    refined = [
        refine(settings, reranker, query, candidates, k, watch=watch)
        for query, candidates in zip(queries, shortlists, strict=True)
    ]
    if not settings.expands:
        return [Finished(*one, one_state=True) for one in refined]
    with watch.stage("expand"), corpus.view() as view:
        one_state = view.version == version
        return [_expanded(view, one, settings, filters, one_state) for one in refined]


def _expanded(
    view: CorpusView, refined: Refined, settings: RetrievalSettings, filters: Filters | None, one_state: bool
) -> Finished:
    hits, longer = expand(view, refined.hits, settings, filters)
    return Finished(hits, refined.explanation | ({"expanded": longer} if longer else {}), one_state)
