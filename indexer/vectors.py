"""The vectors of the live chunks in memory, searched by FAISS: exact and in a defined order."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.catalog_reader import NumberedVectors, Version
from indexer.errors import FaissMissing, GpuFailed, InvalidQuery
from indexer.locks import ReadWriteLock
from indexer.scoring import best_first, exact_scores
from indexer.types import ScoredChunkId

if TYPE_CHECKING:
    from indexer.gpu_vectors import GpuCopy

_SPARE_HITS = 8  # fetched beyond k, so that one search usually settles who the k best are
_FLOAT32_ROUNDING = 2.0**-24


def load_faiss() -> ModuleType:
    """The faiss module, or which extra to install."""
    try:
        import faiss
    except ImportError as error:
        raise FaissMissing(
            "FAISS is not installed.",
            hint='Run `pip install "ragserve[cpu]"`, or `pip install "ragserve[gpu]"` where there is CUDA.',
        ) from error
    return faiss


class VectorIndex:
    """Searches the vectors of numbered chunks; safe to share between threads.

    The numbers rise with the position in FAISS: chunks are added with ever higher numbers, and removals close
    the gaps.
    """

    def __init__(self, dimension: int, *, device: str = "cpu") -> None:
        faiss = load_faiss()
        self.dimension = dimension
        self.version = Version(0, "")  # the state of the catalog that the vectors are those of
        self.index: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))
        self.numbers = np.zeros(0, np.int64)  # (n,) rising
        self.ids = np.zeros(0, "S32")  # (n,) chunk ids, same order
        self.lock = ReadWriteLock()
        self._gpu: GpuCopy | None = _gpu_copy(device)

    @classmethod
    def adopt(cls, index: Any, *, device: str = "cpu") -> VectorIndex:
        """Take over an IndexIDMap2 of an IndexFlatIP, read from a checkpoint; the ids follow by `name`."""
        faiss = load_faiss()
        vectors = cls(index.d, device=device)
        vectors.index = index
        vectors.numbers = faiss.vector_to_array(index.id_map).astype(np.int64)
        vectors.ids = np.zeros(len(vectors.numbers), "S32")
        return vectors

    def __len__(self) -> int:
        return len(self.numbers)

    def name(self, ids: np.ndarray) -> None:
        """Set the ids of all chunks, (n,) S32 in the order of their numbers."""
        with self.lock.writing():
            self.ids = ids

    def apply(self, removed: np.ndarray, added: Iterable[NumberedVectors], *, version: Version) -> None:
        """Move on to a later state in one step: remove numbers, then add chunks, batch by batch.

        Numbers to remove that are not here, and chunks to add that are, are passed over. If a batch cannot be
        had, the index is good for nothing any more.
        """
        with self.lock.writing():
            self._remove(removed)
            self._add(added)
            self.version = version
            if self._gpu:
                self._gpu.invalidate()

    def search(
        self, queries: np.ndarray, k: int, *, allowed: np.ndarray | None = None
    ) -> list[list[ScoredChunkId]]:
        """The k best chunks of each of (q, dimension) float32 queries, or all there are; ties by id.

        `allowed` restricts the search to some chunk numbers, sorted. The order is that of `exact_scores`:
        FAISS proposes candidates, and is asked for more while rounding could hide a better chunk behind them.
        """
        with self.lock.reading():
            nearest = self.nearest(queries, k, allowed=allowed)
            return [
                best_first(self.ids_of(found).astype(str).tolist(), scores, k) for found, scores in nearest
            ]

    def nearest(
        self, queries: np.ndarray, k: int, *, allowed: np.ndarray | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """What `search` finds, as (n,) int64 numbers and (n,) scores; for a caller that holds the lock."""
        queries = check_queries(queries, k, self.dimension)
        if allowed is not None:
            allowed = self.present(allowed)
        count = len(self) if allowed is None else len(allowed)
        hits = [(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in queries]
        if not count:
            return hits
        k = min(k, count)
        fetch = min(k + _SPARE_HITS, count)
        pending = np.arange(len(queries))
        while len(pending):
            scores, found, tolerance = self._candidates(queries[pending], fetch, allowed)
            margin = tolerance * np.linalg.norm(queries[pending], axis=1)
            settled = (scores[:, k - 1] - scores[:, -1] > margin) | (fetch == count)
            for row in np.flatnonzero(settled):
                hits[pending[row]] = self._ranked(queries[pending[row]], found[row], k)
            pending = pending[~settled]
            fetch = min(fetch * 4, count)
        return hits

    def vectors_of(self, numbers: np.ndarray) -> np.ndarray:
        """(n, dimension) float32 vectors by chunk number; for a caller that holds the lock."""
        return self.index.reconstruct_batch(np.ascontiguousarray(numbers, np.int64))

    def ids_of(self, numbers: np.ndarray) -> np.ndarray:
        """(n,) S32 ids by chunk number; for a caller that holds the lock."""
        return self.ids[np.searchsorted(self.numbers, numbers)]

    def present(self, numbers: np.ndarray) -> np.ndarray:
        """Those of the numbers that are here; for a caller that holds the lock."""
        positions = np.searchsorted(self.numbers, numbers)
        inside = positions < len(self)
        numbers, positions = numbers[inside], positions[inside]
        return numbers[self.numbers[positions] == numbers]

    def _candidates(
        self, queries: np.ndarray, fetch: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Scores and numbers, (q, fetch) each, and how far apart true scores may be that look equal."""
        gpu = self._gpu
        if gpu and allowed is None and gpu.takes(fetch):
            try:
                scores, positions = gpu.search(self.index.index, queries, fetch)
                return scores, self.numbers[positions], gpu.tolerance
            except GpuFailed:
                if gpu.required:
                    raise
                self._gpu = None  # from now on, all searches run here
        faiss = load_faiss()
        parameters = None
        if allowed is not None:
            mask = np.zeros(int(self.numbers[-1]) + 1, bool)
            mask[allowed] = True
            selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
            parameters = faiss.SearchParameters(sel=selector)
        scores, found = self.index.search(queries, fetch, params=parameters)
        # The rounding error of an inner product of unit vectors is at most dimension * 2^-24, on either side.
        return scores, found, 2 * self.dimension * _FLOAT32_ROUNDING

    def _ranked(self, query: np.ndarray, candidates: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores = exact_scores(self.vectors_of(candidates), query)
        order = np.lexsort((self.ids_of(candidates), -scores))[:k]
        return candidates[order], scores[order]

    def _remove(self, numbers: np.ndarray) -> None:
        gone = np.isin(self.numbers, numbers)
        if gone.any():
            self.index.remove_ids(self.numbers[gone])
            self.numbers, self.ids = self.numbers[~gone], self.ids[~gone]

    def _add(self, batches: Iterable[NumberedVectors]) -> None:
        numbers, ids = [self.numbers], [self.ids]
        for batch in batches:
            new = ~np.isin(batch.numbers, self.numbers)
            if new.any():
                self.index.add_with_ids(np.ascontiguousarray(batch.vectors[new]), batch.numbers[new])
                numbers.append(batch.numbers[new])
                ids.append(batch.ids[new])
        self.numbers, self.ids = np.concatenate(numbers), np.concatenate(ids)


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
