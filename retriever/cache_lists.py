"""The dense lists of past queries, kept right while chunks come and go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from retriever.certificate import bound_outside, single_bounds
from retriever.corpus import CorpusView, Version

NUM_TOP_SCORES = 64

# A chunk is put on a list if its similarity may exceed the list's radius, however the product was rounded.
_ROUNDING = 1e-4


class ListEntry(NamedTuple):
    """A query and every chunk whose similarity to it is above `radius`, as far as they still exist."""

    text: str
    vector: np.ndarray  # (dimension,) float32
    chunks: np.ndarray  # (m,) int64 chunk numbers, in no particular order
    radius: float  # -inf if every chunk is on the list
    top_scores: np.ndarray  # (up to NUM_TOP_SCORES,) float32: the best similarities when the list was made

    @property
    def size(self) -> int:
        """Bytes, about; the vector is in the table's matrix as well."""
        return 2 * self.vector.nbytes + self.chunks.nbytes + self.top_scores.nbytes + 2 * len(self.text) + 400


class Nearby(NamedTuple):
    """Past queries near a new one, and what their lists hold."""

    text: str  # of the nearest of them
    similarity: float  # of the nearest to the new query
    chunks: np.ndarray  # (m,) int64: what is on any of their lists
    bound: float  # no chunk on none of the lists is more similar to the new query; inf if nothing is known
    texts: tuple[str, ...]  # of all of them


class ListTable:
    """The lists of all queries that were asked under the same filters of the same embedder.

    Only queries are compared on lookup: one product of a (n, dimension) matrix with a vector.
    """

    def __init__(self, version: Version) -> None:
        self.version = version  # the state of the corpus that the lists are right for
        self._entries: list[ListEntry] = []
        self._slots: dict[str, int] = {}  # by text
        self._vectors = np.zeros((0, 0), np.float32)  # (capacity, dimension), the first len(self) are in use
        self._radii = np.zeros(0)  # (capacity,)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[ListEntry]:
        return iter(self._entries)

    def put(self, entry: ListEntry) -> None:
        """Adds an entry, in place of an earlier one for the same text."""
        slot = self._slots.get(entry.text)
        if slot is None:
            slot = len(self._entries)
            self._reserve(slot + 1, len(entry.vector))
            self._entries.append(entry)
            self._slots[entry.text] = slot
        self._entries[slot] = entry
        self._vectors[slot] = entry.vector
        self._radii[slot] = entry.radius

    def remove(self, text: str) -> None:
        """Drops an entry, if it is there."""
        slot = self._slots.pop(text, None)
        if slot is None:
            return
        last = self._entries.pop()
        if last.text != text:  # the last one moves into the gap
            self._entries[slot] = last
            self._slots[last.text] = slot
            self._vectors[slot] = self._vectors[len(self._entries)]
            self._radii[slot] = last.radius

    def best_certificate(self, query: np.ndarray, *, k: int, max_lists: int) -> Nearby | None:
        """The up to `max_lists` entries that together prove the most about a query.

        None where that is hopeless: they prove nothing, or only what is more similar to this query than the k
        best chunks were to the nearest past one.
        """
        if not self._entries:
            return None
        similarities, radii = self._similarities(query), self._radii[: len(self)]
        alone = single_bounds(similarities, radii)
        slots = (
            np.argpartition(alone, max_lists - 1)[:max_lists]
            if max_lists < len(alone)
            else np.arange(len(alone))
        )
        complete = slots[np.isneginf(radii[slots])]
        if len(complete):  # a list of all chunks needs no other
            return self._nearby(complete[:1], similarities, -np.inf)
        slots = slots[alone[slots] < 1]
        if not len(slots):
            return None
        bound, weights = bound_outside(query, self._vectors[slots], radii[slots])
        slots = slots[weights > 0]
        if not len(slots):
            return None
        top = self._entries[slots[np.argmax(similarities[slots])]].top_scores
        if bound >= top[min(k, len(top)) - 1]:
            return None
        return self._nearby(slots, similarities, bound)

    def nearest(self, query: np.ndarray) -> Nearby | None:
        """The entry whose query is the most similar."""
        if not self._entries:
            return None
        similarities = self._similarities(query)
        return self._nearby(np.argmax(similarities)[None], similarities, np.inf)

    def clear(self) -> None:
        """Drops all entries."""
        self._entries.clear()
        self._slots.clear()

    def follow(self, view: CorpusView, allowed: np.ndarray | None) -> list[ListEntry] | None:
        """Brings the lists to the state of a view. The entries that grew; None if all had to be dropped.

        A chunk that went simply is not there when a list is read. One that came is put on the lists that it
        could be missed on; on all others its similarity is below the radius, and they stay as they are.
        """
        added = view.added_since(self.version)
        self.version = view.version
        if added is None:  # the state is too old, or another corpus's
            self.clear()
            return None
        if allowed is not None:
            added = np.intersect1d(added, allowed)
        if not len(added) or not self._entries:
            return []
        numbers, vectors = view.vectors(added)
        return self._insert(numbers, vectors)

    def _insert(self, numbers: np.ndarray, vectors: np.ndarray) -> list[ListEntry]:
        changed = []
        similarities = vectors @ self._vectors[: len(self)].T
        inside = similarities > self._radii[: len(self)] - _ROUNDING  # (chunks, entries)
        for slot in np.flatnonzero(inside.any(axis=0)):
            entry = self._entries[slot]
            entry = entry._replace(chunks=np.union1d(entry.chunks, numbers[inside[:, slot]]))
            self._entries[slot] = entry
            changed.append(entry)
        return changed

    def _nearby(self, slots: np.ndarray, similarities: np.ndarray, bound: float) -> Nearby:
        slots = slots[np.argsort(-similarities[slots], kind="stable")]
        entries = [self._entries[slot] for slot in slots]
        chunks = entries[0].chunks
        if len(entries) > 1:
            chunks = np.unique(np.concatenate([entry.chunks for entry in entries]))
        texts = tuple(entry.text for entry in entries)
        return Nearby(texts[0], float(similarities[slots[0]]), chunks, bound, texts)

    def _similarities(self, query: np.ndarray) -> np.ndarray:
        return self._vectors[: len(self)] @ query

    def _reserve(self, count: int, dimension: int) -> None:
        if count > len(self._radii):
            used = count - 1
            vectors = np.zeros((max(2 * used, 16), dimension), np.float32)
            radii = np.zeros(len(vectors))
            if used:
                vectors[:used], radii[:used] = self._vectors[:used], self._radii[:used]
            self._vectors, self._radii = vectors, radii
