"""What is asked next is there already, or searched for now: never stale, never twice, no thread left."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from fakes import PATIENCE, FakeCorpus, FakeRetriever, found, make_retriever, result_of
from hypothesis import given, settings
from hypothesis import strategies as st
from lookahead_fakes import Guesses, WatchedRetriever, idle, looking

from indexer.types import Filters
from retriever import LookaheadRetriever
from retriever.errors import EmptyQuery, InvalidK, InvalidRetrievalSettings, RetrieverBusy, RetrieverClosed

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


@pytest.fixture
def retriever():
    return WatchedRetriever()


@pytest.fixture
def ahead(retriever):
    with looking(retriever) as ahead:
        yield ahead
        retriever.gate.set()


@contextmanager
def callers_of(ahead: LookaheadRetriever, retriever: FakeRetriever, query: str, *, count: int = 1):
    """Futures of callers who wait for a query that is being retrieved, until the block is left."""
    retriever.gate.clear()
    ahead.expect([query])
    assert retriever.entered.acquire(timeout=PATIENCE)
    with ThreadPoolExecutor(count, thread_name_prefix="caller") as callers:
        futures = [callers.submit(ahead.get, query) for _ in range(count)]
        for _ in futures:
            assert retriever.waiting.acquire(timeout=PATIENCE)
        yield futures
        retriever.gate.set()


# --- looking ahead


def test_the_next_queries_are_retrieved_in_one_batch_and_found_when_asked_for(ahead, retriever):
    ahead.expect("abcde")
    idle(ahead)
    assert retriever.ahead == [["a", "b", "c"]]
    for query in "abcde":
        assert ahead.get(query) == result_of(query)
        idle(ahead)
    assert retriever.ahead == [["a", "b", "c"], ["d"], ["e"]]
    assert retriever.asked == []
    stats = ahead.stats()
    assert (stats.prefetched, stats.used, stats.wasted, stats.held) == (5, 5, 0, 0)
    assert stats.seconds_saved == 5


def test_what_nobody_expected_is_searched_for_now(ahead, retriever):
    assert ahead.get("a") == result_of("a")
    idle(ahead)
    assert (retriever.asked, retriever.ahead) == (["a"], [])


def test_a_query_that_is_being_retrieved_is_waited_for(ahead, retriever):
    with callers_of(ahead, retriever, "a", count=2) as results:
        assert not any(result.done() for result in results)
    assert [result.result() for result in results] == [result_of("a")] * 2
    assert (retriever.asked, retriever.ahead) == ([], [["a"]])
    assert ahead.stats().used == 1
    assert ahead.stats().seconds_saved == 0  # the callers waited for all of it


def test_nothing_is_retrieved_ahead_while_a_caller_waits_for_a_search(ahead, retriever, monkeypatch):
    search_batch, waited = retriever.search_batch, []

    def search(batch, **options):
        if not waited:  # the caller's own search: meanwhile somebody expects this query and another
            ahead.expect(["a", "b"])
            waited.append(ahead.wait_until_idle(0.01))
        return search_batch(batch, **options)

    monkeypatch.setattr(retriever, "search_batch", search)
    ahead.get("a")
    idle(ahead)
    assert waited == [False]
    assert [call.queries for call in retriever.calls] == [["a"], ["b"]]


def test_white_space_makes_no_other_query_but_options_do(ahead, retriever):
    code = Filters(kinds=frozenset({"code"}))
    ahead.expect(["what  is x?"], k=3, filters=code, use_cache=False)
    idle(ahead)
    assert ahead.get("what is x?", k=3) == result_of("what is x?", 3)
    found = ahead.get(" what is\nx?", k=3, filters=code, use_cache=False)
    assert found == result_of("what is x?", 3, code, False)
    assert (retriever.asked, retriever.ahead) == (["what is x?"], [["what is x?"]])


def test_the_window_is_what_is_ahead_and_not_what_is_new(retriever):
    with looking(retriever, window=2, sources=[Guesses("x")]) as ahead:
        ahead.expect("abcd")
        idle(ahead)
        ahead.look_ahead()
        idle(ahead)
    assert retriever.ahead == [["a", "b"]]


def test_the_first_source_goes_first_and_others_fill_the_window(retriever):
    with looking(retriever, sources=[Guesses("a", "x", "y", "z")]) as ahead:
        ahead.expect(["a"])
        idle(ahead)
    assert retriever.ahead == [["a", "x"]]


def test_a_real_retriever_gives_the_same_ahead_as_on_the_spot():
    corpus = FakeCorpus()
    for text in ("red fox", "grey wolf", "brown bear"):
        corpus.add(text)
    plain = make_retriever(corpus, cache=None)
    with LookaheadRetriever(make_retriever(corpus)) as ahead:
        ahead.expect(["wolf", "bear"], k=2)
        idle(ahead)
        assert found(ahead.get("wolf", k=2)) == found(plain.search("wolf", k=2))
        corpus.add("bear and cub")
        assert found(ahead.get("bear", k=2)) == found(plain.search("bear", k=2))
        assert (ahead.stats().used, ahead.stats().stale) == (1, 1)


# --- never stale


def test_what_was_retrieved_before_a_commit_is_searched_for_again(ahead, retriever):
    ahead.expect(["a"])
    idle(ahead)
    retriever.index.version = 2
    assert ahead.get("a") == result_of("a", version=2)
    stats = ahead.stats()
    assert (stats.used, stats.wasted, stats.stale) == (0, 1, 1)


def test_a_commit_while_it_is_being_retrieved_counts_too(ahead, retriever):
    with callers_of(ahead, retriever, "a") as [result]:
        retriever.index.version = 2
    assert result.result() == result_of("a", version=2)


# --- failures


def test_an_error_goes_to_the_one_who_asks_for_that_query(ahead, retriever):
    ahead.expect(["a", "bad", "b"])
    idle(ahead)
    assert ahead.get("a") == result_of("a")
    with pytest.raises(EmptyQuery, match=r"\['bad'\]"):
        ahead.get("bad")
    assert ahead.get("b") == result_of("b")
    assert retriever.asked == ["bad"]
    stats = ahead.stats()
    assert (stats.prefetched, stats.used, stats.wasted, stats.stale) == (3, 2, 1, 0)


def test_what_failed_ahead_for_the_moment_is_searched_for_again(ahead, retriever, monkeypatch):
    search = retriever.search_batch

    def busy(queries, **options):
        raise RetrieverBusy("There is no place for more.")

    monkeypatch.setattr(retriever, "search_batch", busy)
    ahead.expect(["a"])
    idle(ahead)
    monkeypatch.setattr(retriever, "search_batch", search)
    assert ahead.get("a") == result_of("a")
    assert retriever.asked == ["a"]
    stats = ahead.stats()
    assert (stats.used, stats.wasted, stats.stale, stats.held, stats.seconds_saved) == (0, 1, 0, 0, 0.0)


def test_those_who_wait_for_what_then_fails_search_themselves(ahead, retriever):
    with callers_of(ahead, retriever, "bad", count=2) as results:
        pass
    for result in results:
        assert isinstance(result.exception(), EmptyQuery)
    assert retriever.asked == ["bad", "bad"]


def test_a_query_that_fails_is_told_to_the_sources_and_looking_ahead_goes_on(retriever):
    guesses = Guesses()
    with looking(retriever, sources=[guesses]) as ahead:
        ahead.expect(["bad", "a"])
        idle(ahead)
        with pytest.raises(EmptyQuery):
            ahead.get("bad")
        ahead.get("a")
    assert guesses.seen == [("bad", None), ("a", result_of("a"))]


def test_a_source_that_raises_is_left_out_and_seen_in_the_numbers(retriever, caplog):
    broken = Guesses("x")
    broken.failing = True
    with looking(retriever, sources=[broken]) as ahead:
        ahead.expect(["a"])
        idle(ahead)
        assert ahead.get("a") == result_of("a")
        broken.failing = False
        ahead.look_ahead()
        idle(ahead)
        stats = ahead.stats()
    assert (stats.failed_sources, stats.gate_open) == (1, (True, False))
    assert caplog.text.count("A source of expected queries failed") == 1
    assert ["x"] not in retriever.ahead


@pytest.mark.parametrize("end", ["search", "load"])
def test_nothing_ends_the_background_thread_and_nobody_waits_for_ever(retriever, caplog, end):
    load = {"value": 0.0}
    with looking(retriever, load=lambda: 1 / load["value"] if end == "load" else 0.0) as ahead:
        ahead.expect(["exit"])
        idle(ahead)
        assert "A round of looking ahead failed." in caplog.text
        load["value"] = 1.0
        with pytest.raises(SystemExit):
            ahead.get("exit")
        ahead.expect(["a"])
        idle(ahead)
        assert ahead.get("a") == result_of("a")
    assert retriever.ahead[-1] == ["a"]


@pytest.mark.parametrize("k", [0, True, 1.0, "5"])
def test_a_k_that_is_none_is_refused(ahead, k):
    ahead.expect(["a"], k=1)
    for ask in (ahead.get, ahead.expect):
        with pytest.raises(InvalidK):
            ask("a", k=k)


@pytest.mark.parametrize("option", [{"window": 0}, {"keep_for": 2}, {"max_held": 2}])
def test_settings_out_of_range_are_named(retriever, option):
    with pytest.raises(InvalidRetrievalSettings, match=next(iter(option))):
        LookaheadRetriever(retriever, **option)


# --- bounded, cancellable, closed


def test_what_is_not_asked_for_soon_is_dropped(retriever):
    guesses = Guesses("a")
    with looking(retriever, window=2, keep_for=2, sources=[guesses]) as ahead:
        ahead.look_ahead()
        idle(ahead)
        guesses.queries = []
        held = []
        for query in "xyz":
            ahead.get(query)
            held.append(ahead.stats().held)
        assert held == [1, 1, 0]
        assert ahead.stats().wasted == 1
        assert ahead.stats().seconds_wasted == 1


def test_no_more_is_held_than_was_allowed_and_the_oldest_goes_first(retriever):
    guesses = Guesses()
    with looking(retriever, window=2, max_held=3, sources=[guesses]) as ahead:
        for guesses.queries in (["a", "b"], ["c", "d"]):
            ahead.look_ahead()
            idle(ahead)
        assert ahead.stats().held == 3
        for query in "bcd":
            ahead.get(query)
    assert retriever.asked == []
    assert ahead.stats().wasted == 1


def test_cancelling_drops_what_is_expected_held_and_running(ahead, retriever):
    ahead.expect(["a"])
    idle(ahead)
    retriever.gate.clear()
    ahead.expect(["b"])
    for _ in range(2):
        assert retriever.entered.acquire(timeout=PATIENCE)
    ahead.cancel()
    retriever.gate.set()
    idle(ahead)
    stats = ahead.stats()
    assert (stats.prefetched, stats.used, stats.wasted, stats.held) == (2, 0, 2, 0)
    ahead.expect(["c"])
    idle(ahead)
    assert retriever.ahead == [["a"], ["b"], ["c"]]


def test_what_was_expected_before_cancelling_is_not_retrieved_after(retriever, monkeypatch):
    guesses = Guesses("a")
    with looking(retriever, sources=[guesses]) as ahead:
        monkeypatch.setattr(guesses, "expected", lambda _: [ahead.cancel(), "a"][1:])
        ahead.look_ahead()
        idle(ahead)
    assert retriever.ahead == []


def test_closing_waits_for_the_thread_and_ends_everything(retriever):
    ahead = looking(retriever)
    retriever.gate.clear()
    ahead.expect(["a"])
    assert retriever.entered.acquire(timeout=PATIENCE)
    closing = threading.Thread(target=ahead.close)
    closing.start()
    retriever.gate.set()
    closing.join(PATIENCE)
    for call in (ahead.get, ahead.expect):
        with pytest.raises(RetrieverClosed):
            call("a")
    ahead.close()
    assert ahead.stats().held == 0
    assert retriever.asked == []


def test_one_who_waits_while_it_is_closed_still_gets_the_result(ahead, retriever):
    with callers_of(ahead, retriever, "a") as [result]:
        closing = threading.Thread(target=ahead.close)
        closing.start()
    closing.join(PATIENCE)
    assert result.result() == result_of("a")


# --- whatever happens in whatever order

steps = st.lists(
    st.one_of(
        st.tuples(st.just("get"), st.sampled_from(["a", "b", "c", "bad"]), st.sampled_from([1, 2])),
        st.tuples(st.just("expect"), st.sampled_from(["a", "b", "c", "bad"]), st.sampled_from([1, 2])),
        st.tuples(st.just("guess"), st.lists(st.sampled_from(["a", "b", "c", "bad"]), max_size=3)),
        st.tuples(st.just("commit")),
        st.tuples(st.just("cancel")),
        st.tuples(st.just("idle")),
    ),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(steps, st.integers(1, 3), st.integers(0, 2), st.integers(0, 2))
def test_in_any_order_of_events_the_answer_is_that_of_a_search_now(steps, window, longer, more):
    retriever, guesses = WatchedRetriever(), Guesses()
    options = {"window": window, "keep_for": window + longer, "max_held": window + more}
    with looking(retriever, sources=[guesses], **options) as ahead:
        for kind, *values in steps:
            if kind == "get" and values[0] == "bad":
                with pytest.raises(EmptyQuery):
                    ahead.get("bad", k=values[1])
            elif kind == "get":
                query, k = values
                assert ahead.get(query, k=k) == result_of(query, k, version=retriever.index.version)
            elif kind == "expect":
                ahead.expect([values[0]], k=values[1])
            elif kind == "guess":
                [guesses.queries] = values
            elif kind == "commit":
                retriever.index.version += 1
            elif kind == "cancel":
                ahead.cancel()
            elif kind == "idle":
                idle(ahead)
            assert ahead.stats().held <= window + more
    stats = ahead.stats()
    assert stats.prefetched == stats.used + stats.wasted
    assert stats.held == 0
