"""From questions to chunks: exact cache hit, or embed; certified hit, or search; fuse; load."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import EllipsisType, MappingProxyType
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from indexer.types import Filters
from retriever.approximate import Suggestion, explanation, suggest
from retriever.background import SAMPLE_SIZE, Background
from retriever.blas_threads import quiet_numpy_threads
from retriever.cache import RetrievalCache
from retriever.cache_audit import BackgroundAudits
from retriever.cache_file import load, save
from retriever.cache_keys import ExactKey, ListKey, Space, VectorKey
from retriever.cache_lists import Nearby
from retriever.corpus import Corpus, CorpusView, Version
from retriever.disfluency import repair_disfluencies
from retriever.errors import InvalidK
from retriever.finishing import finish, shortlist
from retriever.lists import Ranked, TextMatch
from retriever.pictures import ImageQueryEmbedder, PictureSearch
from retriever.query_text import normalise_query
from retriever.reranking import Reranker
from retriever.search import Question, Searcher
from retriever.settings import RetrievalSettings
from retriever.stopwatch import Stopwatch
from retriever.types import Hit, SearchResult, Tier

# Reading lists costs what searching as many vectors costs: past this part of the corpus it does not pay.
_READ_SHARE = 4


class QueryEmbedder(Protocol):
    """What retrieval needs of an embedder; indexer.embedding.Embedder has it."""

    fingerprint: str

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dimension) float32 unit rows."""
        ...


class _Answer(NamedTuple):
    """A ranking, with where it came from."""

    ranked: Ranked
    tier: Tier
    explanation: dict[str, Any]


class _Run(NamedTuple):
    """What the questions of one batch share."""

    view: CorpusView
    searcher: Searcher
    space: Space
    cache: RetrievalCache | None
    watch: Stopwatch


