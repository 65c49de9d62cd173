"""Whatever happens in whatever order, and on however many threads, every caller gets its own result."""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait

import pytest
from fakes import PATIENCE, FakeRetriever, result_of
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever import BatchPrefetcher
from retriever.errors import EmptyQuery

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


steps = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.sampled_from(["a", "bb", "bad", "ccc"]), st.sampled_from([1, 2])),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("hold back")),
        st.tuples(st.just("let go")),
        st.tuples(st.just("commit")),
        st.tuples(st.just("wait for"), st.integers(0, 30)),
    ),
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(steps, st.integers(1, 4), st.sampled_from([0.0, 0.1]), st.integers(1, 3))
def test_in_any_order_of_events_every_caller_gets_exactly_its_own_result(
    steps, batch_size, max_wait_ms, num_workers
):
    retriever = FakeRetriever()
    calls: list[tuple[str, int, int, Future]] = []
    options = {"batch_size": batch_size, "max_wait_ms": max_wait_ms, "num_workers": num_workers}
    with BatchPrefetcher(retriever, **options) as batcher:
        for kind, *values in steps:
            if kind == "submit":
                query, k = values
                version = retriever.index.version
                calls.append((query, k, version, batcher.submit(query, k=k)))
            elif kind == "cancel" and values[0] < len(calls):
                calls[values[0]][-1].cancel()
            elif kind == "hold back":
                retriever.gate.clear()
            elif kind == "let go":
                retriever.gate.set()
            elif kind == "commit":
                retriever.index.version += 1
            elif kind == "wait for" and values[0] < len(calls):
                retriever.gate.set()
                wait([calls[values[0]][-1]], PATIENCE)
        retriever.gate.set()
    for query, k, version, future in calls:
        assert future.done()
        if future.cancelled():
            continue
        if query == "bad":
            assert isinstance(future.exception(), EmptyQuery)
        else:
            assert future.result().explanation["of"] == (query, k, None, True)
            assert future.result().explanation["version"] >= version
    assert all(len(batch) <= batch_size for batch in retriever.batches)
    assert all(len(set(batch)) == len(batch) for batch in retriever.batches)
    assert batcher.stats().waiting == 0


@pytest.mark.parametrize("num_workers", [1, 3])
def test_many_threads_at_once_each_get_their_own(num_workers):
    retriever = FakeRetriever()
    wrong: list[object] = []

    def client(number: int) -> None:
        for i in range(50):
            query = f"{number if i % 3 else 'shared'} {i}"
            result = batcher.search(query, k=1 + i % 2, timeout=PATIENCE)
            if result != result_of(query, 1 + i % 2):
                wrong.append(result)

    with BatchPrefetcher(retriever, max_wait_ms=0.1, num_workers=num_workers) as batcher:
        threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert batcher.stats().waiting == 0
    assert batcher.stats().searched + batcher.stats().shared == 8 * 50
