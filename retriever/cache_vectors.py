"""The vectors of past queries by slot, and the search for those that are near a new one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from retriever.cache_neighbours import SHADOW_DIMENSION, InvertedFile, shadow_basis

# Up to here a new query is compared with all past ones in full, up to the second limit with the shadows of
# all, and beyond it with those in FAISS's nearest cells. A product with 10,000 vectors of 384 numbers reads
# 15 MB, which takes longer than a lookup may.
_FULL_LIMIT = 1_024
_SHADOW_LIMIT = 20_000
_SHORTLIST = 64


class Near(NamedTuple):
    """Past queries that are near a new one: all of them, or a shortlist."""

    slots: np.ndarray  # (n,) int64
    similarities: np.ndarray  # (n,) float32


class QueryVectors:
    """Unit vectors in slots 0 ... n - 1, without gaps. The limits are options for tests.

    There may be thousands of these, one for each filter that was ever used: a small one has to be small.
    """

    def __init__(self, *, full_limit: int = _FULL_LIMIT, shadow_limit: int = _SHADOW_LIMIT) -> None:
        self._full_limit = full_limit
        self._shadow_limit = shadow_limit
        self._next_serial = 0
        self.clear()

    @property
    def rows(self) -> np.ndarray:
        """(n, dimension) float32, one a slot."""
        return self._vectors[: self.count]

    def append(self, vector: np.ndarray) -> None:
        """Adds a vector in the next slot."""
        self._reserve(self.count + 1, len(vector))
        self.count += 1
        self._write(self.count - 1, vector)

    def replace(self, slot: int, vector: np.ndarray) -> None:
        """Puts a vector in the place of another."""
        self._forget(slot)
        self._write(slot, vector)

    def remove(self, slot: int) -> None:
        """Drops a vector; the last one moves into its slot."""
        self._forget(slot)
        self.count -= 1
        last = self.count
        if slot != last:
            self._vectors[slot] = self._vectors[last]
            if self._shadows is not None:
                self._shadows[slot] = self._shadows[last]
            self._serials[slot] = self._serials[last]
            self._slots[int(self._serials[slot])] = slot

    def clear(self) -> None:
        """Drops all vectors, and the room that they took."""
        self.count = 0
        self._vectors = np.zeros((0, 0), np.float32)  # (capacity, dimension), the first `count` are in use
        self._basis: np.ndarray | None = None  # (dimension, SHADOW_DIMENSION), once it is needed
        self._shadows: np.ndarray | None = None  # (capacity, SHADOW_DIMENSION), likewise
        self._file: InvertedFile | None = None
        # What moves from slot to slot keeps its serial number, under which the inverted file knows it.
        self._serials = np.zeros(0, np.int64)  # (capacity,)
        self._slots: dict[int, int] = {}  # by serial number

    def near(self, query: np.ndarray) -> Near:
        """All vectors, or a shortlist of the nearest, with their similarities to a query."""
        if self.count <= self._full_limit or len(query) <= SHADOW_DIMENSION:
            return Near(np.arange(self.count), self.rows @ query)
        if self.count <= self._shadow_limit:
            slots = self._in_shadow(query)
        else:
            found = self._inverted_file().nearest(query, _SHORTLIST)
            slots = np.array([self._slots[serial] for serial in found.tolist()], np.int64)
        return Near(slots, self._vectors[slots] @ query)

    # --- inside

    def _in_shadow(self, query: np.ndarray) -> np.ndarray:
        """(up to _SHORTLIST,) slots of the vectors whose shadows are nearest to the query's."""
        if self._basis is None or self._shadows is None:
            self._basis = shadow_basis(len(query))
            self._shadows = np.zeros((len(self._serials), SHADOW_DIMENSION), np.float32)
            self._shadows[: self.count] = self.rows @ self._basis
        likeness = self._shadows[: self.count] @ (query @ self._basis)
        wanted = min(_SHORTLIST, self.count)
        return np.argpartition(likeness, -wanted)[-wanted:]

    def _inverted_file(self) -> InvertedFile:
        """Made when first needed, and anew with more cells whenever the number of vectors has doubled."""
        if self._file is None or self.count > 2 * self._file.count_when_made:
            self._file = InvertedFile(self._serials[: self.count], self.rows)
        return self._file

    def _write(self, slot: int, vector: np.ndarray) -> None:
        self._vectors[slot] = vector
        if self._basis is not None and self._shadows is not None:
            self._shadows[slot] = vector @ self._basis
        serial, self._next_serial = self._next_serial, self._next_serial + 1
        self._serials[slot] = serial
        self._slots[serial] = slot
        if self._file is not None:
            self._file.add(serial, vector)

    def _forget(self, slot: int) -> None:
        serial = int(self._serials[slot])
        del self._slots[serial]
        if self._file is not None:
            self._file.remove(serial)

    def _reserve(self, count: int, dimension: int) -> None:
        if count <= len(self._serials):
            return
        capacity = max(2 * len(self._serials), count)
        vectors = np.zeros((capacity, dimension), np.float32)
        serials = np.zeros(capacity, np.int64)
        if self.count:
            vectors[: self.count] = self.rows
            serials[: self.count] = self._serials[: self.count]
        if self._shadows is not None:
            shadows = np.zeros((capacity, SHADOW_DIMENSION), np.float32)
            shadows[: self.count] = self._shadows[: self.count]
            self._shadows = shadows
        self._vectors, self._serials = vectors, serials