class Retriever:
    """Searches an index by meaning and by words. Safe to share between threads.

    Without a `cache` argument it makes itself a RetrievalCache; None goes without. The cache is filled from
    `cache_file` if there is one, and saved there by `close`. With a `reranker` the best
    `settings.rerank_depth` chunks are put in its order. With an `image_embedder`, the one that the index was
    made with, pictures are also found by what they show.

    Making one sets NumPy's OpenBLAS to one thread in the whole process: see blas_threads.py.
    """

    def __init__(
        self,
        index: Corpus,
        embedder: QueryEmbedder,
        *,
        settings: RetrievalSettings | None = None,
        cache: RetrievalCache | EllipsisType | None = ...,
        cache_file: Path | None = None,
        reranker: Reranker | None = None,
        image_embedder: ImageQueryEmbedder | None = None,
    ) -> None:
        quiet_numpy_threads()
        self.index = index
        self.embedder = embedder
        self.reranker = reranker
        self.settings = replace(
            settings or RetrievalSettings(),
            reranker=reranker.fingerprint if reranker is not None else "",
            image_embedder=image_embedder.fingerprint if image_embedder is not None else "",
        )
        self._pictures = PictureSearch(image_embedder, self.settings) if image_embedder is not None else None
        self.cache = RetrievalCache() if isinstance(cache, EllipsisType) else cache
        self._background: tuple[Version, Background] | None = None
        self._background_lock = threading.Lock()
        self._audits = BackgroundAudits()
        self._num_audits_owed = 0  # that could not be made: the next ones are made on the spot
        self._audit_lock = threading.Lock()
        self._cache_file = cache_file
        if cache_file is not None and self.cache is not None:
            load(self.cache, cache_file, index, embedder=embedder.fingerprint)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends what runs in the background, and saves the cache if it has a file and has changed.

        Searching afterwards still works; closing twice does nothing.
        """
        self._audits.close()
        if self._cache_file is not None and self.cache is not None:
            save(self.cache, self._cache_file)

    def search(
        self, query: str, *, k: int = 5, filters: Filters | None = None, use_cache: bool = True
    ) -> SearchResult:
        """The k best chunks for a query, or all there are. `use_cache=False` always runs the true search.

        Raises EmptyQuery, QueryTooLong and InvalidK.
        """
        return self.search_batch([query], k=k, filters=filters, use_cache=use_cache)[0]

    def search_batch(
        self,
        queries: Sequence[str],
        *,
        k: int = 5,
        filters: Filters | None = None,
        use_cache: bool = True,
    ) -> list[SearchResult]:
        """`search` for many queries: one embedding pass, one search of the vectors, one pass over the
        postings."""
        self.check_k(k)
        texts = [self.normalise(query) for query in queries]
        cache = self.cache if use_cache else None
        space = Space(self.embedder.fingerprint, filters)
        results: dict[str, SearchResult] = {}
        if cache is not None:
            version = self.index.refreshed_version()
            cache.see(version)
            for text in texts:
                watch = Stopwatch()
                hits = cache.exact(ExactKey(space, text, k, self.settings), version)
                if hits is not None:
                    results[text] = self._result(text, hits, "exact", watch.shares(1), {})
        todo = [text for text in dict.fromkeys(texts) if text not in results]
        if todo:
            results |= dict(zip(todo, self._retrieve(todo, k, space, cache), strict=True))
        if cache is not None:
            for text in texts:
                cache.count(results[text].tier)
        return [results[text] for text in texts]

    def read_ahead(self, query: str, max_bytes: int, *, stopped: Callable[[], bool]) -> int:
        """Reads vectors near a query from disk into memory, for a search like it that is to come.

        The nearest first, up to so many bytes and until `stopped`; returns how many, 0 where there are none
        on disk. Nothing that is found depends on it. Raises what `normalise` raises.
        """
        text = self.normalise(query)
        with self.index.view() as view:
            if view.is_exact or self.settings.ranking == "lexical":
                return 0
        [question] = self._embed([text], Space(self.embedder.fingerprint, None), self.cache)
        with self.index.view() as view:
            stored = view.stored_near(question.vector, max_bytes)
        return stored.read_ahead(stopped=stopped) if stored is not None else 0

    def normalise(self, query: str) -> str:
        """The query as it is searched for. Raises EmptyQuery and QueryTooLong."""
        text = normalise_query(query, max_chars=self.settings.max_query_chars)
        return repair_disfluencies(text) if self.settings.repair_disfluencies else text

    def check_k(self, k: int) -> None:
        """Raises InvalidK unless k is a positive whole number."""
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise InvalidK(f"k is {k!r}.", hint="Use a whole number from 1.")

    # --- inside

    def _retrieve(
        self, texts: Sequence[str], k: int, space: Space, cache: RetrievalCache | None
    ) -> list[SearchResult]:
        watch = Stopwatch()
        with watch.stage("embed"):
            questions = self._embed(texts, space, cache)
        sights: np.ndarray | None = None
        if self._pictures is not None and self._pictures.had_any:  # not in the view, which others wait for
            sights = self._pictures.embed(texts, cache, watch)
        with self.index.view() as view:
            allowed, background = view.matching(space.filters), self._background_of(view)
            # What is proven or calibrated is proven or calibrated for all candidates: what comes after the
            # ranking is a function of them.
            count = self.settings.num_candidates(k)
            searcher = Searcher(view, self.settings, background, k=count, allowed=allowed, watch=watch)
            dense_cache = cache if self.settings.ranking != "lexical" else None
            run = _Run(view, searcher, space, dense_cache, watch)
            answers = self._answers(run, questions)
            if self._pictures is not None and self._pictures.has_any(view):
                sights = self._pictures.embed(texts, cache, watch) if sights is None else sights
                answers = _with_pictures(self._pictures, run, answers, sights, allowed)
            with watch.stage("load"):
                shortlists = [
                    shortlist(view, answer.ranked, searcher.k, self.settings, space.filters)
                    for answer in answers
                ]
            version = view.version
        finished = finish(
            self.index,
            self.settings,
            self.reranker,
            texts,
            shortlists,
            k,
            filters=space.filters,
            version=version,
            watch=watch,
        )
        timings = watch.shares(len(texts))
        results = []
        for text, answer, (hits, done, one_state) in zip(texts, answers, finished, strict=True):
            if cache is not None and answer.tier != "approximate" and one_state:
                key = ExactKey(space, text, k, self.settings)
                cache.keep_hits(key, version, hits, seconds=timings["total"])
            results.append(self._result(text, hits, answer.tier, timings, answer.explanation | done))
        return results

    def _embed(self, texts: Sequence[str], space: Space, cache: RetrievalCache | None) -> list[Question]:
        """The questions with their vectors, in one pass over those that have none yet."""
        if self.settings.ranking == "lexical":
            return [Question(text, np.zeros(0, np.float32)) for text in texts]
        keys = {text: VectorKey(space.embedder, text) for text in texts}
        vectors: dict[str, np.ndarray] = {}
        if cache is not None:
            known = {text: cache.vector(key) for text, key in keys.items()}
            vectors = {text: vector for text, vector in known.items() if vector is not None}
        new = [text for text in texts if text not in vectors]
        if new:
            started = time.perf_counter()
            vectors |= dict(zip(new, self.embedder.embed_queries(new), strict=True))
            if cache is not None:
                seconds = (time.perf_counter() - started) / len(new)
                for text in new:
                    cache.keep_vector(keys[text], vectors[text], seconds=seconds)
        return [Question(text, vectors[text]) for text in texts]

    def _answers(self, run: _Run, questions: Sequence[Question]) -> list[_Answer]:
        """Each question's ranking, from the cheapest source that has it."""
        matches = run.searcher.match(questions)
        answers: dict[int, _Answer] = {}
        suggestions: dict[int, Suggestion] = {}  # that are not served
        if run.cache is not None:
            for i, (question, match) in enumerate(zip(questions, matches, strict=True)):
                answer = _proven(run, run.cache, question, match)
                # Its share of wrong answers is learnt from text alone, so it says nothing of pictures.
                if answer is None and self._pictures is None:
                    with run.watch.stage("cache"):
                        suggestion = suggest(
                            run.cache, run.view, run.space, self.settings, run.searcher, question, match
                        )
                    if suggestion is not None and self._may_serve(run, question, suggestion):
                        why = _origin(suggestion.nearby) | explanation(run.cache, suggestion)
                        answer = _Answer(suggestion.ranked, "approximate", why)
                    elif suggestion is not None:
                        suggestions[i] = suggestion
                if answer is not None:
                    answers[i] = answer
        rest = [i for i in range(len(questions)) if i not in answers]
        if rest:
            keep = run.cache.candidates if run.cache is not None else 0
            found = run.searcher.search([questions[i] for i in rest], [matches[i] for i in rest], keep=keep)
            seconds = run.watch.seconds("dense") / len(rest)
            for i, one in zip(rest, found, strict=True):
                answers[i] = _Answer(one.ranked, "miss", {"proven": one.proven, "depth": one.depth})
                if run.cache is not None:
                    key = ListKey(run.space, questions[i].text)
                    run.cache.keep_list(run.view, key, questions[i].vector, one.dense, seconds=seconds)
                    if i in suggestions:
                        _learn(run.cache, suggestions[i], one.ranked)
        return [answers[i] for i in range(len(questions))]

    def _may_serve(self, run: _Run, question: Question, suggestion: Suggestion) -> bool:
        """Whether an answer without proof is served; one to be audited only if its audit will be made."""
        decision = suggestion.decision
        if not decision.audit:
            return decision.serve
        with self._audit_lock:
            if self._num_audits_owed:
                self._num_audits_owed -= 1
                return False  # the true search that it goes through now is the audit
        space, version = run.space, run.view.version
        return self._audits.submit(lambda: self._audit(question, space, version, suggestion))

    def _audit(self, question: Question, space: Space, version: Version, suggestion: Suggestion) -> None:
        """Compares an answer that was served with the true search; if that fails, it is owed."""
        is_done = False
        try:
            is_done = self._compare(question, space, version, suggestion)
        finally:
            if not is_done:
                with self._audit_lock:
                    self._num_audits_owed += 1

    def _compare(self, question: Question, space: Space, version: Version, suggestion: Suggestion) -> bool:
        """Whether an answer could be compared: the corpus has not changed since."""
        with self.index.view() as view:
            if view.version != version or self.cache is None:
                return False
            allowed, background = view.matching(space.filters), self._background_of(view)
            searcher = Searcher(
                view, self.settings, background, k=suggestion.key.k, allowed=allowed, watch=Stopwatch()
            )
            (found,) = searcher.search([question], searcher.match([question]))
        _learn(self.cache, suggestion, found.ranked)
        return True

    def _background_of(self, view: CorpusView) -> Background:
        """The yardstick for similarities in this state of the corpus; the last one is kept."""
        with self._background_lock:
            if self._background is None or self._background[0] != view.version:
                self._background = view.version, Background(view.sample(SAMPLE_SIZE))
            return self._background[1]

    def _result(
        self,
        text: str,
        hits: tuple[Hit, ...],
        tier: Tier,
        timings: dict[str, float],
        explanation: dict[str, Any],
    ) -> SearchResult:
        searched_for = {"searched_for": text} if self.settings.repair_disfluencies else {}
        explanation = {"ranking": self.settings.ranking, **searched_for, **explanation}
        return SearchResult(hits, tier, MappingProxyType(timings), MappingProxyType(explanation))


