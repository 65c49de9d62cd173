"""The search itself: two lists, one ranking, and more of both lists until the ranking is proven complete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from indexer.scoring import exact_scores
from retriever.background import Background
from retriever.cache_lists import Nearby
from retriever.corpus import CorpusView, TextHits
from retriever.fusion import FusionInput, rank
from retriever.lists import Candidates, DenseList, LexicalList, Ranked, TextMatch
from retriever.reread import reread
from retriever.settings import RetrievalSettings
from retriever.stopwatch import Stopwatch

_GROWTH = 4  # how much longer the lists get where a ranking could not be proven
_MAX_DEPTH = 4096  # beyond it only equal scores are left to tell apart: copies of one text by the thousand

_NOTHING_DENSE = DenseList(np.zeros(0, np.int64), np.zeros(0, np.float32), -np.inf, 0)
_NOTHING_LEXICAL = LexicalList(np.zeros(0, np.int64), np.zeros(0, np.float32), 0.0)


class Question(NamedTuple):
    """A query, ready to be searched for."""

    text: str
    vector: np.ndarray  # (dimension,) float32; empty where the ranking takes no dense list


class Found(NamedTuple):
    """A ranking, and the dense list that it was made of."""

    ranked: Ranked
    dense: DenseList
    proven: bool  # no chunk outside the candidates could be among the best; False if the index may miss one
    depth: int


class Searcher:
    """Searches one state of the corpus for several questions at once."""

    def __init__(
        self,
        view: CorpusView,
        settings: RetrievalSettings,
        background: Background,
        *,
        k: int,
        allowed: np.ndarray | None,
        watch: Stopwatch,
    ) -> None:
        self._view = view
        self._settings = settings
        self._background = background
        self._allowed = allowed
        self._watch = watch
        self.count = view.count(allowed)
        self.k = min(k, self.count)  # as many hits as there can be
        self._depth = max(settings.depth, self.k)

    def match(self, questions: Sequence[Question], *, depth: int | None = None) -> list[TextMatch | None]:
        """What BM25 finds for each question, in one pass; None where the ranking does not ask for it."""
        if self._settings.ranking == "dense" or not questions:
            return [None] * len(questions)
        depth = depth or self._depth
        with self._watch.stage("lexical"):
            found = self._view.match([question.text for question in questions], depth, allowed=self._allowed)
            return [TextMatch(hits, self._listed(hits, depth)) for hits in found]

    def rank(self, question: Question, dense: DenseList, match: TextMatch | None) -> Ranked:
        """The ranking that the two lists make."""
        with self._watch.stage("fuse"):
            return rank(self._settings, self.fusion_input(question, dense, match))

    def fusion_input(self, question: Question, dense: DenseList, match: TextMatch | None) -> FusionInput:
        """Both lists, and every chunk of either with both its scores."""
        lexical = match.best if match is not None else _NOTHING_LEXICAL
        candidates = self._candidates(question, dense, lexical, match)
        return FusionInput(question.vector, self._depth, self._background, dense, lexical, candidates)

    def reread(self, nearby: Nearby, vector: np.ndarray) -> DenseList:
        """Past queries' lists, read for a question with this vector."""
        return reread(self._view, nearby, vector, depth=self._depth, allowed=self._allowed)

    def is_proven(self, ranked: Ranked) -> bool:
        """Whether the k best are the k best of all chunks."""
        return ranked.num_certain >= self.k

    def search(
        self, questions: Sequence[Question], matches: Sequence[TextMatch | None], *, keep: int = 0
    ) -> list[Found]:
        """The true search, as one batch; each dense list is at least `keep` long, if there are so many
        chunks."""
        depths = dict.fromkeys(range(len(questions)), self._depth)
        found: dict[int, Found] = {}
        lists: dict[int, DenseList] = {}
        matches = list(matches)
        while depths:
            self._lengthen(lists, questions, depths, keep)
            for i, depth in list(depths.items()):
                ranked = self.rank(questions[i], lists[i].first(depth), matches[i])
                proven = self.is_proven(ranked)
                if proven or depth >= min(self.count, _MAX_DEPTH):
                    proven = proven and self._view.is_exact
                    found[i] = Found(ranked, self._for_keeping(lists[i], keep), proven, depth)
                    del depths[i]
                else:
                    depths[i] = min(depth * _GROWTH, self.count)
            if depths:
                deeper = self.match([questions[i] for i in depths], depth=max(depths.values()))
                for i, match in zip(depths, deeper, strict=True):
                    matches[i] = match
        return [found[i] for i in range(len(questions))]

    def _lengthen(
        self, lists: dict[int, DenseList], questions: Sequence[Question], depths: dict[int, int], keep: int
    ) -> None:
        """Brings the dense lists to their depths, all that are too short in one search."""
        if self._settings.ranking == "lexical":
            lists.update(dict.fromkeys(depths, _NOTHING_DENSE))
            return
        short = [i for i, depth in depths.items() if i not in lists or len(lists[i].chunks) < depth]
        if not short:
            return
        length = min(max(keep, *(depths[i] for i in short)), self.count)
        with self._watch.stage("dense"):
            vectors = np.stack([questions[i].vector for i in short])
            nearest = self._view.nearest(vectors, max(length, 1), allowed=self._allowed)
        for i, (numbers, scores) in zip(short, nearest, strict=True):
            bound = float(scores[-1]) if len(numbers) < self.count else -np.inf
            lists[i] = DenseList(numbers, scores, bound, len(numbers))

    def _for_keeping(self, dense: DenseList, keep: int) -> DenseList:
        """The list as others may draw conclusions from it: of what an index may have missed nothing is known.

        While a ranking is made, such an index's list counts as complete: there is no better one to be had.
        """
        if self._view.is_exact:
            return dense
        return dense.first(max(keep, 1))._replace(bound=np.inf, num_certain=0)

    def _listed(self, hits: TextHits, depth: int) -> LexicalList:
        order = np.lexsort((self._view.ids(hits.chunks), -hits.scores))[:depth]
        bound = float(hits.scores[-1]) if len(hits.chunks) >= depth else 0.0
        return LexicalList(hits.chunks[order], hits.scores[order], bound)

    def _candidates(
        self, question: Question, dense: DenseList, lexical: LexicalList, match: TextMatch | None
    ) -> Candidates:
        """Every chunk of either list with both its scores."""
        chunks = np.union1d(dense.chunks, lexical.chunks)
        by_text = match.hits.scores_of(chunks) if match is not None else np.zeros(len(chunks), np.float32)
        similarities = np.zeros(len(chunks), np.float32)
        similarities[np.searchsorted(chunks, dense.chunks)] = dense.scores
        unknown = ~np.isin(chunks, dense.chunks)
        if self._settings.ranking == "pool" and unknown.any():
            _, vectors = self._view.vectors(chunks[unknown])
            similarities[unknown] = exact_scores(vectors, question.vector)
        return Candidates(chunks, self._view.ids(chunks), similarities, by_text)
