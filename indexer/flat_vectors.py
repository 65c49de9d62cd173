"""Vectors in memory that are all compared with a query: exact, and in a defined order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from indexer.catalog_reader import NumberedVectors
from indexer.faiss_loading import load_faiss
from indexer.scoring import exact_scores, inner_products

_SPARE_HITS = 8  # fetched beyond k, so that one search usually settles who the k best are
_FLOAT32_ROUNDING = 2.0**-24
_ROWS_PER_PRODUCT = 16_384
_SCORES_PER_PRODUCT = 1 << 20  # beyond 64 queries it has fewer rows: 4 MiB of scores stay in the cache

Candidates = tuple[np.ndarray, np.ndarray, float]
"""Scores and numbers, (q, fetch) each, and how far apart true scores may be that look equal."""

Nearest = tuple[np.ndarray, np.ndarray]
"""(n,) int64 numbers of chunks and (n,) float32 exact scores, best first, ties by id."""


class FlatVectors:
    """The vectors of numbered chunks, in FAISS. Whoever shares it between threads holds a lock.

    The numbers rise with the position in FAISS: chunks are added with ever higher numbers, and removals close
    the gaps.
    """

    def __init__(self, dimension: int) -> None:
        faiss = load_faiss()
        self.dimension = dimension
        self.index: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))
        self.numbers = np.zeros(0, np.int64)  # (n,) rising
        self.ids = np.zeros(0, "S32")  # (n,) chunk ids, same order

    @classmethod
    def adopt(cls, index: Any) -> FlatVectors:
        """Take over an IndexIDMap2 of an IndexFlatIP; the ids have to be set."""
        flat = cls(index.d)
        flat.index = index
        flat.numbers = load_faiss().vector_to_array(index.id_map).astype(np.int64)
        flat.ids = np.zeros(len(flat.numbers), "S32")
        return flat

    def __len__(self) -> int:
        return len(self.numbers)

    def nearest(self, queries: np.ndarray, k: int, *, allowed: np.ndarray | None = None) -> list[Nearest]:
        """The k best chunks of each of (q, dimension) float32 queries, or all there are.

        `allowed`: rising numbers of chunks that are here.
        """
        count = len(self) if allowed is None else len(allowed)
        return certainly_nearest(
            queries, k, count, lambda some, fetch: self.candidates(some, fetch, allowed), self.ranked
        )

    def vectors_of(self, numbers: np.ndarray) -> np.ndarray:
        """(n, dimension) float32 vectors by chunk number."""
        return self.index.reconstruct_batch(np.ascontiguousarray(numbers, np.int64))

    def ids_of(self, numbers: np.ndarray) -> np.ndarray:
        """(n,) S32 ids by chunk number."""
        return self.ids[np.searchsorted(self.numbers, numbers)]

    def holds(self, numbers: np.ndarray) -> np.ndarray:
        """(n,) bool: which of the numbers are here."""
        return is_among(numbers, self.numbers)

    def remove(self, numbers: np.ndarray) -> None:
        """Take chunks out; numbers that are not here are passed over."""
        gone = np.isin(self.numbers, numbers)
        if gone.any():
            self.index.remove_ids(self.numbers[gone])
            self.numbers, self.ids = self.numbers[~gone], self.ids[~gone]

    def add(self, batches: Iterable[NumberedVectors]) -> None:
        """Put chunks in; those that are here are passed over."""
        numbers, ids = [self.numbers], [self.ids]
        for batch in batches:
            new = ~np.isin(batch.numbers, self.numbers)
            if new.any():
                self.index.add_with_ids(np.ascontiguousarray(batch.vectors[new]), batch.numbers[new])
                numbers.append(batch.numbers[new])
                ids.append(batch.ids[new])
        self.numbers, self.ids = np.concatenate(numbers), np.concatenate(ids)

    def candidates(self, queries: np.ndarray, fetch: int, allowed: np.ndarray | None = None) -> Candidates:
        """The best by inexact scores, of all chunks or, by FAISS, of those allowed."""
        # The rounding error of an inner product of unit vectors is at most dimension * 2^-24, on either side.
        tolerance = 2 * self.dimension * _FLOAT32_ROUNDING
        if allowed is None:
            scores, positions = best_products(self._matrix(), queries, fetch)
            return scores, self.numbers[positions], tolerance
        faiss = load_faiss()
        mask = np.zeros(int(self.numbers[-1]) + 1, bool)
        mask[allowed] = True
        selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        parameters = faiss.SearchParameters(sel=selector)
        scores, found = self.index.search(queries, fetch, params=parameters)
        return scores, found, tolerance

    def ranked(self, query: np.ndarray, candidates: np.ndarray, k: int) -> Nearest:
        """The k best of (n,) candidates by number."""
        scores = exact_scores(self.vectors_of(candidates), query)
        order = np.lexsort((self.ids_of(candidates), -scores))[:k]
        return candidates[order], scores[order]

    def _matrix(self) -> np.ndarray:
        """(n, dimension) float32: the vectors where FAISS has them, valid until one comes or goes."""
        faiss = load_faiss()
        flat = faiss.downcast_index(self.index.index)
        values = faiss.rev_swig_ptr(flat.get_xb(), self.index.ntotal * self.dimension)
        return values.reshape(-1, self.dimension)


def best_products(matrix: np.ndarray, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(q, count) float32 highest inner products of (q, dimension) queries with (n, dimension) rows, falling,
    and the (q, count) int64 positions of those rows; n is at least `count`.

    Matrix products take all cores and read each row once for all queries.
    """
    scores = [np.zeros(0, np.float32)] * len(queries)
    positions = [np.zeros(0, np.int64)] * len(queries)
    floors = np.zeros(len(queries), np.float32)  # what a row has to exceed, once there are enough
    num_rows = max(1, min(_ROWS_PER_PRODUCT, _SCORES_PER_PRODUCT // max(len(queries), 1)))
    for start in range(0, len(matrix), num_rows):
        products = inner_products(queries, matrix[start : start + num_rows])  # (q, rows)
        for i, row in enumerate(products):
            above = np.flatnonzero(row > floors[i]) if len(scores[i]) == count else np.arange(len(row))
            together = np.concatenate([scores[i], row[above]])
            places = np.concatenate([positions[i], start + above])
            if len(together) > count:
                kept = np.argpartition(together, len(together) - count)[-count:]
                together, places = together[kept], places[kept]
            scores[i], positions[i], floors[i] = together, places, together.min()
    order = np.argsort(-np.stack(scores), axis=1, kind="stable")
    return np.take_along_axis(np.stack(scores), order, 1), np.take_along_axis(np.stack(positions), order, 1)


def certainly_nearest(
    queries: np.ndarray,
    k: int,
    count: int,
    propose: Callable[[np.ndarray, int], Candidates],
    rank: Callable[[np.ndarray, np.ndarray, int], Nearest],
) -> list[Nearest]:
    """The k best of `count` chunks for each of (q, dimension) queries, or all there are.

    `propose` gives so many candidates as it is asked for, and is asked for more while rounding could hide a
    better chunk behind them. `rank` orders candidates by their exact scores.
    """
    hits = [(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in queries]
    if not count:
        return hits
    k = min(k, count)
    fetch = min(k + _SPARE_HITS, count)
    pending = np.arange(len(queries))
    while len(pending):
        scores, found, tolerance = propose(queries[pending], fetch)
        margin = tolerance * np.linalg.norm(queries[pending], axis=1)
        settled = (scores[:, k - 1] - scores[:, -1] > margin) | (fetch == count)
        for row in np.flatnonzero(settled):
            hits[pending[row]] = rank(queries[pending[row]], found[row], k)
        pending = pending[~settled]
        fetch = min(fetch * 4, count)
    return hits


def is_among(values: np.ndarray, rising: np.ndarray) -> np.ndarray:
    """(n,) bool: which of (n,) values are in a rising array."""
    positions = np.searchsorted(rising, values)
    inside = positions < len(rising)
    found = np.zeros(len(values), bool)
    found[inside] = rising[positions[inside]] == values[inside]
    return found
