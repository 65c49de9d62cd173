"""A corpus of vectors and words in arrays, and every answer about it by looking at every chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from indexer.scoring import exact_scores
from indexer.types import Chunk, Filters
from retriever.background import SAMPLE_SIZE, Background
from retriever.fusion import FusionInput, rank
from retriever.lists import Candidates, DenseList, LexicalList
from retriever.settings import RetrievalSettings

NUM_WORDS = 12
_KINDS = ("text", "code")
DOCUMENTS = ("a", "b", "c")


class Version(NamedTuple):
    generation: int
    token: str


class WordHits:
    """Scores by the words that a chunk shares with a query. Whole quarters: many tie, and none is rounded."""

    def __init__(self, words: np.ndarray, query: str, k: int, numbers: np.ndarray) -> None:
        self._words = words
        self._terms = [int(word[1:]) for word in query.split() if word[0] == "w"]
        scores = self.scores_of(numbers)
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] > 0]
        if len(order) > k:
            order = order[scores[order] >= scores[order[k - 1]]]
        self.chunks, self.scores = numbers[order], scores[order]

    def scores_of(self, chunks: np.ndarray) -> np.ndarray:
        return self._words[np.ix_(chunks, self._terms)].sum(axis=1).astype(np.float32) / 4


class ArrayCorpus:
    """Implements retriever.corpus.Corpus, and its own view, for one thread. Every change is a commit."""

    is_exact = True

    def __init__(self, dimension: int, capacity: int, rng: np.random.Generator) -> None:
        self._rng = rng
        self._matrix = np.zeros((capacity, dimension), np.float32)
        self._words = np.zeros((capacity, NUM_WORDS), np.int64)
        self._documents = np.zeros(capacity, np.int64)
        self._kinds = np.zeros(capacity, np.int64)
        self._alive = np.zeros(capacity, bool)
        self._born = np.zeros(capacity, np.int64)  # generation
        # No order of numbers: ties are settled by id.
        self._ids = np.array([f"{i:032d}" for i in rng.permutation(capacity)], "S32")
        self._chunks: dict[int, Chunk] = {}
        self._numbers = np.zeros(0, np.int64)  # of the chunks that there are
        self._count = 0  # numbers given so far
        self._remembered = 0  # generations before this one are no longer known
        self._background: tuple[int, Background] | None = None  # with the generation that it is of
        self.version = Version(1, f"{rng.integers(1 << 62)}")

    # --- what changes

    @property
    def numbers(self) -> np.ndarray:
        """(n,) int64 of the chunks that there are."""
        return self._numbers

    @property
    def room(self) -> int:
        """How many chunks can still come."""
        return len(self._alive) - self._count

    def add(self, vectors: np.ndarray) -> np.ndarray:
        """Chunks with these vectors and any words; their numbers."""
        numbers = np.arange(self._count, self._count + len(vectors))
        self._count += len(vectors)
        self._commit()
        self._matrix[numbers] = vectors
        self._words[numbers] = self._rng.choice(
            [0, 6, 11, 20], (len(vectors), NUM_WORDS), p=[0.7, 0.1, 0.1, 0.1]
        )
        self._documents[numbers] = self._rng.integers(len(DOCUMENTS), size=len(vectors))
        self._kinds[numbers] = self._rng.integers(len(_KINDS), size=len(vectors))
        self._born[numbers] = self.version.generation
        self._alive[numbers] = True
        self._numbers = np.flatnonzero(self._alive)
        return numbers

    def remove(self, numbers: np.ndarray) -> None:
        self._commit()
        self._alive[numbers] = False
        self._numbers = np.flatnonzero(self._alive)

    def move(self, number: int) -> None:
        """To another document, as when a file is renamed."""
        self._commit()
        self._documents[number] = (self._documents[number] + 1) % len(DOCUMENTS)
        self._born[number] = self.version.generation
        self._chunks.pop(number, None)

    def forget_changes(self) -> None:
        """From now on nobody can be told what came before this state."""
        self._remembered = self.version.generation

    def _commit(self) -> None:
        self.version = Version(self.version.generation + 1, self.version.token)

    # --- what retrieval asks

    def refreshed_version(self) -> Version:
        return self.version

    @contextmanager
    def view(self) -> Iterator[ArrayCorpus]:
        yield self

    def matching(self, filters: Filters | None) -> np.ndarray | None:
        if filters is None:
            return None
        numbers = self._numbers
        if filters.document_ids is not None:
            wanted = [i for i, name in enumerate(DOCUMENTS) if name in filters.document_ids]
            numbers = numbers[np.isin(self._documents[numbers], wanted)]
        if filters.kinds is not None:
            wanted = [i for i, name in enumerate(_KINDS) if name in filters.kinds]
            numbers = numbers[np.isin(self._kinds[numbers], wanted)]
        return numbers

    def count(self, allowed: np.ndarray | None) -> int:
        return len(self._numbers if allowed is None else allowed)

    def nearest(
        self, vectors: np.ndarray, k: int, *, allowed: np.ndarray | None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        numbers = self._numbers if allowed is None else allowed
        rows, ids = self._matrix[numbers], self._ids[numbers]
        found = []
        for vector in vectors:
            scores = exact_scores(rows, vector)
            some = np.arange(len(scores))
            if k < len(scores):
                some = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
            order = some[np.lexsort((ids[some], -scores[some]))[:k]]
            found.append((numbers[order], scores[order]))
        return found

    def match(self, queries: Sequence[str], k: int, *, allowed: np.ndarray | None) -> list[WordHits]:
        numbers = self._numbers if allowed is None else allowed
        return [WordHits(self._words, query, k, numbers) for query in queries]

    def vectors(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        numbers = numbers[self._alive[numbers]]
        return numbers, self._matrix[numbers]

    def ids(self, numbers: np.ndarray) -> np.ndarray:
        return self._ids[numbers]

    def chunks(self, numbers: np.ndarray, *, filters: Filters | None = None) -> list[Chunk]:
        return [self._chunk(number) for number in numbers.tolist()]

    def sample(self, size: int) -> np.ndarray:
        return self._matrix[self._numbers[:size]]

    def added_since(self, version: Version) -> np.ndarray | None:
        if version.token != self.version.token or version.generation < self._remembered:
            return None
        return np.flatnonzero(self._alive & (self._born > version.generation))

    def _chunk(self, number: int) -> Chunk:
        if number not in self._chunks:
            document, kind = DOCUMENTS[self._documents[number]], _KINDS[self._kinds[number]]
            id_ = self._ids[number].decode()
            self._chunks[number] = Chunk(id_, document, f"/{document}", "", 0, 0, None, (), (), kind)
        return self._chunks[number]

    # --- the truth

    def best(
        self, query: str, vector: np.ndarray, k: int, settings: RetrievalSettings, filters: Filters | None
    ) -> list[tuple[str, float]]:
        """Ids and scores of the k best chunks: every chunk is scored, nothing is bounded."""
        allowed = self.matching(filters)
        numbers = self._numbers if allowed is None else allowed
        if not len(numbers):
            return []
        dense = exact_scores(self._matrix[numbers], vector)
        if settings.ranking == "dense":
            return self._best_by(dense, numbers, k)
        ids = self._ids[numbers]
        order = np.lexsort((ids, -dense))
        text = WordHits(self._words, query, len(numbers), numbers)
        text_order = np.lexsort((self._ids[text.chunks], -text.scores))
        given = FusionInput(
            vector,
            max(settings.depth, k),
            self._yardstick(),
            DenseList(numbers[order], dense[order], -np.inf, len(numbers)),
            LexicalList(text.chunks[text_order], text.scores[text_order], 0.0),
            Candidates(numbers, ids, dense, text.scores_of(numbers)),
        )
        ranked = rank(settings, given)
        keep = ranked.scores > (0 if settings.ranking == "rrf" else -np.inf)
        found = self._ids[ranked.chunks[keep][:k]].astype(str).tolist()
        return list(zip(found, ranked.scores[keep][:k].tolist(), strict=True))

    def _yardstick(self) -> Background:
        if self._background is None or self._background[0] != self.version.generation:
            self._background = self.version.generation, Background(self.sample(SAMPLE_SIZE))
        return self._background[1]

    def _best_by(self, scores: np.ndarray, numbers: np.ndarray, k: int) -> list[tuple[str, float]]:
        k = min(k, len(scores))
        some = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
        ids, scores = self._ids[numbers[some]], scores[some]
        order = np.lexsort((ids, -scores))[:k]
        return list(zip(ids[order].astype(str).tolist(), scores[order].tolist(), strict=True))
