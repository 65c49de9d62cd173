"""The dense lists of past queries, kept right while chunks come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from indexer.scoring import exact_scores, inner_products
from retriever.cache_vectors import QueryVectors
from retriever.certificate import bound_outside, single_bounds
from retriever.corpus import CorpusView, Version
from retriever.packed_numbers import PackedNumbers

NUM_TOP_SCORES = 64

# A chunk is put on a list if its similarity may exceed the list's radius, however the product was rounded.
_ROUNDING = 1e-4
_CHOICE = 32  # past queries that a proof may be made of: those that prove the most each by itself
_HOPE = 0.25  # more than that no proof has been seen to gain from further lists
_MOST_PAIRS = 1 << 27  # of newcomers and lists that are compared at once: half a second's work, or about
_MOST_NEWCOMERS = 1 << 17  # that are compared at all: reading so many vectors takes as long
_PAIRS_PER_PRODUCT = 1 << 24  # 64 MB
_ROWS_PER_PRODUCT = 1 << 14  # 25 MB of vectors of 384 dimensions
_MOST_INSERTED = 1 << 23  # numbers to be put on lists: 64 MB
_NEARER = 0.02  # by so much may the k best be nearer to a new query than they were to a past one
_CLEARLY = 0.05  # below the k best: a proof that far on needs no further lists
_SPARSE = 256  # numbers up to so many times as many as there are on the lists are marked, not sorted


class ListEntry(NamedTuple):
    """A query and every chunk whose similarity to it is above `radius`, as far as they still exist.

    Where the search did not compare all vectors, one may be missing: such a list proves nothing.
    """

    text: str
    vector: np.ndarray  # (dimension,) float32
    chunks: PackedNumbers  # m chunk numbers
    radius: float  # -inf if every chunk is on the list
    top_scores: np.ndarray  # (up to NUM_TOP_SCORES,) float32: the best similarities when the list was made
    is_exact: bool = True  # whether the search compared all vectors

    @property
    def size(self) -> int:
        """Bytes, about; the vector is in the table's matrices as well."""
        return 3 * self.vector.nbytes + self.chunks.nbytes + self.top_scores.nbytes + 4 * len(self.text) + 400

    def kth_score(self, k: int) -> float:
        """The similarity that the k-th best chunk had, or the worst that is known; -inf if all had gone."""
        return float(self.top_scores[min(k, len(self.top_scores)) - 1]) if len(self.top_scores) else -np.inf


class Nearby(NamedTuple):
    """Past queries near a new one, and what their lists hold."""

    text: str  # of the nearest of them
    similarity: float  # of the nearest to the new query
    chunks: np.ndarray  # (m,) int64: what is on any of their lists
    bound: float  # no chunk on none of the lists is more similar to the new query; inf if nothing is proven
    texts: tuple[str, ...]  # of all of them
    # A chunk on none of the lists has at most the similarity `explained` + `rest` * (its cosine with the part
    # of the new query that the past ones do not explain).
    explained: float = 0.0
    rest: float = 1.0

    def alignment(self, similarity: float) -> float:
        """That cosine, for a chunk of this similarity; above 1 no chunk has it. See cache_calibration.py."""
        return (similarity - self.explained) / self.rest


class Followed(NamedTuple):
    """What became of lists when the corpus grew."""

    grown: list[ListEntry]
    overgrown: list[str]  # texts of those that would be too long; they are not right any more


