"""Many callers, few searches: queries that come together are embedded and searched for together."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import Any, NamedTuple, Self

from indexer.types import Filters
from retriever.errors import RetrieverBusy, SearchTimedOut
from retriever.prefetching import (
    BatchSearcher,
    SearchOptions,
    check_setting,
    closed,
    search_each,
    search_options,
    version_reader,
)
from retriever.types import SearchResult

_log = logging.getLogger("retriever.batching")

_WEIGHT = 1 / 3  # of the newest gap between arrivals: after a burst, one lone query is held back and no more
_QUIET_GAPS = 4.0  # short gaps without an arrival after which a burst is over: 98% are shorter if memoryless


@dataclass(frozen=True, slots=True)
class BatchStats:
    """What a BatchPrefetcher has done so far."""

    batches: int  # calls of search_batch that were planned; retries of a failed one are not counted
    searched: int  # queries in them
    shared: int  # callers that got the result of another caller's query
    waiting: int  # callers without a result as yet


class Arrivals:
    """Learns from the gaps between queries whether another one is worth waiting for, and how long.

    Queries come in bursts (clients that got their answers together ask again together), so a mean gap says
    little. What is learned is how often a gap is short, that is within the longest wait, and how long the
    short ones are.
    """

    def __init__(self, longest_wait: float) -> None:
        """`longest_wait`: seconds."""
        self._longest_wait = longest_wait
        self._chance = 0.0  # that a gap is short
        self._short_gap = 0.0  # seconds
        self._last = -math.inf

    def arrived(self, now: float) -> None:
        """Takes note of a query."""
        gap = max(0.0, now - self._last)
        self._last = now
        if gap <= self._longest_wait:
            self._chance += _WEIGHT * (1 - self._chance)
            self._short_gap += _WEIGHT * (gap - self._short_gap)
        else:
            self._chance -= _WEIGHT * self._chance

    def hold_until(self, oldest: float) -> float:
        """The moment up to which to hold back a batch whose oldest query came at `oldest`."""
        if self._chance < 0.5:
            return oldest
        return min(oldest + self._longest_wait, self._last + _QUIET_GAPS * self._short_gap)


class _Key(NamedTuple):
    """Equal keys are the same search."""

    query: str
    options: SearchOptions


@dataclass(slots=True)
class _Job:
    """A search and those who wait for it."""

    key: _Key
    arrived: float
    callers: list[Future[SearchResult]]
    late: list[Future[SearchResult]] = field(default_factory=list)  # came when it was running already


class BatchPrefetcher:
    """Groups the queries of many threads into few `search_batch` calls, made by threads of its own.

    While a batch is searched for, the next one gathers, so batches grow with the load and a query that finds
    a thread idle starts at once. With two threads, one batch is embedded while another is searched for. Only
    when queries have lately come within `max_wait_ms` of each other is
    one held back, for no longer than that, until the burst is over. Close it, or use it as a context manager.
    """

    def __init__(
        self,
        retriever: BatchSearcher,
        *,
        batch_size: int = 8,
        max_wait_ms: float = 1.0,
        max_waiting: int = 1024,
        num_workers: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Up to `max_waiting` callers may be without a result at a time, and `num_workers` batches be
        searched for. `clock` gives seconds.
        """
        check_setting("batch_size", batch_size, minimum=1)
        check_setting("max_wait_ms", max_wait_ms, minimum=0)
        check_setting("max_waiting", max_waiting, minimum=1)
        check_setting("num_workers", num_workers, minimum=1)
        self._retriever = retriever
        self._read_version = version_reader(retriever)
        self._batch_size = batch_size
        self._max_waiting = max_waiting
        self._num_workers = num_workers
        self._clock = clock
        self._changed = threading.Condition()  # guards everything below
        self._arrivals = Arrivals(max_wait_ms / 1000)
        self._waiting: dict[_Key, _Job] = {}  # oldest first
        self._running: dict[_Key, _Job] = {}  # may still be joined
        self._num_callers = 0
        self._num_batches = self._num_searched = self._num_shared = 0
        self._closed = False
        self._num_idle = 0  # threads that wait for something to do
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def index(self) -> Any:
        """The retriever's index, if it has one: its state says whether a result is still current."""
        return getattr(self._retriever, "index", None)

    def search(
        self,
        query: str,
        *,
        k: int = 5,
        filters: Filters | None = None,
        use_cache: bool = True,
        timeout: float | None = None,
    ) -> SearchResult:
        """`Retriever.search`, together with what other threads search for. `timeout`: seconds.

        Raises what that raises for this query, SearchTimedOut, and what `submit` raises.
        """
        future = self.submit(query, k=k, filters=filters, use_cache=use_cache)
        try:
            if not wait([future], timeout).done and future.cancel():
                raise SearchTimedOut(
                    f"The search took longer than {timeout:g} seconds.", hint="Try again, or allow more time."
                )
            return future.result()
        finally:
            future.cancel()  # for a caller that was interrupted; without effect on a result

    def search_batch(
        self,
        queries: Sequence[str],
        *,
        k: int = 5,
        filters: Filters | None = None,
        use_cache: bool = True,
    ) -> list[SearchResult]:
        """`search` for several queries: so a LookaheadRetriever can stand before this as before a retriever.

        Raises what the first that fails raises.
        """
        futures: list[Future[SearchResult]] = []
        try:
            for query in queries:
                futures.append(self.submit(query, k=k, filters=filters, use_cache=use_cache))
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()  # those that nobody waits for any more; without effect on a result

    def submit(
        self, query: str, *, k: int = 5, filters: Filters | None = None, use_cache: bool = True
    ) -> Future[SearchResult]:
        """Queues a query and returns at once; the result, or what the search raised, comes in the future.

        The future can be cancelled until then. Raises RetrieverBusy, RetrieverClosed and InvalidK.
        """
        key = _Key(query, search_options(k, filters, use_cache))
        future: Future[SearchResult] = Future()
        with self._changed:
            if self._closed:
                raise closed("batch prefetcher")
            self._take_place()
            self._arrivals.arrived(now := self._clock())
            if (job := self._waiting.get(key)) is not None:
                job.callers.append(future)
            elif (job := self._running.get(key)) is not None:
                job.late.append(future)
            else:
                self._waiting[key] = _Job(key, now, [future])
            if not self._num_idle and len(self._threads) < self._num_workers:
                thread = threading.Thread(target=self._work, name="retriever-batches", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify_all()
        return future

    def stats(self) -> BatchStats:
        """What was done so far."""
        with self._changed:
            return BatchStats(self._num_batches, self._num_searched, self._num_shared, self._num_callers)

    def close(self) -> None:
        """Takes no more queries, searches for those it has taken, and ends the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            threads = list(self._threads)
        if threading.current_thread() not in threads:  # else a callback closes it: they end by themselves
            for thread in threads:
                thread.join()

    # --- with the lock held

    def _take_place(self) -> None:
        if self._num_callers >= self._max_waiting:
            self._drop_cancelled()
        if self._num_callers >= self._max_waiting:
            raise RetrieverBusy(
                f"{self._max_waiting} searches are waiting already.", hint="Send the query again in a moment."
            )
        self._num_callers += 1

    def _drop_cancelled(self) -> None:
        """Forgets callers that gave up, and searches that nobody waits for any more."""
        for job in list(self._waiting.values()):
            gone = [future for future in job.callers if future.cancelled()]
            for future in gone:
                future.set_running_or_notify_cancel()  # tells those who wait for several futures
                job.callers.remove(future)
            self._num_callers -= len(gone)
            if not job.callers:
                del self._waiting[job.key]

    def _take_batch(self) -> list[_Job]:
        """The oldest waiting search and those that can be made with it, by the length of their queries."""
        self._drop_cancelled()
        if not self._waiting:
            return []
        options = next(iter(self._waiting)).options
        fitting = (job for job in self._waiting.values() if job.key.options == options)
        batch = sorted(islice(fitting, self._batch_size), key=lambda job: len(job.key.query))
        self._running |= {job.key: self._waiting.pop(job.key) for job in batch}
        self._num_batches += 1
        self._num_searched += len(batch)
        return batch

    def _end_joining(self, batch: Sequence[_Job]) -> None:
        """From here on nobody joins these searches."""
        for job in batch:
            if self._running.get(job.key) is job:
                del self._running[job.key]

    def _put_back(self, job: _Job) -> None:
        """Queues the callers that came while a search was running, for one that begins after they came."""
        waiting = self._waiting.setdefault(job.key, _Job(job.key, job.arrived, []))
        waiting.callers.extend(job.late)

    # --- on the threads

    def _work(self) -> None:
        batch: list[_Job] = []
        try:
            while batch := self._next_batch():
                self._run(batch)
        except BaseException as error:  # noqa: BLE001  whatever it is, nobody may be left waiting
            _log.exception("Searching in batches has ended.")
            with self._changed:
                self._closed = True
                self._end_joining(batch)
                jobs = [*batch, *self._waiting.values()]
                self._waiting = {}
                self._changed.notify_all()
            self._answer([f for job in jobs for f in (*job.callers, *job.late) if not f.done()], error)

    def _next_batch(self) -> list[_Job]:
        """Waits for one; an empty one is the end."""
        with self._changed:
            while True:
                if not self._waiting:
                    if self._closed:
                        return []
                    self._num_idle += 1
                    self._changed.wait()
                    self._num_idle -= 1
                    continue
                oldest = next(iter(self._waiting.values()))
                hold = self._arrivals.hold_until(oldest.arrived) - self._clock()
                if hold > 0 and len(self._waiting) < self._batch_size and not self._closed:
                    self._changed.wait(hold)
                elif batch := self._take_batch():
                    return batch

    def _run(self, batch: Sequence[_Job]) -> None:
        version = self._read_version()
        outcomes = search_each(self._retriever, [job.key.query for job in batch], batch[0].key.options)
        with self._changed:
            self._end_joining(batch)
        # A caller that came late may know of a commit that the search has not seen.
        is_current = any(job.late for job in batch) and self._read_version() == version
        with self._changed:
            for job in batch:
                if is_current:
                    self._num_shared += len(job.late)
                elif job.late:
                    self._put_back(job)
                self._num_shared += len(job.callers) - 1
        for job, outcome in zip(batch, outcomes, strict=True):
            self._answer([*job.callers, *job.late] if is_current else job.callers, outcome)

    def _answer(self, callers: Sequence[Future[SearchResult]], outcome: SearchResult | BaseException) -> None:
        with self._changed:
            self._num_callers -= len(callers)
        for future in callers:
            if not future.set_running_or_notify_cancel():
                continue
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
