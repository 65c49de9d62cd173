"""What the cache says that it occupies is what it occupies, whatever is asked of it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from fakes import FakeCorpus, FakeView, embed, make_retriever

from indexer.types import Filters
from retriever import RetrievalCache
from retriever.cache_calibration import Calibrator
from retriever.cache_keys import ListKey, Space
from retriever.cache_vectors import QueryVectors
from retriever.lists import DenseList

WIDTH = 384  # of a vector, as MiniLM's


def traced(work: Callable[[], object]) -> int:
    """Bytes that are still allocated after it."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        work()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return after - before


def unit(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(WIDTH)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def fill(cache: RetrievalCache, num_filters: int, num_queries: int, num_ids: int) -> None:
    """Keeps a list of a thousand chunks for every query under every filter."""
    view = FakeView(FakeCorpus())
    for number in range(num_filters):
        ids = frozenset(f"{i:028d}{number:04d}" for i in range(num_ids)) if num_ids else None
        space = Space("fake", Filters(path_glob=f"/{number}/*", document_ids=ids))
        for query in range(num_queries):
            scores = np.linspace(0.9, 0.1, 1000).astype(np.float32)
            dense = DenseList(np.arange(1000), scores, 0.1, 1000)
            cache.keep_list(view, ListKey(space, f"query {query}"), unit(query), dense, seconds=1.0)
        cache.certified(view, space, unit(0), k=5, max_chunks=4000)


@pytest.mark.parametrize(
    ("num_filters", "num_queries", "num_ids"),
    [(1, 300, 0), (1, 1100, 0), (300, 1, 0), (10, 1, 1000)],
    ids=["many queries", "so many that they are found by shadows", "many filters", "filters of many ids"],
)
def test_the_bytes_that_are_counted_are_those_that_are_taken(num_filters, num_queries, num_ids):
    fill(RetrievalCache(), 1, 1, 0)  # what is imported and made once
    cache = RetrievalCache(max_bytes=1 << 30)
    taken = traced(lambda: fill(cache, num_filters, num_queries, num_ids))
    counted = cache.stats().bytes
    assert cache.stats().num_lists == num_filters * num_queries
    assert 0.4 * counted < taken < 1.3 * counted


def test_a_filter_of_many_ids_counts_with_every_entry_that_it_is_the_key_of():
    corpus = FakeCorpus()
    corpus.add("amber")
    sizes = []
    for count in (1, 1000):
        retriever = make_retriever(corpus, cache=RetrievalCache())
        retriever.search("amber", filters=Filters(document_ids=frozenset(map(str, range(count)))))
        sizes.append(retriever.cache.stats().bytes)
    assert sizes[1] > sizes[0] + 2 * 1000 * 100  # the list's and the result's


def test_vectors_that_are_gone_take_no_room():
    vectors = QueryVectors(full_limit=0)
    for seed in range(20):
        vectors.append(unit(seed))
    vectors.near(unit(0))
    vectors.clear()
    assert vectors.rows.base.nbytes == 0
    vectors.append(embed("of another length"))
    assert vectors.near(embed("of another length")).similarities == pytest.approx([1], abs=1e-5)


def test_filters_whose_lists_had_to_be_dropped_leave_nothing_behind():
    corpus, cache = FakeCorpus(), RetrievalCache()
    corpus.add("amber")
    retriever = make_retriever(corpus, cache=cache)
    every = [Filters(path_glob=f"/{number}/*") for number in range(5)]
    for filters in every:
        retriever.search("amber", filters=filters)
    corpus.add("basin")
    corpus.forgotten = corpus.version.generation
    for filters in every:
        cache.certified(FakeView(corpus), Space("fake", filters), embed("amber"), k=1, max_chunks=1)
    assert (cache.stats().num_lists, cache._tables) == (0, {})
    assert retriever.search("amber", filters=every[0]).tier == "miss"
    assert cache.stats().num_lists == 1


def test_what_is_learnt_of_a_past_query_takes_a_kilobyte_at_most():
    calibrator = Calibrator(max_false_hit_rate=0.01, audit_share=0.1)
    names = [f"query {number}" for number in range(150)]

    def learn() -> None:
        for name in 40 * names:
            calibrator.learn(name, calibrator.decide(name, 0.5), right=True)

    assert traced(learn) < 1000 * len(names)
