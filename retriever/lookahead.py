"""Retrieval ahead of the question: what is likely to be asked next is searched for while others think."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self

from indexer.types import Filters
from retriever.blas_threads import keep_to_this_thread
from retriever.lookahead_gate import PrefetchGate
from retriever.lookahead_sources import LookaheadSource, QueuedQueries, collapsed
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

_log = logging.getLogger("retriever.lookahead")


@dataclass(frozen=True, slots=True)
class LookaheadStats:
    """What a LookaheadRetriever has done so far."""

    prefetched: int  # searches that were made ahead; each ends as used or wasted, or is held
    used: int
    wasted: int  # among them those that failed
    stale: int  # of the wasted ones: asked for after the index had changed
    held: int
    seconds_saved: float  # that callers did not wait
    seconds_wasted: float
    gate_open: tuple[bool, ...]  # by source: `expect`'s queue, then those given
    failed_sources: int  # raised something, and are not asked again


class _Key(NamedTuple):
    """Equal keys are the same search: the retriever itself collapses white space."""

    text: str
    options: SearchOptions


@dataclass(slots=True)
class _Feed:
    """A source and what its queries were worth."""

    source: LookaheadSource
    gate: PrefetchGate
    failed: bool = False


@dataclass(slots=True, eq=False)
class _Prefetch:
    """A result that is being or was retrieved ahead."""

    key: _Key
    feed: _Feed
    made: int  # how many queries had been asked by then
    outcome: Future[SearchResult] = field(default_factory=Future)
    version: Any = None  # of the index, from before the search
    seconds: float = 0.0  # its share of the search
    finished: bool = False
    given_up: bool = False  # while it was running
    settled: bool = False  # counted as used or wasted


class LookaheadRetriever:
    """Answers `get` from results that one background thread retrieved before they were asked for.

    After every query, the sources are asked for up to `window` next ones, which are searched for in one
    batch; it begins when no caller's search is running, so that it holds up none. A result is handed out only
    for the same query and options, and only while the index is in the state in which it was searched; to all
    who wait for it or ask at the same time, and then it is held no longer. What failed ahead is never handed
    out: whoever asks for that query searches, and gets what the search raises. Each source has a gate that
    closes when its guesses cost more than they spare. Close it, or use it as a context manager.
    """

    def __init__(
        self,
        retriever: BatchSearcher,
        *,
        window: int = 3,
        sources: Sequence[LookaheadSource] = (),
        keep_for: int = 8,
        max_held: int = 64,
        load: Callable[[], float] = lambda: 0.0,
        gates: Sequence[PrefetchGate] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """A result not asked for within `keep_for` queries is dropped, and the oldest beyond `max_held`; both
        are at least `window`.

        `load` says how many others want the processor now (a BatchPrefetcher's `stats().waiting`). `gates`
        are those of `expect`'s queue and of the sources, in this order, for when what they have learnt is to
        outlive this object; a source without one gets a new one.
        """
        check_setting("window", window, minimum=1)
        check_setting("keep_for", keep_for, minimum=window)
        check_setting("max_held", max_held, minimum=window)
        self._retriever = retriever
        self._read_version = version_reader(retriever)
        self._window = window
        self._keep_for = keep_for
        self._max_held = max_held
        self._load = load
        self._clock = clock
        self._queue = QueuedQueries()
        self._changed = threading.Condition()  # guards everything below
        given = iter(gates)
        self._feeds = [
            _Feed(source, next(given, None) or PrefetchGate()) for source in (self._queue, *sources)
        ]
        self._held: dict[_Key, _Prefetch] = {}  # oldest first
        self._asking: Counter[_Key] = Counter()  # callers search for these right now
        self._next_round: SearchOptions | None = None
        self._round_running = False
        self._num_asked = self._num_cancels = 0
        self._num_prefetched = self._num_used = self._num_wasted = self._num_stale = 0
        self._seconds_saved = self._seconds_wasted = 0.0
        self._closed = False
        self._thread: threading.Thread | None = None
        self._keeps_to_thread = False  # its matrix products

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def get(
        self,
        query: str,
        *,
        k: int = 5,
        filters: Filters | None = None,
        use_cache: bool = True,
        look_ahead: bool = True,
    ) -> SearchResult:
        """The result of `Retriever.search`, retrieved ahead or else now; then looks ahead again.

        Without `look_ahead` the caller, who wants the processor first, calls that afterwards. Raises what the
        caller's own search raises, RetrieverClosed and InvalidK.
        """
        key = _Key(collapsed(query), search_options(k, filters, use_cache))
        result: SearchResult | None = None
        with self._asked(key) as prefetch:
            try:
                if prefetch is not None and self._wait_for(prefetch):
                    result = prefetch.outcome.result()
                else:
                    [result] = self._retriever.search_batch([query], **key.options._asdict())
                return result
            finally:
                self._observe(query, result)
                if look_ahead:
                    with self._changed:
                        self._start_round(key.options)

    def expect(
        self, queries: Iterable[str], *, k: int = 5, filters: Filters | None = None, use_cache: bool = True
    ) -> None:
        """Adds queries that will be asked next, in this order, and starts to retrieve them."""
        self._queue.extend(queries)
        self.look_ahead(k=k, filters=filters, use_cache=use_cache)

    def look_ahead(self, *, k: int = 5, filters: Filters | None = None, use_cache: bool = True) -> None:
        """Has the sources asked again, for when one of them knows more. Returns at once.

        Raises RetrieverClosed and InvalidK.
        """
        options = search_options(k, filters, use_cache)
        with self._changed:
            self._check_open()
            self._start_round(options)

    def cancel(self) -> None:
        """Expects nothing any more and drops what is held; a search that is running is not waited for."""
        self._queue.clear()
        with self._changed:
            self._drop_all()

    def wait_until_idle(self, timeout: float | None = None) -> bool:
        """Waits until nothing is being retrieved ahead; False if that took longer than `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._next_round is None and not self._round_running, timeout
            )

    def stats(self) -> LookaheadStats:
        """What was done so far."""
        load = self._load()
        with self._changed:
            return LookaheadStats(
                self._num_prefetched,
                self._num_used,
                self._num_wasted,
                self._num_stale,
                len(self._held),
                self._seconds_saved,
                self._seconds_wasted,
                tuple(not feed.failed and feed.gate.is_open(load) for feed in self._feeds),
                sum(feed.failed for feed in self._feeds),
            )

    def close(self) -> None:
        """Ends the thread, after the search that it is in, and drops what is held."""
        with self._changed:
            self._closed = True
            self._drop_all()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    # --- on the thread of the one who asks

    @contextmanager
    def _asked(self, key: _Key) -> Iterator[_Prefetch | None]:
        """What was retrieved ahead for a query; meanwhile nobody begins to retrieve it ahead."""
        with self._changed:
            self._check_open()
            self._num_asked += 1
            for old in [p for p in self._held.values() if p.made + self._keep_for < self._num_asked]:
                self._drop(old)
            prefetch = self._held.get(key)
            self._asking[key] += 1
        try:
            yield prefetch
        finally:
            with self._changed:
                self._asking[key] -= 1
                if not self._asking[key]:
                    del self._asking[key]
                self._changed.notify_all()

    def _wait_for(self, prefetch: _Prefetch) -> bool:
        """Whether there is a result, once the search has ended, and it is still what one would find now.

        What the search raised says nothing about another one: the retriever may have been busy.
        """
        began = self._clock()
        has_failed = prefetch.outcome.exception() is not None  # waits for the outcome, whichever it is
        waited = self._clock() - began
        is_current = not has_failed and bool(self._read_version() == prefetch.version)
        with self._changed:
            if is_current:
                self._settle(prefetch, saved=max(0.0, prefetch.seconds - waited))
            else:
                self._num_stale += not has_failed and not prefetch.settled
                self._settle(prefetch, saved=None)
        return is_current

    def _observe(self, query: str, result: SearchResult | None) -> None:
        for feed in self._feeds:
            if not feed.failed:
                with _failing_alone(feed):
                    feed.source.observe(query, result)

    # --- with the lock held

    def _check_open(self) -> None:
        if self._closed:
            raise closed("lookahead retriever")

    def _start_round(self, options: SearchOptions) -> None:
        if self._closed:
            return
        self._next_round = options
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="retriever-lookahead", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _drop_all(self) -> None:
        self._num_cancels += 1
        self._next_round = None
        for prefetch in list(self._held.values()):
            self._drop(prefetch)

    def _drop(self, prefetch: _Prefetch) -> None:
        """Holds it no longer. What is still running is counted when it ends."""
        del self._held[prefetch.key]
        prefetch.given_up = True
        if prefetch.finished:
            self._settle(prefetch, saved=None)

    def _settle(self, prefetch: _Prefetch, *, saved: float | None) -> None:
        """Counts what became of a finished result: the seconds that it saved, or None if it was no use."""
        if prefetch.settled:
            return
        prefetch.settled = True
        if self._held.get(prefetch.key) is prefetch:
            del self._held[prefetch.key]
        if saved is not None:
            self._num_used += 1
            self._seconds_saved += saved
            prefetch.feed.gate.used(saved, prefetch.seconds)
        else:
            self._num_wasted += 1
            self._seconds_wasted += prefetch.seconds
            prefetch.feed.gate.unused(prefetch.seconds)

    def _hold(self, feed: _Feed, keys: Iterable[_Key]) -> list[_Prefetch]:
        """Registers what is about to be retrieved, for `get` to wait for it."""
        begun = [_Prefetch(key, feed, self._num_asked) for key in keys]
        self._held |= {prefetch.key: prefetch for prefetch in begun}
        while len(self._held) > self._max_held:
            self._drop(next(iter(self._held.values())))
        return begun

    # --- on the background thread

    def _work(self) -> None:
        while True:
            with self._changed:
                self._round_running = False
                self._changed.notify_all()
                self._changed.wait_for(
                    lambda: self._closed or (self._next_round is not None and not self._asking)
                )
                if self._closed or self._next_round is None:
                    return
                options, self._next_round, self._round_running = self._next_round, None, True
                num_cancels = self._num_cancels
            self._round(options, num_cancels)

    def _round(self, options: SearchOptions, num_cancels: int) -> None:
        planned: list[_Prefetch] = []
        outcomes: Sequence[SearchResult | BaseException] = ()
        self._keeps_to_thread = self._keeps_to_thread or keep_to_this_thread()
        version, began = self._read_version(), self._clock()
        try:
            for prefetch in self._plan(options, num_cancels):
                planned.append(prefetch)  # one by one: what is begun has to be finished, whatever comes
            began = self._clock()
            if planned:
                outcomes = search_each(self._retriever, [prefetch.key.text for prefetch in planned], options)
        except BaseException as error:  # noqa: BLE001  whatever it is, nobody may be left waiting
            _log.exception("A round of looking ahead failed.")
            outcomes = [error] * len(planned)
        self._finish(planned, outcomes, version, self._clock() - began)

    def _plan(self, options: SearchOptions, num_cancels: int) -> Iterator[_Prefetch]:
        """What to retrieve now: what the sources expect and the gates admit, and is not there already."""
        load, room = self._load(), self._window
        for feed in self._feeds:
            if feed.failed or room <= 0:
                continue
            texts: list[str] = []
            with _failing_alone(feed):
                texts = [collapsed(query) for query in feed.source.expected(room)][:room]
            keys = dict.fromkeys(_Key(text, options) for text in texts)
            with self._changed:
                if self._num_cancels != num_cancels:
                    return
                new = [key for key in keys if key not in self._held and key not in self._asking]
                admitted = feed.gate.admit(len(new), load)
                begun = self._hold(feed, new[:admitted])
            yield from begun
            room -= len(keys) - len(new) + admitted

    def _finish(
        self,
        planned: Sequence[_Prefetch],
        outcomes: Sequence[SearchResult | BaseException],
        version: Any,
        seconds: float,
    ) -> None:
        with self._changed:
            self._num_prefetched += len(planned)
            for prefetch in planned:
                prefetch.version, prefetch.seconds, prefetch.finished = version, seconds / len(planned), True
                if prefetch.given_up:
                    self._settle(prefetch, saved=None)
        for prefetch, outcome in zip(planned, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                prefetch.outcome.set_exception(outcome)
            else:
                prefetch.outcome.set_result(outcome)


@contextmanager
def _failing_alone(feed: _Feed) -> Iterator[None]:
    """A source that raises is logged, counted and not asked again; queries go on without it."""
    try:
        yield
    except Exception:  # noqa: BLE001  a guess that fails is no reason to fail the query
        _log.exception("A source of expected queries failed: %r", feed.source)
        feed.failed = True
