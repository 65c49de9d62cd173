"""Vectors on disk, of which a search compares the probably near ones: approximate, with a measured recall.

An inverted file (Jegou, Douze, Schmid, "Product quantization for nearest neighbor search", 2011): the vectors
are parted into lists around centroids, and a search looks through the lists whose centroids are nearest. In
memory there are only codes of two bits a dimension, compared 32 at a time by table look-ups in registers
(Andre, Kermarrec, Le Scouarnec, "Cache locality is not enough", 2015). What looks nearest by its code is
compared again by its stored vector, so every score that is returned is exact; what can go wrong is only that
a chunk is missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.faiss_loading import load_faiss
from indexer.flat_vectors import Nearest, is_among
from indexer.list_overlap import by_overlap
from indexer.row_file import RowFile, StoredRows
from indexer.scoring import exact_scores
from indexer.search_plan import SearchPlan

if TYPE_CHECKING:
    from indexer.ivf_files import BaseStamp

# Reading and comparing one stored vector takes about as long as comparing so many codes.
_CODES_PER_ROW = 20
_SPARE_HITS = 8
_ORDERED_BY = 16  # lists, the nearest: what two queries have in common shows in them
_MAX_ORDERED = 256  # queries
_MAX_READ_AHEAD = 8192  # rows; several times what a search compares
_ROUNDING = 1e-5  # a float32 product of two unit vectors of some hundred dimensions is off by less


class IvfVectors:
    """An immutable set of numbered vectors, from which chunks can be taken out.

    Positions count in `rows`; FAISS knows vectors by position. Whoever shares it between threads holds a lock
    for `remove`.
    """

    def __init__(
        self, index: Any, rows: RowFile, numbers: np.ndarray, ids: np.ndarray, plan: SearchPlan
    ) -> None:
        """`index`: an IndexIVF of inner products; `numbers` (n,) int64 rising, `ids` (n,) S32."""
        self.index = index
        self.rows = rows
        self.plan = plan
        self.all_numbers = numbers
        self.all_ids = ids
        self.live = np.ones(len(numbers), bool)
        self.stamp: BaseStamp | None = None  # what it is on disk
        self._count = len(numbers)
        self._live_selector: np.ndarray | None = None  # bits, where something was taken out

    def __len__(self) -> int:
        return self._count

    @property
    def numbers(self) -> np.ndarray:
        """(n,) int64 rising numbers of the chunks that are here."""
        return self.all_numbers if self._count == len(self.live) else self.all_numbers[self.live]

    @property
    def ids(self) -> np.ndarray:
        """(n,) S32 ids in the order of the numbers."""
        return self.all_ids if self._count == len(self.live) else self.all_ids[self.live]

    @property
    def num_removed(self) -> int:
        """How many chunks were taken out and still take up space."""
        return len(self.live) - self._count

    def removed_numbers(self) -> np.ndarray:
        """(n,) int64 rising numbers of the chunks that were taken out."""
        return self.all_numbers[~self.live]

    def remove(self, numbers: np.ndarray) -> None:
        """Take chunks out; numbers that are not here are passed over."""
        positions = self._positions(numbers[is_among(numbers, self.all_numbers)])
        if len(positions):
            self.live[positions] = False
            self._count = int(self.live.sum())
            self._live_selector = np.packbits(self.live, bitorder="little")

    def holds(self, numbers: np.ndarray) -> np.ndarray:
        """(n,) bool: which of the numbers are here."""
        known = is_among(numbers, self.all_numbers)
        known[known] = self.live[self._positions(numbers[known])]
        return known

    def vectors_of(self, numbers: np.ndarray) -> np.ndarray:
        """(n, dimension) float32 vectors by chunk number."""
        return self.rows.take(self._positions(numbers))

    def ids_of(self, numbers: np.ndarray) -> np.ndarray:
        """(n,) S32 ids by chunk number."""
        return self.all_ids[self._positions(numbers)]

    def live_blocks(self) -> Iterator[np.ndarray]:
        """The vectors that are here, (n, dimension) float32 a block, in the order of their numbers."""
        for start, block in self.rows.blocks():
            live = self.live[start : start + len(block)]
            yield block if live.all() else block[live]

    def nearest(self, queries: np.ndarray, k: int, *, allowed: np.ndarray | None = None) -> list[Nearest]:
        """About the k best chunks of each of (q, dimension) float32 queries: k of them, or all there are.

        `allowed`: rising numbers of chunks that are here. Where a share s of all chunks is allowed, the k
        best of them are looked for as far as the k / s best of all would be.
        """
        count = len(self) if allowed is None else len(allowed)
        if not count:
            return [(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in queries]
        k = min(k, count)
        num_probes = min(self.plan.num_probes(k * len(self.live) / count), self.index.nlist)
        positions = None if allowed is None else self._positions(allowed)
        num_codes = num_probes / self.index.nlist * len(self.live)
        if positions is not None and count * _CODES_PER_ROW <= num_codes:
            found = [self._among(positions, query, k) for query in queries]
            return [self._ranked(query, some, k) for query, some in zip(queries, found, strict=True)]
        order = self._by_overlap(queries, num_probes)
        ordered = queries[order]
        found = self._probed(ordered, k, num_probes, positions)
        ranked = [self._ranked(query, some, k) for query, some in zip(ordered, found, strict=True)]
        return [ranked[place] for place in np.argsort(order)]

    def stored_near(self, query: np.ndarray, max_bytes: int) -> StoredRows:
        """The stored vectors that searches near a (dimension,) float32 query read, by their codes: from the
        nearest lists, the nearest first, as far as reading them takes up to so many bytes.
        """
        count = min(max_bytes // self.rows.bytes_per_read, len(self.live), _MAX_READ_AHEAD)
        if count < 1:
            return StoredRows(self.rows, np.zeros(0, np.int64))
        num_probes = min(self.plan.num_probes(self.plan.points[-1].k), self.index.nlist)
        parameters = load_faiss().SearchParametersIVF(nprobe=num_probes)
        _, found = self.index.search(np.ascontiguousarray(query[None]), count, params=parameters)
        return StoredRows(self.rows, found[0][found[0] >= 0])

    # --- inside; everything goes by position

    def _positions(self, numbers: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.all_numbers, numbers)

    def _selector(self, positions: np.ndarray | None) -> np.ndarray | None:
        """(n / 8,) uint8: a bit for each vector that may be found; None if all may."""
        if positions is None:
            return self._live_selector
        mask = np.zeros(len(self.live), bool)
        mask[positions] = True
        return np.packbits(mask, bitorder="little")

    def _by_overlap(self, queries: np.ndarray, num_probes: int) -> np.ndarray:
        """(q,) an order of (q, dimension) queries in which neighbours share lists and stored vectors."""
        if not 2 < len(queries) <= _MAX_ORDERED:
            return np.arange(len(queries))
        _, lists = self.index.quantizer.search(queries, min(num_probes, _ORDERED_BY))
        return by_overlap(lists, self.index.nlist)

    def _probed(
        self, queries: np.ndarray, k: int, num_probes: int, positions: np.ndarray | None
    ) -> list[np.ndarray]:
        """At least k positions for each query, from as many lists as it takes."""
        faiss = load_faiss()
        selector = self._selector(positions)
        depth = min(self.plan.rerank_depth(k), len(self.live))
        found: dict[int, np.ndarray] = {}
        pending = np.arange(len(queries))
        while len(pending) and num_probes:
            parameters = faiss.SearchParametersIVF(nprobe=num_probes)
            if selector is not None:
                bitmap = faiss.IDSelectorBitmap(selector)
                parameters = faiss.SearchParametersIVF(nprobe=num_probes, sel=bitmap)
            _, candidates = self.index.search(queries[pending], depth, params=parameters)
            enough = (candidates >= 0).sum(axis=1) >= k
            for row in np.flatnonzero(enough):
                found[int(pending[row])] = candidates[row][candidates[row] >= 0]
            pending = pending[~enough]
            num_probes = 0 if num_probes == self.index.nlist else min(4 * num_probes, self.index.nlist)
        for row in pending.tolist():  # FAISS passes over a vector whose code scores as low as codes can
            everything = np.flatnonzero(self.live) if positions is None else positions
            found[row] = self._among(everything, queries[row], k)
        return [found[row] for row in range(len(queries))]

    def _among(self, positions: np.ndarray, query: np.ndarray, k: int) -> np.ndarray:
        """Those of the positions that can be among the k nearest of them: all are compared."""
        scores = self.rows.take(positions) @ query
        k = min(k + _SPARE_HITS, len(positions))
        limit = np.partition(scores, -k)[-k] - _ROUNDING * np.linalg.norm(query)
        return positions[scores >= limit]

    def _ranked(self, query: np.ndarray, positions: np.ndarray, k: int) -> Nearest:
        scores = exact_scores(self.rows.take(positions), query)
        order = np.lexsort((self.all_ids[positions], -scores))[:k]
        return self.all_numbers[positions[order]], scores[order]