def _proven(run: _Run, cache: RetrievalCache, question: Question, match: TextMatch | None) -> _Answer | None:
    """The ranking that past queries prove."""
    vector, searcher = question.vector, run.searcher
    with run.watch.stage("cache"):
        nearby = cache.certified(
            run.view, run.space, vector, k=searcher.k, max_chunks=searcher.count // _READ_SHARE
        )
        dense = searcher.reread(nearby, vector) if nearby is not None else None
    if nearby is not None and dense is not None:
        ranked = searcher.rank(question, dense, match)
        if searcher.is_proven(ranked):
            return _Answer(ranked, "certified", _origin(nearby) | _proof(nearby))
    return None


def _with_pictures(
    pictures: PictureSearch,
    run: _Run,
    answers: Sequence[_Answer],
    sights: np.ndarray,
    allowed: np.ndarray | None,
) -> list[_Answer]:
    """The answers with the pictures that show what was asked for; `sights` are (n, dimension) vectors."""
    merged = []
    with run.watch.stage("pictures"):
        for answer, sight in zip(answers, sights, strict=True):
            k, by_text = run.searcher.k, answer.ranked
            ranked = pictures.merged(run.view, by_text, sight, k=k, allowed=allowed)
            added = int(np.count_nonzero(~np.isin(ranked.chunks, by_text.chunks[:k])))
            merged.append(
                answer._replace(ranked=ranked, explanation=answer.explanation | {"by_picture": added})
            )
    return merged


def _learn(cache: RetrievalCache, suggestion: Suggestion, true: Ranked) -> None:
    cache.learn(suggestion.key, suggestion.nearby, suggestion.decision, recall=suggestion.recall(true))


def _origin(nearby: Nearby) -> dict[str, Any]:
    return {"similarity": round(nearby.similarity, 6), "similar_query": nearby.text}


def _proof(nearby: Nearby) -> dict[str, Any]:
    complete = nearby.bound == -np.inf  # the list holds every chunk; and infinities are not JSON
    return {"bound": None if complete else round(nearby.bound, 6), "lists": len(nearby.texts)}
