"""The vectors of the live chunks, searched: all of them while they are few, the probably near ones beyond."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.catalog_reader import NumberedVectors, Version
from indexer.errors import GpuFailed, InvalidQuery
from indexer.faiss_loading import load_faiss
from indexer.flat_vectors import Candidates, FlatVectors, Nearest, certainly_nearest
from indexer.ivf_vectors import IvfVectors
from indexer.locks import ReadWriteLock
from indexer.row_file import StoredRows
from indexer.scoring import best_first, exact_scores
from indexer.types import ScoredChunkId

if TYPE_CHECKING:
    from indexer.gpu_vectors import GpuCopy

__all__ = ["VectorIndex", "check_queries", "load_faiss"]

_ROWS_PER_BATCH = 8192


class VectorIndex:
    """Searches the vectors of numbered chunks; safe to share between threads.

    Two parts: `base`, an approximate index on disk that only ever loses chunks, or none; and `tail`, whose
    vectors are all compared. What is added goes to the tail, until a checkpoint merges it into a base.
    """

    def __init__(self, dimension: int, *, device: str = "cpu") -> None:
        self.dimension = dimension
        self.version = Version(0, "")  # the state of the catalog that the vectors are those of
        self.tail = FlatVectors(dimension)
        self.base: IvfVectors | None = None
        self.lock = ReadWriteLock()
        self._gpu: GpuCopy | None = _gpu_copy(device)

    @classmethod
    def adopt(cls, index: Any, *, base: IvfVectors | None = None, device: str = "cpu") -> VectorIndex:
        """Take over what a checkpoint holds: the tail, an IndexIDMap2 of an IndexFlatIP, and the base.

        The ids of the tail follow by `name`.
        """
        vectors = cls(index.d, device=device)
        vectors.tail = FlatVectors.adopt(index)
        vectors.base = base
        return vectors

    def __len__(self) -> int:
        return len(self.tail) + (len(self.base) if self.base else 0)

    @property
    def is_exact(self) -> bool:
        """Whether every search compares all vectors, so that nothing can be missed."""
        return self.base is None

    @property
    def numbers(self) -> np.ndarray:
        """(n,) int64 rising numbers of all chunks."""
        if self.base is None:
            return self.tail.numbers
        return np.sort(np.concatenate([self.base.numbers, self.tail.numbers]))

    def name(self, ids: np.ndarray) -> None:
        """Set the ids of the chunks in the tail, (n,) S32 in the order of their numbers."""
        with self.lock.writing():
            self.tail.ids = ids

    def apply(self, removed: np.ndarray, added: Iterable[NumberedVectors], *, version: Version) -> None:
        """Move on to a later state in one step: remove numbers, then add chunks, batch by batch.

        Numbers to remove that are not here, and chunks to add that are, are passed over. If a batch cannot be
        had, the index is good for nothing any more.
        """
        with self.lock.writing():
            self.tail.remove(removed)
            if self.base:
                self.base.remove(removed)
            self._add(added)
            self.version = version
            if self._gpu:
                self._gpu.invalidate()

    def replace(self, other: VectorIndex) -> None:
        """Search another form of the same state from now on, such as one whose tail was merged."""
        with self.lock.writing():
            if other.version == self.version:
                self.tail, self.base = other.tail, other.base
                if self._gpu:
                    self._gpu.invalidate()

    def search(
        self, queries: np.ndarray, k: int, *, allowed: np.ndarray | None = None
    ) -> list[list[ScoredChunkId]]:
        """The k best chunks of each of (q, dimension) float32 queries, or all there are; ties by id.

        `allowed` restricts the search to some chunk numbers, sorted. Scores and their order are those of
        `exact_scores`. With a base, k chunks come back whenever there are k, but one of the best may be
        missed.
        """
        with self.lock.reading():
            nearest = self.nearest(queries, k, allowed=allowed)
            return [
                best_first(self.ids_of(found).astype(str).tolist(), scores, k) for found, scores in nearest
            ]

    def nearest(self, queries: np.ndarray, k: int, *, allowed: np.ndarray | None = None) -> list[Nearest]:
        """What `search` finds, as (n,) int64 numbers and (n,) scores; for a caller that holds the lock."""
        queries = check_queries(queries, k, self.dimension)
        gpu = self._gpu
        if gpu and allowed is None and gpu.takes(min(k, len(self))):
            try:
                return self._on_gpu(gpu, queries, k)
            except GpuFailed:
                if gpu.required:
                    raise
                self._gpu = None  # from now on, all searches run here
        return self._on_cpu(queries, k, allowed)

    def vectors_of(self, numbers: np.ndarray) -> np.ndarray:
        """(n, dimension) float32 vectors by chunk number; for a caller that holds the lock."""
        if self.base is None:
            return self.tail.vectors_of(numbers)
        vectors = np.empty((len(numbers), self.dimension), np.float32)
        in_base = self.base.holds(numbers)
        vectors[in_base] = self.base.vectors_of(numbers[in_base])
        vectors[~in_base] = self.tail.vectors_of(numbers[~in_base])
        return vectors

    def stored_near(self, query: np.ndarray, max_bytes: int) -> StoredRows | None:
        """The vectors on disk that searches near a (dimension,) float32 query may read, up to so many bytes.

        None where all are in memory. For a caller that holds the lock; what comes back needs none.
        """
        return None if self.base is None else self.base.stored_near(query, max_bytes)

    def ids_of(self, numbers: np.ndarray) -> np.ndarray:
        """(n,) S32 ids by chunk number; for a caller that holds the lock."""
        if self.base is None:
            return self.tail.ids_of(numbers)
        ids = np.empty(len(numbers), "S32")
        in_base = self.base.holds(numbers)
        ids[in_base] = self.base.ids_of(numbers[in_base])
        ids[~in_base] = self.tail.ids_of(numbers[~in_base])
        return ids

    def present(self, numbers: np.ndarray) -> np.ndarray:
        """Those of the numbers that are here; for a caller that holds the lock."""
        here = self.tail.holds(numbers)
        if self.base:
            here |= self.base.holds(numbers)
        return numbers[here]

    def sample(self, size: int) -> np.ndarray:
        """(n, dimension) float32 vectors of the up to `size` chunks with the smallest ids.

        An id is a hash, so that is a random sample, and an unchanging one while the corpus does not change.
        """
        parts = [self.tail] if self.base is None else [self.base, self.tail]
        numbers = np.concatenate([part.numbers for part in parts])
        if len(numbers) > size:
            ids = np.concatenate([part.ids for part in parts])
            leading = ids.astype("S8").view(">u8")  # the first 8 digits: fast to compare
            numbers = numbers[np.argpartition(leading, size)[:size]]
        return self.vectors_of(np.sort(numbers))

    def batches(self) -> Iterator[NumberedVectors]:
        """All chunks by rising number; for a caller that holds the lock."""
        numbers = self.numbers
        for start in range(0, len(numbers), _ROWS_PER_BATCH):
            some = numbers[start : start + _ROWS_PER_BATCH]
            yield NumberedVectors(some, self.ids_of(some), self.vectors_of(some))

    def _add(self, batches: Iterable[NumberedVectors]) -> None:
        base = self.base
        if base is not None:
            batches = (_without(batch, base.holds(batch.numbers)) for batch in batches)
        self.tail.add(batches)

    def _on_cpu(self, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> list[Nearest]:
        recent = self.tail.nearest(queries, k, allowed=_inside(self.tail, allowed))
        if self.base is None:
            return recent
        found = self.base.nearest(queries, k, allowed=_inside(self.base, allowed))
        return [self._merged(one, other, k) for one, other in zip(found, recent, strict=True)]

    def _merged(self, one: Nearest, other: Nearest, k: int) -> Nearest:
        if not len(other[0]):
            return one
        numbers, scores = (np.concatenate(pair) for pair in zip(one, other, strict=True))
        order = np.lexsort((self.ids_of(numbers), -scores))[:k]
        return numbers[order], scores[order]

    def _ranked(self, query: np.ndarray, candidates: np.ndarray, k: int) -> Nearest:
        scores = exact_scores(self.vectors_of(candidates), query)
        order = np.lexsort((self.ids_of(candidates), -scores))[:k]
        return candidates[order], scores[order]

    def _on_gpu(self, gpu: GpuCopy, queries: np.ndarray, k: int) -> list[Nearest]:
        """All vectors compared, those of the base too."""
        base = self.base

        def propose(some: np.ndarray, fetch: int) -> Candidates:
            if not gpu.takes(fetch):
                if base is None:
                    return self.tail.candidates(some, fetch)
                fetch = gpu.max_hits
            scores, positions = gpu.search(self.tail.index.index, some, fetch, more=base and base.live_blocks)
            numbers = self.tail.numbers
            if base is not None:
                numbers = np.concatenate([numbers, base.numbers])
            return scores, numbers[positions], gpu.tolerance

        return certainly_nearest(queries, k, len(self), propose, self._ranked)


def _without(batch: NumberedVectors, dropped: np.ndarray) -> NumberedVectors:
    return NumberedVectors(*(column[~dropped] for column in batch))


def _inside(part: FlatVectors | IvfVectors, allowed: np.ndarray | None) -> np.ndarray | None:
    """Those of the allowed numbers that a part holds."""
    return None if allowed is None else allowed[part.holds(allowed)]


def check_queries(queries: np.ndarray, k: int, dimension: int) -> np.ndarray:
    """The queries as (q, dimension) contiguous float32; InvalidQuery for what has no neighbours."""
    if k < 1:
        raise InvalidQuery(f"k is {k}.", hint="Ask for at least one result.")
    queries = np.asarray(queries)
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise InvalidQuery(
            f"The query vectors have the shape {queries.shape}; the index needs (queries, {dimension}).",
            hint="Embed the query with the embedder that the index was made with.",
        )
    queries = np.ascontiguousarray(queries, np.float32)
    if not np.isfinite(queries).all():
        raise InvalidQuery("A query vector holds NaN or infinity.", hint="Check the embedder.")
    if not queries.any(axis=1).all():
        raise InvalidQuery("A query vector is zero and points nowhere.", hint="Check the embedder.")
    return queries


def _gpu_copy(device: str) -> GpuCopy | None:
    """A copy on the GPU if the device is one, or may be one and FAISS has it."""
    if device == "cpu":
        return None
    from indexer.gpu_vectors import GpuCopy

    return GpuCopy.on(device)
