"""The retrieval cache: what past queries can tell about a new one, and how sure that is.

Three tiers, cheapest first; docs/retrieval.md has the proofs.

- exact: the same query was asked of the same state of the corpus. Answered before anything is embedded.
- certified: queries nearby were. Their dense lists, scored anew, provably hold the most similar chunks
  (certificate.py); the lexical list is read afresh; no other chunk can be among the k best of their fusion.
- approximate: as certified, without the proof. The queries are at least `similarity_threshold` alike, and
  nothing in their texts says that they ask for different things (cache_guard.py). Off unless it is set.

An answer from a lower tier is never kept as one of a higher: only the lists of a true search are kept, and
only hits that are those of a true search, or proven to be.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from indexer.types import Filters
from retriever.cache_eviction import EvictionLedger
from retriever.cache_guard import may_share
from retriever.cache_lists import NUM_TOP_SCORES, ListEntry, ListTable, Nearby
from retriever.corpus import CorpusView, Version
from retriever.errors import InvalidRetrievalSettings
from retriever.lists import DenseList
from retriever.settings import RetrievalSettings
from retriever.types import Hit, Tier

_MAX_LISTS = 8  # that are read for one query; beyond, proofs hardly get better


class Space(NamedTuple):
    """Queries that may share lists: vectors of one embedder, over the chunks that pass the same filters."""

    embedder: str  # fingerprint
    filters: Filters | None


class ExactKey(NamedTuple):
    """All that a result depends on, but for the corpus."""

    space: Space
    text: str
    k: int
    settings: RetrievalSettings


class VectorKey(NamedTuple):
    """A query whose vector is kept, whatever it was asked of."""

    embedder: str
    text: str


class _ExactEntry(NamedTuple):
    version: Version
    hits: tuple[Hit, ...]


class ListKey(NamedTuple):
    """A query whose list is kept."""

    space: Space
    text: str


_Key = ExactKey | ListKey | VectorKey


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What is in a cache and what came of asking it."""

    num_results: int
    num_lists: int
    num_vectors: int
    bytes: int
    max_bytes: int
    evictions: int
    served: Mapping[Tier, int] = field(default_factory=lambda: MappingProxyType({}))


