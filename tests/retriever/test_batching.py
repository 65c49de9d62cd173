"""Every caller gets its own result, in as few searches as the moment allows, and no thread is left over."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future

import pytest
from fakes import PATIENCE, FakeCorpus, FakeRetriever, found, make_retriever, result_of

from indexer.types import Filters
from retriever import BatchPrefetcher, LookaheadRetriever, SearchResult
from retriever.errors import (
    EmptyQuery,
    InvalidK,
    InvalidRetrievalSettings,
    RetrieverBusy,
    RetrieverClosed,
    SearchTimedOut,
)

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


class Clock:
    """Stands still unless it is moved, so a batch that is held back waits until something else ends it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.looks = threading.Semaphore(0)  # released when another thread than the test's reads the clock

    def __call__(self) -> float:
        if threading.current_thread() is not threading.main_thread():
            self.looks.release()
        return self.now


@pytest.fixture
def retriever():
    return FakeRetriever()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def batcher(retriever):
    with BatchPrefetcher(retriever, batch_size=4, max_wait_ms=0) as batcher:
        yield batcher
        retriever.gate.set()


def busy(batcher, retriever) -> Future[SearchResult]:
    """Occupies the thread until the gate is opened."""
    retriever.gate.clear()
    future = batcher.submit("busy")
    assert retriever.entered.acquire(timeout=PATIENCE)
    return future


# --- grouping


def test_a_lone_query_starts_at_once(retriever, clock):
    with BatchPrefetcher(retriever, max_wait_ms=3_600_000, clock=clock) as batcher:
        assert batcher.search("a", timeout=PATIENCE) == result_of("a")
    assert retriever.batches == [["a"]]


def test_what_comes_while_one_batch_runs_is_the_next_one_ordered_by_length(batcher, retriever):
    first = busy(batcher, retriever)
    futures = {query: batcher.submit(query) for query in ("four", "a", "two")}
    assert not any(future.done() for future in (first, *futures.values()))
    retriever.gate.set()
    assert {query: future.result(PATIENCE) for query, future in futures.items()} == {
        query: result_of(query) for query in futures
    }
    assert retriever.batches == [["busy"], ["a", "two", "four"]]


def test_a_batch_is_no_larger_than_its_size_and_the_oldest_go_first(batcher, retriever):
    busy(batcher, retriever)
    futures = [batcher.submit(str(i)) for i in range(10)]
    retriever.gate.set()
    assert [future.result(PATIENCE) for future in futures] == [result_of(str(i)) for i in range(10)]
    assert retriever.batches == [["busy"], ["0", "1", "2", "3"], ["4", "5", "6", "7"], ["8", "9"]]


def test_queries_with_other_options_are_searched_for_apart(batcher, retriever):
    code = Filters(kinds=frozenset({"code"}))
    busy(batcher, retriever)
    wanted = [("a", 5, None, True), ("b", 3, None, True), ("c", 5, code, True), ("d", 5, None, False)]
    wanted += [(query.upper(), *options) for query, *options in wanted]
    futures = [batcher.submit(q, k=k, filters=f, use_cache=cached) for q, k, f, cached in wanted]
    retriever.gate.set()
    assert [future.result(PATIENCE) for future in futures] == [result_of(*each) for each in wanted]
    assert [call[1:] for call in retriever.calls[1:]] == [
        (["a", "A"], 5, None, True),
        (["b", "B"], 3, None, True),
        (["c", "C"], 5, code, True),
        (["d", "D"], 5, None, False),
    ]


def test_after_a_burst_a_query_is_held_back_until_the_batch_is_full(retriever, clock):
    with BatchPrefetcher(retriever, batch_size=2, max_wait_ms=2, clock=clock) as batcher:
        busy(batcher, retriever)
        for _ in range(6):
            clock.now += 0.001
            burst = batcher.submit("burst")
        clock.now += 0.010
        retriever.gate.set()
        burst.result(PATIENCE)
        clock.looks = threading.Semaphore(0)
        first = batcher.submit("a")
        for _ in range(2):  # the thread looked at the clock, waited, and looked again
            assert clock.looks.acquire(timeout=PATIENCE)
        assert not first.done()
        second = batcher.submit("b")
        assert [first.result(PATIENCE), second.result(PATIENCE)] == [result_of("a"), result_of("b")]
    assert retriever.batches == [["busy"], ["burst"], ["a", "b"]]


