"""A corpus in memory that changes: vectors, numbers and versions, as retriever.corpus.Corpus has them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from indexer.scoring import exact_scores
from indexer.types import Chunk, Filters


class Version(NamedTuple):
    generation: int
    token: str


class ChangingCorpus:
    """Chunks without text, searched exactly. `known` holds true searches that were made beforehand.

    Those are for the static corpus: with the first change they are forgotten.
    """

    is_exact = True

    def __init__(self, vectors: np.ndarray, *, spare: int = 0) -> None:
        count, dimension = vectors.shape
        self.matrix = np.zeros((count + spare, dimension), np.float32)
        self.matrix[:count] = vectors
        self._alive = np.zeros(len(self.matrix), bool)
        self._alive[:count] = True
        self._born = np.zeros(len(self.matrix), np.int64)  # generation
        self._count = count  # numbers given so far
        self._ids = np.array([f"{i:032d}" for i in range(len(self.matrix))], "S32")
        self.version = Version(1, "benchmark")
        self.known: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
        self.num_searches = 0
        self._changing = threading.RLock()

    def refreshed_version(self) -> Version:
        return self.version

    @contextmanager
    def view(self) -> Iterator[ChangingCorpus]:
        """Itself; nothing changes while somebody looks, such as an audit in the background."""
        with self._changing:
            yield self

    # --- what changes

    def add(self, vector: np.ndarray) -> int:
        with self._changing:
            self._commit()
            number, self._count = self._count, self._count + 1
            self.matrix[number], self._alive[number] = vector, True
            self._born[number] = self.version.generation
            return number

    def remove(self, number: int) -> None:
        with self._changing:
            self._commit()
            self._alive[number] = False

    def alive(self) -> np.ndarray:
        """(n,) int64 numbers of the chunks that there are."""
        return np.flatnonzero(self._alive)

    def _commit(self) -> None:
        self.version = Version(self.version.generation + 1, self.version.token)
        self.known.clear()

    # --- what retrieval asks

    def matching(self, filters: Filters | None) -> None:
        """All of them."""

    def count(self, allowed: None) -> int:
        return int(self._alive.sum())

    def nearest(self, vectors: np.ndarray, k: int, *, allowed: None) -> list[tuple[np.ndarray, np.ndarray]]:
        self.num_searches += len(vectors)
        found = []
        for vector in vectors:
            numbers, scores = self.known.get(vector.tobytes(), (None, None))
            if numbers is None or len(numbers) < k:
                numbers, scores = self.search(vector, k)
            found.append((numbers[:k], scores[:k]))
        return found

    def search(self, vector: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best, by comparing all."""
        rough = self.matrix[: self._count] @ vector
        rough[~self._alive[: self._count]] = -np.inf
        k = min(k, self.count(None))
        best = np.argpartition(-rough, min(k + 8, len(rough) - 1))[: k + 8]
        best = best[rough[best] > -np.inf]
        numbers, scores = self.ranked(best, vector)
        return numbers[:k], scores[:k]

    def ranked(self, numbers: np.ndarray, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Chunks by their exact scores, best first, ties by id, as the index orders them."""
        scores = exact_scores(self.matrix[numbers], vector)
        order = np.lexsort((self._ids[numbers], -scores))
        return numbers[order].astype(np.int64), scores[order]

    def vectors(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        numbers = numbers[self._alive[numbers]]
        return numbers, self.matrix[numbers]

    def ids(self, numbers: np.ndarray) -> np.ndarray:
        return self._ids[numbers]

    def chunks(self, numbers: np.ndarray, *, filters: Filters | None = None) -> list[Chunk]:
        return [Chunk(str(n), "", "", "", 0, 0, None, (), (), "text") for n in numbers.tolist()]

    def sample(self, size: int) -> np.ndarray:
        return self.matrix[self.alive()[:size]]

    def added_since(self, version: Version) -> np.ndarray:
        return np.flatnonzero(self._alive & (self._born > version.generation))

    def match(self, queries: Sequence[str], k: int, *, allowed: None) -> list:
        raise NotImplementedError("no texts are kept: use ranking='dense'")