class ListTable:
    """The lists of all queries that were asked under the same filters of the same embedder."""

    def __init__(self, version: Version, *, vectors: QueryVectors | None = None) -> None:
        self.version = version  # the state of the corpus that the lists are right for
        self._entries: list[ListEntry] = []
        self._slots: dict[str, int] = {}  # by text
        self._complete: set[str] = set()  # texts of those whose list holds every chunk
        self._vectors = vectors if vectors is not None else QueryVectors()
        self._radii = np.zeros(0)  # (capacity,)
        self._exact = np.zeros(0, bool)  # (capacity,)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[ListEntry]:
        return iter(self._entries)

    @property
    def dimension(self) -> int | None:
        """The length of the vectors; None while there are none."""
        return len(self._entries[0].vector) if self._entries else None

    def length(self, text: str) -> int:
        """How many chunks are on an entry's list."""
        return len(self._entries[self._slots[text]].chunks)

    def put(self, entry: ListEntry) -> None:
        """Adds an entry, in place of an earlier one for the same text."""
        slot = self._slots.get(entry.text)
        if slot is None:
            slot = len(self._entries)
            self._entries.append(entry)
            self._slots[entry.text] = slot
            self._vectors.append(entry.vector)
            if slot >= len(self._radii):
                self._radii = np.concatenate([self._radii, np.zeros(max(slot, 16))])
                self._exact = np.concatenate([self._exact, np.zeros(max(slot, 16), bool)])
        else:
            self._entries[slot] = entry
            self._vectors.replace(slot, entry.vector)
        self._radii[slot], self._exact[slot] = entry.radius, entry.is_exact
        if entry.radius == -np.inf and entry.is_exact:
            self._complete.add(entry.text)
        else:
            self._complete.discard(entry.text)

    def remove(self, text: str) -> None:
        """Drops an entry, if it is there."""
        slot = self._slots.pop(text, None)
        if slot is None:
            return
        self._complete.discard(text)
        self._vectors.remove(slot)
        last = self._entries.pop()
        if last.text != text:  # the last one moves into the gap
            self._entries[slot] = last
            self._slots[last.text] = slot
            self._radii[slot], self._exact[slot] = last.radius, last.is_exact

    def best_certificate(self, query: np.ndarray, *, k: int, max_lists: int) -> Nearby | None:
        """The up to `max_lists` entries that together prove the most about a query.

        None where that is hopeless: they prove nothing, or only what is clearly more similar to this query
        than the k best chunks were to the nearest past one.
        """
        if not self._entries:
            return None
        if self._complete:  # a list of all chunks needs no other
            return self._complete_list(query)
        slots, similarities = self._vectors.near(query)
        exact = self._exact[slots]
        if not exact.all():
            slots, similarities = slots[exact], similarities[exact]
        alone = single_bounds(similarities, self._radii[slots])
        if len(alone) > _CHOICE:
            best = np.argpartition(alone, _CHOICE - 1)[:_CHOICE]
            slots, similarities, alone = slots[best], similarities[best], alone[best]
        if not len(slots):
            return None
        kth, best_alone = self._entries[slots[similarities.argmax()]].kth_score(k), float(alone.min())
        if best_alone > min(kth + _HOPE, 1 - 1e-9):
            return None
        if best_alone < kth - _CLEARLY:
            max_lists = 1
        slots, similarities = slots[alone < 1], similarities[alone < 1]
        rows, radii = self._vectors.rows[slots], self._radii[slots]
        bound, weights = bound_outside(query, rows, radii, max_lists=max_lists)
        slots, similarities = slots[weights > 0], similarities[weights > 0]
        if not len(slots):
            return None
        if bound >= self._entries[slots[similarities.argmax()]].kth_score(k) + _NEARER:
            return None
        return self._nearby(slots, similarities, bound)

    def similar(
        self, query: np.ndarray, *, threshold: float, accept: Callable[[str], bool], max_lists: int
    ) -> Nearby | None:
        """The up to `max_lists` nearest entries of at least a similarity whose texts are acceptable.

        Nothing is proven of what is on none of their lists: the bound is infinite.
        """
        if not self._entries:
            return None
        slots, similarities = self._vectors.near(query)
        slots, similarities = slots[similarities >= threshold], similarities[similarities >= threshold]
        order = np.argsort(-similarities, kind="stable")[:max_lists]
        kept = [i for i in order.tolist() if accept(self._entries[slots[i]].text)]
        if not kept:
            return None
        slots, similarities = slots[kept], similarities[kept]
        nearby = self._nearby(slots, similarities, np.inf)
        if np.isneginf(self._radii[slots]).any():  # one of the lists holds every chunk
            return nearby._replace(explained=-np.inf)
        bound, weights = bound_outside(query, self._vectors.rows[slots], self._radii[slots])
        rest = float(np.linalg.norm(query - weights @ self._vectors.rows[slots]))
        return nearby._replace(explained=bound - rest, rest=max(rest, 1e-6))

    def clear(self) -> None:
        """Drops all entries."""
        self._entries.clear()
        self._slots.clear()
        self._complete.clear()
        self._vectors.clear()

    def follow(self, view: CorpusView, allowed: np.ndarray | None, *, max_length: int) -> Followed | None:
        """Brings the lists to the state of a view. What became of those that grew; None if all had to be
        dropped.

        A chunk that went simply is not there when a list is read. One that came is put on the lists that it
        could be missed on; on all others its similarity is below the radius, and they stay as they are. Where
        so much came that comparing it all would hold up the searches, asking again costs less.
        """
        added = view.added_since(self.version)
        self.version = view.version
        if added is not None and allowed is not None:
            added = np.intersect1d(added, allowed)
        # None: the state is too old, or another corpus's
        if added is None or (self._entries and not self._are_few(added)):
            self.clear()
            return None
        if not len(added) or not self._entries:
            return Followed([], [])
        followed = self._insert(view, added, max_length)
        if followed is None:
            self.clear()
        return followed

    def tighten(self, view: CorpusView, text: str, length: int, allowed: np.ndarray | None) -> ListEntry:
        """Shortens a list that has grown: to what still is there, and of that to the best `length` chunks.

        No search is needed: a list of all above its radius is a list of all above a higher one.
        """
        entry = self._entries[self._slots[text]]
        numbers = entry.chunks.unpacked()
        if allowed is not None:
            numbers = np.intersect1d(numbers, allowed)
        numbers, vectors = view.vectors(numbers)
        scores = exact_scores(vectors, entry.vector)
        order = np.argsort(-scores, kind="stable")
        radius = entry.radius
        if len(order) > length:  # some may have been put on the list from a little below its radius
            radius = max(radius, float(scores[order[length - 1]]))
        entry = entry._replace(
            chunks=PackedNumbers(numbers[order[:length]]),
            radius=radius,
            top_scores=scores[order[:NUM_TOP_SCORES]],
        )
        self.put(entry)
        return entry

    def _are_few(self, added: np.ndarray) -> bool:
        return len(added) <= _MOST_NEWCOMERS and len(added) * len(self._entries) <= _MOST_PAIRS

    def _insert(self, view: CorpusView, added: np.ndarray, max_length: int) -> Followed | None:
        newcomers: dict[int, list[np.ndarray]] = {}  # by slot
        lengths = np.array([len(entry.chunks) for entry in self._entries])
        num_inserted = 0
        step = max(min(_PAIRS_PER_PRODUCT // len(self._entries), _ROWS_PER_PRODUCT), 1)
        for start in range(0, len(added), step):
            numbers, vectors = view.vectors(added[start : start + step])
            similarities = inner_products(vectors, self._vectors.rows)
            inside = similarities > self._radii[: len(self)] - _ROUNDING  # (chunks, entries)
            come = inside.sum(axis=0)
            lengths += come
            taken = (come > 0) & (lengths <= max_length)
            num_inserted += int(come[taken].sum())
            if num_inserted > _MOST_INSERTED:
                return None
            for slot in np.flatnonzero(taken).tolist():
                newcomers.setdefault(slot, []).append(numbers[inside[:, slot]])
        overgrown = np.flatnonzero(lengths > max_length).tolist()
        for slot in newcomers.keys() - set(overgrown):
            entry = self._entries[slot]
            together = union([entry.chunks.unpacked(), *newcomers[slot]])
            self._entries[slot] = entry._replace(chunks=PackedNumbers(together))
        return Followed(
            grown=[self._entries[slot] for slot in newcomers.keys() - set(overgrown)],
            overgrown=[self._entries[slot].text for slot in overgrown],
        )

    def _complete_list(self, query: np.ndarray) -> Nearby:
        slots, similarities = self._vectors.near(query)
        complete = np.isneginf(self._radii[slots]) & self._exact[slots]
        if not complete.any():  # none of those that are near
            slots = np.array([self._slots[next(iter(self._complete))]])
            similarities = self._vectors.rows[slots] @ query
            complete = np.array([True])
        nearest = np.flatnonzero(complete)[np.argmax(similarities[complete])]
        return self._nearby(slots[nearest, None], similarities[nearest, None], -np.inf)

    def _nearby(self, slots: np.ndarray, similarities: np.ndarray, bound: float) -> Nearby:
        order = np.argsort(-similarities, kind="stable")
        entries = [self._entries[slot] for slot in slots[order]]
        lists = [entry.chunks.unpacked() for entry in entries]
        chunks = union(lists) if len(lists) > 1 else lists[0]
        texts = tuple(entry.text for entry in entries)
        return Nearby(texts[0], float(similarities[order[0]]), chunks, bound, texts)


def union(lists: Sequence[np.ndarray]) -> np.ndarray:
    """(m,) int64 numbers that are on any list, rising.

    Numbers are given one after the other, so marking them takes a fraction of the time of sorting them, which
    is the rest of a look-up several times over.
    """
    numbers = np.concatenate(lists)
    if not len(numbers) or numbers.max() > _SPARSE * len(numbers):
        return np.unique(numbers).astype(np.int64)
    marked = np.zeros(int(numbers.max()) + 1, bool)
    marked[numbers] = True
    return np.flatnonzero(marked)