def test_a_real_retriever_gives_each_the_same_as_alone():
    corpus = FakeCorpus()
    for text in ("red fox", "grey wolf", "brown bear"):
        corpus.add(text)
    plain = make_retriever(corpus, cache=None)
    with BatchPrefetcher(make_retriever(corpus)) as batcher:
        futures = {query: batcher.submit(query, k=2) for query in ("wolf", "a red fox", " ", "bear", "wolf ")}
        with pytest.raises(EmptyQuery):
            futures.pop(" ").result(PATIENCE)
        for query, future in futures.items():
            assert found(future.result(PATIENCE)) == found(plain.search(query, k=2))


# --- several threads


def test_several_batches_may_be_searched_for_at_a_time_and_no_more(retriever):
    with BatchPrefetcher(retriever, batch_size=2, max_wait_ms=0, num_workers=2) as batcher:
        retriever.gate.clear()
        first = batcher.submit("a")
        assert retriever.entered.acquire(timeout=PATIENCE)
        second = batcher.submit("b")
        assert retriever.entered.acquire(timeout=PATIENCE)
        rest = [batcher.submit(query) for query in ("c", "dd", "b")]
        retriever.gate.set()
        found = [future.result(PATIENCE) for future in (first, second, *rest)]
    assert found == [result_of(query) for query in ("a", "b", "c", "dd", "b")]
    assert retriever.batches == [["a"], ["b"], ["c", "dd"]]
    assert batcher.stats().shared == 1


def test_a_second_thread_is_only_there_where_the_first_is_busy(retriever):
    before = set(threading.enumerate())
    with BatchPrefetcher(retriever, max_wait_ms=0, num_workers=2) as batcher:
        for query in "abc":
            batcher.search(query, timeout=PATIENCE)
            while not batcher._num_idle:  # until the thread is back
                pass
        assert len(set(threading.enumerate()) - before) == 1


# --- sharing


def test_the_same_query_is_searched_for_once_whether_it_waits_or_runs(batcher, retriever):
    running = [busy(batcher, retriever), batcher.submit("busy")]
    waiting = [batcher.submit("a") for _ in range(3)]
    retriever.gate.set()
    assert [f.result(PATIENCE) for f in running + waiting] == [result_of("busy")] * 2 + [result_of("a")] * 3
    assert retriever.batches == [["busy"], ["a"]]
    batcher.close()
    assert batcher.stats().shared == 3
    assert batcher.stats().searched == batcher.stats().batches == 2
    assert batcher.stats().waiting == 0


def test_nobody_gets_a_result_that_is_older_than_the_call(batcher, retriever):
    early = busy(batcher, retriever)
    retriever.index.version = 2
    late = [batcher.submit("busy"), batcher.submit("busy")]
    retriever.gate.set()
    assert early.result(PATIENCE).explanation["version"] == 1
    assert [future.result(PATIENCE).explanation["version"] for future in late] == [2, 2]
    assert retriever.batches == [["busy"], ["busy"]]


def test_an_index_that_cannot_say_its_state_is_not_shared_and_still_searched(batcher, retriever, monkeypatch):
    def broken():
        raise OSError("disk")

    monkeypatch.setattr(retriever.index, "refreshed_version", broken)
    futures = [busy(batcher, retriever), batcher.submit("busy")]
    retriever.gate.set()
    assert [future.result(PATIENCE) for future in futures] == [result_of("busy")] * 2
    assert retriever.batches == [["busy"], ["busy"]]


# --- failures


def test_a_bad_query_fails_alone(batcher, retriever):
    busy(batcher, retriever)
    futures = [batcher.submit(query) for query in ("a", "bad", "b", "c")]
    retriever.gate.set()
    with pytest.raises(EmptyQuery, match="bad") as caught:
        futures.pop(1).result(PATIENCE)
    assert caught.value.__context__ is None
    assert [future.result(PATIENCE) for future in futures] == [result_of(query) for query in "abc"]
    assert batcher.search("still there", timeout=PATIENCE) == result_of("still there")


def test_a_retriever_that_returns_too_few_results_is_an_error_and_not_a_mix_up(
    batcher, retriever, monkeypatch
):
    monkeypatch.setattr(retriever, "search_batch", lambda queries, **_: [])
    with pytest.raises(RuntimeError, match="0 results for 1"):
        batcher.search("a", timeout=PATIENCE)


