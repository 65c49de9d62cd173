"""The retrieval cache: what past queries can tell about a new one, and how sure that is.

Three tiers, cheapest first; docs/retrieval.md has the proofs.

- exact: the same query was asked of the same state of the corpus. Answered before anything is embedded.
- certified: queries nearby were. Their dense lists, scored anew, provably hold the most similar chunks
  (certificate.py); the lexical list is read afresh; no other chunk can be among the k best of their fusion.
- approximate: as certified, without the proof. The queries are at least `similarity_threshold` alike,
  nothing in their texts says that they ask for different things (cache_guard.py), and what true searches
  have shown of such answers keeps the share of wrong ones within `max_false_hit_rate`
  (cache_calibration.py). Off unless that is set.

An answer from a lower tier is never kept as one of a higher: only the lists of a true search are kept, and
only hits that are those of a true search, or proven to be.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from retriever.cache_age import Ages
from retriever.cache_calibration import NO_AUDIT, Audit, Calibrator, Calibrators, Decision
from retriever.cache_eviction import EvictionLedger
from retriever.cache_guard import may_share
from retriever.cache_keys import (
    CacheKey,
    CalibrationKey,
    ExactKey,
    ListKey,
    Space,
    VectorKey,
    bytes_of_hits,
    bytes_of_list,
    bytes_of_vector,
)
from retriever.cache_lists import NUM_TOP_SCORES, ListEntry, ListTable, Nearby
from retriever.cache_state import Account, CacheState, KeptList, KeptVector, by_state, oldest_first
from retriever.corpus import CorpusView, Version
from retriever.errors import InvalidQueryVector, InvalidRetrievalSettings
from retriever.lists import DenseList
from retriever.packed_numbers import PackedNumbers
from retriever.types import Hit, Tier

_MAX_LISTS = 4  # that are read for one query; beyond, proofs hardly get better
_MOST_GROWTH = 8  # times as long as it was made: reading such a list costs more than a search
_UNIT_TOLERANCE = 1e-3


class _ExactEntry(NamedTuple):
    version: Version
    hits: tuple[Hit, ...]


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
    audit: Audit = NO_AUDIT  # of all approximate answers


class RetrievalCache:
    """Remembers a corpus's results and dense lists under a budget of bytes; safe to share between threads.

    `candidates` is how many chunks a list holds: the knob between memory (1 to 2 bytes each) and how far
    around its query a list can prove anything. `max_false_hit_rate` turns the approximate tier on: the share
    of its answers that may have a recall below `min_recall` of what the true search finds; 1 leaves the
    decision to `similarity_threshold` alone. `audit_share` of its answers are compared with a true search
    afterwards. Entries are dropped when they are `ttl_s` seconds old.
    """

    def __init__(
        self,
        *,
        max_bytes: int = 64 << 20,
        candidates: int = 1000,
        similarity_threshold: float = 0.8,
        max_false_hit_rate: float = 0.0,
        min_recall: float = 0.8,
        audit_share: float = 0.05,
        ttl_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check(candidates >= 1, "candidates", candidates, "at least 1")
        _check(max_bytes >= 0, "max_bytes", max_bytes, "at least 0")
        _check(-1 <= similarity_threshold <= 1, "similarity_threshold", similarity_threshold, "a cosine")
        _check(0 <= max_false_hit_rate <= 1, "max_false_hit_rate", max_false_hit_rate, "a share: 0 to 1")
        _check(0 < min_recall <= 1, "min_recall", min_recall, "a share above 0, up to 1")
        _check(0 < audit_share <= 1, "audit_share", audit_share, "a share above 0, up to 1")
        _check(ttl_s is None or ttl_s > 0, "ttl_s", ttl_s, "None, or more than 0 seconds")
        self.candidates = candidates
        self.similarity_threshold = similarity_threshold
        self.max_false_hit_rate = max_false_hit_rate
        self.min_recall = min_recall
        self.audit_share = audit_share
        self._lock = threading.Lock()
        self._ledger: EvictionLedger[CacheKey] = EvictionLedger(max_bytes)
        self._ages: Ages[CacheKey] = Ages(ttl_s, clock=clock)
        self._exact: dict[ExactKey, _ExactEntry] = {}
        self._vectors: dict[VectorKey, np.ndarray] = {}
        self._tables: dict[Space, ListTable] = {}
        self._calibrators: Calibrators[CalibrationKey] = Calibrators(
            lambda first_number: Calibrator(
                max_false_hit_rate=self.max_false_hit_rate,
                audit_share=self.audit_share,
                first_number=first_number,
            )
        )
        self._newest: Version | None = None  # state of the corpus that was heard of
        self._served: Counter[Tier] = Counter()
        self._evictions = 0
        self._has_changed = False

    def see(self, version: Version) -> None:
        """Told of the state that the corpus is in now, it drops what can never be served again.

        Results of other states are not. Lists of a later state are not either: they are of a corpus that
        another has taken the place of, and would keep that one's lists out.
        """
        with self._lock:
            if version == self._newest:
                return
            is_later = self._newest is None or version.generation > self._newest.generation
            self._newest = version
            for key in [key for key, entry in self._exact.items() if entry.version != version]:
                self._drop(key)
            if is_later:
                return
            for space, table in list(self._tables.items()):
                if table.version.generation > version.generation:
                    for text in [entry.text for entry in table]:
                        self._drop(ListKey(space, text))

    # --- results

    def exact(self, key: ExactKey, version: Version) -> tuple[Hit, ...] | None:
        """The hits of this very query, if the corpus has not changed since."""
        with self._lock:
            self._expire()
            entry = self._exact.get(key)
            if entry is None or entry.version != version:
                return None
            self._ledger.touch(key)
            return entry.hits

    def keep_hits(self, key: ExactKey, version: Version, hits: tuple[Hit, ...], *, seconds: float) -> None:
        """Keeps proven hits; `seconds` is what finding them took, which another hit saves."""
        with self._lock:
            if self._admit(key, size=bytes_of_hits(key, hits), seconds=seconds):
                self._exact[key] = _ExactEntry(version, hits)

    # --- vectors

    def vector(self, key: VectorKey) -> np.ndarray | None:
        """The (dimension,) vector of a query that was embedded before."""
        with self._lock:
            self._expire()
            vector = self._vectors.get(key)
            if vector is not None:
                self._ledger.touch(key)
            return vector

    def keep_vector(self, key: VectorKey, vector: np.ndarray, *, seconds: float) -> None:
        """Keeps a query's vector; `seconds` is what embedding it took. Raises InvalidQueryVector."""
        check_vector(vector)
        with self._lock:
            if self._admit(key, size=bytes_of_vector(key, vector), seconds=seconds):
                self._vectors[key] = np.array(vector, np.float32)  # a view would hold its whole batch

    # --- lists

    def certified(
        self, view: CorpusView, space: Space, query: np.ndarray, *, k: int, max_chunks: int
    ) -> Nearby | None:
        """The past queries whose lists together prove the most about a query in this state of the corpus.

        As many as hold `max_chunks` chunks, but one at least. None if they cannot be hoped to prove the k
        best. Raises InvalidQueryVector.
        """
        with self._lock:
            self._expire()
            table = self._following(view, space)
            check_vector(query, dimension=table.dimension if table is not None else None)
            max_lists = self._max_lists(max_chunks)
            nearby = table.best_certificate(query, k=k, max_lists=max_lists) if table is not None else None
            if nearby is not None and table is not None:
                self._shorten(view, space, table, nearby.texts)
            return self._used(space, nearby)

    def similar(
        self, view: CorpusView, space: Space, text: str, query: np.ndarray, *, max_chunks: int
    ) -> Nearby | None:
        """The most similar past queries, if they are similar enough and seem to ask for the same.

        None while the approximate tier is off. Raises InvalidQueryVector.
        """
        if not self.max_false_hit_rate:
            return None
        with self._lock:
            table = self._following(view, space)
            if table is None:
                return None
            check_vector(query, dimension=table.dimension)
            nearby = table.similar(
                query,
                threshold=self.similarity_threshold,
                accept=lambda past: may_share(text, past),
                max_lists=self._max_lists(max_chunks),
            )
            if nearby is not None:
                self._shorten(view, space, table, nearby.texts)
            return nearby

    def decide(self, key: CalibrationKey, space: Space, nearby: Nearby, *, alignment: float) -> Decision:
        """Whether an answer from past queries is safe enough to be served, and if it is to be audited."""
        with self._lock:
            decision = self._calibrators.of(key).decide(nearby.text, alignment)
            if decision.serve:
                self._used(space, nearby)
            return decision

    def learn(self, key: CalibrationKey, nearby: Nearby, decision: Decision, *, recall: float) -> None:
        """Takes in how much of the true search's hits an answer had, whether it was served or not."""
        with self._lock:
            right = recall >= self.min_recall
            self._calibrators.of(key).learn(nearby.text, decision, right=right)

    def audit(self, key: CalibrationKey) -> Audit:
        """What audits of served approximate answers have found for such requests."""
        with self._lock:
            return self._calibrators.of(key).audit()

    def keep_list(
        self, view: CorpusView, key: ListKey, query: np.ndarray, dense: DenseList, *, seconds: float
    ) -> None:
        """Keeps the dense list of a true search; `seconds` is what the search took. Raises
        InvalidQueryVector."""
        space, text = key
        dense = dense.first(self.candidates)
        top_scores = dense.scores[:NUM_TOP_SCORES].copy()
        is_exact = dense.bound < np.inf
        radius = dense.bound if is_exact else float(dense.scores[-1]) if len(dense.scores) else -np.inf
        vector = np.array(query, np.float32)  # a view would hold its whole batch
        entry = ListEntry(text, vector, PackedNumbers(dense.chunks), radius, top_scores, is_exact)
        with self._lock:
            table = self._following(view, space) if space in self._tables else ListTable(view.version)
            if table is None:
                return
            check_vector(query, dimension=table.dimension)
            if self._admit(key, size=bytes_of_list(key, entry), seconds=seconds):
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
                audit=self._calibrators.audit(),
            )

    def clear(self) -> None:
        """Forgets everything but the counts."""
        with self._lock:
            for key in list(self._ledger):
                self._drop(key)
            self._ledger.forget_past()
            self._calibrators.clear()

    # --- what outlives the process

    @property
    def max_bytes(self) -> int:
        """The budget."""
        return self._ledger.max_bytes

    @property
    def has_changed(self) -> bool:
        """Whether anything has come or gone since `state` or `restore` was last called."""
        return self._has_changed

    def not_saved(self) -> None:
        """Takes back that `state` was called: it has not been saved."""
        with self._lock:
            self._has_changed = True

    def state(self, *, saved_at: float) -> CacheState:
        """The vectors and the lists, to be saved; oldest first."""
        with self._lock:
            self._expire()
            self._has_changed = False
            vectors = [
                KeptVector(key.embedder, key.text, vector, self._account(key))
                for key, vector in self._vectors.items()
            ]
            lists = []
            for space, table in self._tables.items():
                generation, token = table.version.generation, table.version.token
                for entry in table:
                    account = self._account(ListKey(space, entry.text))
                    lists.append(KeptList(space.embedder, space.filters, generation, token, entry, account))
        vectors.sort(key=oldest_first)
        lists.sort(key=oldest_first)
        return CacheState(tuple(vectors), tuple(lists), saved_at)

    def restore(self, state: CacheState, view: CorpusView, *, embedder: str, elapsed_s: float) -> None:
        """Takes in what was saved by one embedder of this corpus, so many seconds ago; the cache is empty.

        What is left out: lists of states that the corpus does not remember, and what is too old or too large.
        """
        with self._lock:
            for kept in state.vectors:
                if kept.embedder == embedder:
                    key = VectorKey(embedder, kept.text)
                    size = bytes_of_vector(key, kept.vector)
                    if self._admit(key, size=size, seconds=kept.account.cost, uses=kept.account.uses):
                        self._vectors[key] = kept.vector
            for (filters, generation, token), lists in by_state(state.lists, embedder).items():
                version = type(view.version)(generation, token)
                if generation > view.version.generation or view.added_since(version) is None:
                    continue
                space = Space(embedder, filters)
                if space in self._tables:  # a table is of one state
                    continue
                table = ListTable(version)
                for kept in lists:
                    if table.dimension not in (None, len(kept.entry.vector)):
                        continue
                    key = ListKey(space, kept.entry.text)
                    size, account = bytes_of_list(key, kept.entry), kept.account
                    if self._admit(key, size=size, seconds=account.cost, uses=account.uses):
                        table.put(kept.entry)
                        self._tables[space] = table
            ages = {VectorKey(kept.embedder, kept.text): kept.account.age_s for kept in state.vectors}
            for kept in state.lists:
                ages[ListKey(Space(kept.embedder, kept.filters), kept.entry.text)] = kept.account.age_s
            for key in sorted(ages, key=lambda key: -ages[key]):
                if key in self._ledger:
                    self._ages.start(key, age_s=ages[key] + elapsed_s)
            self._expire()
            self._has_changed = False

    # --- inside; the lock is held

    def _following(self, view: CorpusView, space: Space) -> ListTable | None:
        """The lists of a space, brought to the state of a view; None if they are of a later state already."""
        table = self._tables.get(space)
        if table is None or table.version == view.version:
            return table
        if table.version.generation > view.version.generation:
            return None
        before = [entry.text for entry in table]
        allowed = view.matching(space.filters)
        followed = table.follow(view, allowed, max_length=_MOST_GROWTH * self.candidates)
        if followed is None:
            for text in before:
                self._forget(ListKey(space, text))
            del self._tables[space]  # it may be the last that is ever heard of these filters
            return table
        for text in followed.overgrown:
            self._drop(ListKey(space, text))
        for entry in followed.grown:
            key = ListKey(space, entry.text)
            self._ledger.resize(key, bytes_of_list(key, entry))
        return table

    def _shorten(self, view: CorpusView, space: Space, table: ListTable, texts: Sequence[str]) -> None:
        """Cuts those lists that have grown to twice their length; only when they are read, as that takes as
        long as reading them, and after a large ingest all of them may have grown."""
        for text in texts:
            if table.length(text) > 2 * self.candidates:
                allowed = view.matching(space.filters)
                key, entry = ListKey(space, text), table.tighten(view, text, self.candidates, allowed)
                self._ledger.resize(key, bytes_of_list(key, entry))

    def _used(self, space: Space, nearby: Nearby | None) -> Nearby | None:
        if nearby is not None:
            for key in (ListKey(space, text) for text in nearby.texts):
                if key in self._ledger:  # it may have gone since it was read
                    self._ledger.touch(key)
        return nearby

    def _max_lists(self, max_chunks: int) -> int:
        return min(max(max_chunks // self.candidates, 1), _MAX_LISTS)

    def _account(self, key: CacheKey) -> Account:
        return Account(*self._ledger.cost_and_uses(key), self._ages.age_s(key))

    def _admit(self, key: CacheKey, *, size: int, seconds: float, uses: int = 1) -> bool:
        evicted = self._ledger.admit(key, size=size, cost=seconds, uses=uses)
        if evicted is None:
            return False
        self._has_changed = True
        self._ages.start(key)
        for gone in evicted:
            self._evictions += 1
            self._drop(gone)
        return True

    def _expire(self) -> None:
        for key in self._ages.expired():
            self._drop(key)

    def _drop(self, key: CacheKey) -> None:
        """Forgets an entry."""
        self._forget(key)
        match key:
            case ExactKey():
                del self._exact[key]
            case VectorKey():
                del self._vectors[key]
            case ListKey():
                table = self._tables[key.space]
                table.remove(key.text)
                if not len(table):
                    del self._tables[key.space]

    def _forget(self, key: CacheKey) -> None:
        """Strikes an entry off the books."""
        self._has_changed = True
        self._ledger.discard(key)
        self._ages.forget(key)


def check_vector(vector: np.ndarray, *, dimension: int | None = None) -> None:
    """Raises InvalidQueryVector for what is no unit vector, or has another length than those kept."""
    if vector.ndim != 1 or not vector.size or dimension not in (None, vector.size):
        raise InvalidQueryVector(
            f"The query's vector has the shape {vector.shape}, ({dimension or 'dimension'},) is needed.",
            hint="Embed the query with the embedder that the index was made with.",
        )
    length = float(np.linalg.norm(vector))
    if not abs(length - 1) <= _UNIT_TOLERANCE:  # NaN is not either
        raise InvalidQueryVector(
            f"The query's vector has the length {length:.6g}, not 1.", hint="Check the embedder."
        )


def _check(ok: bool, name: str, value: object, expected: str) -> None:
    if not ok:
        raise InvalidRetrievalSettings(f"{name} is {value!r}.", hint=f"It has to be {expected}.")