class RetrievalCache:
    """Remembers results and dense lists under a budget of bytes; safe to share between threads.

    `candidates` is how many chunks a list holds: the knob between memory (8 bytes each) and how far around
    its query a list can prove anything. `similarity_threshold` turns the approximate tier on.
    """

    def __init__(
        self,
        *,
        max_bytes: int = 64 << 20,
        candidates: int = 1000,
        similarity_threshold: float | None = None,
    ) -> None:
        if candidates < 1:
            raise InvalidRetrievalSettings(f"candidates is {candidates}.", hint="It has to be at least 1.")
        if max_bytes < 0:
            raise InvalidRetrievalSettings(f"max_bytes is {max_bytes}.", hint="It has to be at least 0.")
        if similarity_threshold is not None and not -1 <= similarity_threshold <= 1:
            raise InvalidRetrievalSettings(
                f"similarity_threshold is {similarity_threshold}.", hint="It is a cosine: between -1 and 1."
            )
        self.candidates = candidates
        self.similarity_threshold = similarity_threshold
        self._lock = threading.Lock()
        self._ledger: EvictionLedger[_Key] = EvictionLedger(max_bytes)
        self._exact: dict[ExactKey, _ExactEntry] = {}
        self._vectors: dict[VectorKey, np.ndarray] = {}
        self._tables: dict[Space, ListTable] = {}
        self._served: Counter[Tier] = Counter()
        self._evictions = 0

    # --- results

    def exact(self, key: ExactKey, version: Version) -> tuple[Hit, ...] | None:
        """The hits of this very query, if the corpus has not changed since."""
        with self._lock:
            entry = self._exact.get(key)
            if entry is None or entry.version != version:
                return None
            self._ledger.touch(key)
            return entry.hits

    def keep_hits(self, key: ExactKey, version: Version, hits: tuple[Hit, ...], *, seconds: float) -> None:
        """Keeps proven hits; `seconds` is what finding them took, which another hit saves."""
        with self._lock:
            if self._admit(key, size=_bytes_of_hits(key, hits), seconds=seconds):
                self._exact[key] = _ExactEntry(version, hits)

    # --- vectors

    def vector(self, key: VectorKey) -> np.ndarray | None:
        """The (dimension,) vector of a query that was embedded before."""
        with self._lock:
            vector = self._vectors.get(key)
            if vector is not None:
                self._ledger.touch(key)
            return vector

    def keep_vector(self, key: VectorKey, vector: np.ndarray, *, seconds: float) -> None:
        """Keeps a query's vector; `seconds` is what embedding it took."""
        with self._lock:
            if self._admit(key, size=vector.nbytes + 4 * len(key.text) + 400, seconds=seconds):
                self._vectors[key] = vector

    # --- lists

    def certified(
        self, view: CorpusView, space: Space, query: np.ndarray, *, k: int, max_chunks: int
    ) -> Nearby | None:
        """The past queries whose lists together prove the most about a query in this state of the corpus.

        As many as hold `max_chunks` chunks, but one at least. None if they cannot be hoped to prove the k
        best.
        """
        max_lists = min(max(max_chunks // self.candidates, 1), _MAX_LISTS)
        with self._lock:
            table = self._following(view, space)
            nearby = table.best_certificate(query, k=k, max_lists=max_lists) if table is not None else None
            return self._used(space, nearby)

    def approximate(self, view: CorpusView, space: Space, text: str, query: np.ndarray) -> Nearby | None:
        """The most similar past query, if it is similar enough and seems to ask for the same."""
        if self.similarity_threshold is None:
            return None
        with self._lock:
            table = self._following(view, space)
            nearby = table.nearest(query) if table is not None else None
            if nearby is None or nearby.similarity < self.similarity_threshold:
                return None
            return self._used(space, nearby) if may_share(text, nearby.text) else None

    def keep_list(
        self, view: CorpusView, key: ListKey, query: np.ndarray, dense: DenseList, *, seconds: float
    ) -> None:
        """Keeps the dense list of a true search; `seconds` is what the search took."""
        space, text = key
        dense = dense.first(self.candidates)
        entry = ListEntry(text, query, dense.chunks, dense.bound, dense.scores[:NUM_TOP_SCORES].copy())
        with self._lock:
            table = self._following(view, space) if space in self._tables else ListTable(view.version)
            if table is None:
                return
            if self._admit(key, size=entry.size, seconds=seconds):
                table.put(entry)
                self._tables[space] = table

    # --- the whole

    def count(self, tier: Tier) -> None:
        """Notes which tier a query was answered from."""
        with self._lock:
            self._served[tier] += 1

    def stats(self) -> CacheStats:
        """Counts and sizes."""
        with self._lock:
            return CacheStats(
                num_results=len(self._exact),
                num_lists=sum(len(table) for table in self._tables.values()),
                num_vectors=len(self._vectors),
                bytes=self._ledger.total_bytes,
                max_bytes=self._ledger.max_bytes,
                evictions=self._evictions,
                served=MappingProxyType(dict(self._served)),
            )

    def clear(self) -> None:
        """Forgets everything but the counts."""
        with self._lock:
            for key in list(self._ledger):
                self._ledger.discard(key)
            self._exact.clear()
            self._vectors.clear()
            self._tables.clear()

    # --- inside; the lock is held

    def _following(self, view: CorpusView, space: Space) -> ListTable | None:
        """The lists of a space, brought to the state of a view; None if they are of a later state already."""
        table = self._tables.get(space)
        if table is None or table.version == view.version:
            return table
        if table.version.generation > view.version.generation:
            return None
        before = [entry.text for entry in table]
        grown = table.follow(view, view.matching(space.filters))
        if grown is None:
            for text in before:
                self._ledger.discard(ListKey(space, text))
            return table
        for entry in grown:
            key = ListKey(space, entry.text)
            if (
                len(entry.chunks) > 2 * self.candidates
            ):  # so much came near it that a new search serves better
                self._ledger.discard(key)
                self._drop_list(key)
            else:
                self._ledger.resize(key, entry.size)
        return table

    def _used(self, space: Space, nearby: Nearby | None) -> Nearby | None:
        if nearby is not None:
            for text in nearby.texts:
                self._ledger.touch(ListKey(space, text))
        return nearby

    def _admit(self, key: _Key, *, size: int, seconds: float) -> bool:
        evicted = self._ledger.admit(key, size=size, cost=seconds)
        if evicted is None:
            return False
        for gone in evicted:
            self._evictions += 1
            match gone:
                case ExactKey():
                    del self._exact[gone]
                case VectorKey():
                    del self._vectors[gone]
                case ListKey():
                    self._drop_list(gone)
        return True

    def _drop_list(self, key: ListKey) -> None:
        table = self._tables[key.space]
        table.remove(key.text)
        if not len(table):
            del self._tables[key.space]


def _bytes_of_hits(key: ExactKey, hits: tuple[Hit, ...]) -> int:
    """About what a result occupies: a character may take 4 bytes, and each object some 50."""
    texts = sum(len(hit.chunk.text) + sum(map(len, hit.chunk.uris)) for hit in hits)
    return 4 * (len(key.text) + texts) + 1000 * (1 + len(hits))