def test_when_the_thread_ends_everybody_hears_of_it(batcher, retriever, caplog):
    futures = [busy(batcher, retriever), batcher.submit("exit"), batcher.submit("b")]
    odd = batcher.submit("other options", k=1)
    retriever.gate.set()
    assert futures[0].result(PATIENCE) == result_of("busy")
    assert [type(future.exception(PATIENCE)) for future in (*futures[1:], odd)] == [SystemExit] * 3
    assert "has ended" in caplog.text
    with pytest.raises(RetrieverClosed):
        batcher.submit("a")


def test_more_callers_than_places_are_told_so(retriever):
    with BatchPrefetcher(retriever, max_wait_ms=0, max_waiting=3) as batcher:
        running = busy(batcher, retriever)
        kept, given_up = batcher.submit("a"), batcher.submit("a")
        with pytest.raises(RetrieverBusy) as caught:
            batcher.submit("a")
        assert caught.value.code == "retriever-busy"
        assert given_up.cancel()
        last = batcher.submit("b")
        retriever.gate.set()
        assert [f.result(PATIENCE) for f in (running, kept, last)] == [
            result_of(q) for q in ("busy", "a", "b")
        ]
        assert batcher.search("c", timeout=PATIENCE) == result_of("c")


@pytest.mark.parametrize("k", [0, -1, True, 1.0, "5"])
def test_a_k_that_is_none_is_refused_at_once(batcher, k):
    with pytest.raises(InvalidK):
        batcher.submit("a", k=k)


@pytest.mark.parametrize(
    "option", [{"batch_size": 0}, {"max_wait_ms": -1}, {"max_waiting": 0}, {"num_workers": 0}]
)
def test_settings_out_of_range_are_named(retriever, option):
    with pytest.raises(InvalidRetrievalSettings, match=next(iter(option))):
        BatchPrefetcher(retriever, **option)


# --- giving up


def test_a_caller_who_cannot_wait_any_longer_is_let_go_and_nobody_else(batcher, retriever):
    busy(batcher, retriever)
    patient = batcher.submit("a")
    with pytest.raises(SearchTimedOut):
        batcher.search("a", timeout=0)
    with pytest.raises(SearchTimedOut):
        batcher.search("b", timeout=0)
    retriever.gate.set()
    assert patient.result(PATIENCE) == result_of("a")
    batcher.close()
    assert retriever.batches == [["busy"], ["a"]]


def test_what_was_cancelled_is_not_searched_for(batcher, retriever):
    running, waiting = busy(batcher, retriever), batcher.submit("a")
    assert running.cancel()
    assert waiting.cancel()
    retriever.gate.set()
    assert batcher.search("b", timeout=PATIENCE) == result_of("b")
    batcher.close()
    for future in (running, waiting):
        with pytest.raises(CancelledError):
            future.result(0)
    assert retriever.batches == [["busy"], ["b"]]


# --- the end


def test_closing_finishes_what_was_taken_and_takes_no_more(batcher, retriever):
    futures = [busy(batcher, retriever), *(batcher.submit(query) for query in "abcde")]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    retriever.gate.set()
    closing.join(PATIENCE)
    assert [f.result(0) for f in futures] == [result_of(query) for query in ("busy", *"abcde")]
    with pytest.raises(RetrieverClosed):
        batcher.search("late")
    batcher.close()


def test_without_a_query_there_is_no_thread(retriever):
    before = set(threading.enumerate())
    with BatchPrefetcher(retriever):
        assert set(threading.enumerate()) <= before


def test_a_callback_may_close_the_batcher(retriever):
    batcher = BatchPrefetcher(retriever)
    closed = threading.Event()
    future = batcher.submit("a")
    future.add_done_callback(lambda _: (batcher.close(), closed.set()))
    assert closed.wait(PATIENCE)
    batcher.close()


# --- before another prefetcher


def test_a_lookahead_may_stand_before_it_and_is_never_behind_a_commit(retriever):
    with BatchPrefetcher(retriever, max_wait_ms=0) as batcher, LookaheadRetriever(batcher) as ahead:
        ahead.expect(["a", "b", "bad"])
        assert ahead.wait_until_idle(PATIENCE)
        assert ahead.get("a") == result_of("a")
        assert ahead.stats().used == 1
        retriever.index.version = 2
        assert ahead.get("b") == result_of("b", version=2)
        with pytest.raises(EmptyQuery):
            ahead.get("bad")


def test_a_retriever_without_an_index_has_one_state():
    class Plain:
        def search_batch(self, queries, **options):
            return [result_of(query) for query in queries]

    with BatchPrefetcher(Plain(), max_wait_ms=0) as batcher:
        assert batcher.index is None
        assert batcher.search_batch(["a", "b"]) == [result_of("a"), result_of("b")]
