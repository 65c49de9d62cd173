from __future__ import annotations

import numpy as np
from fakes import FakeVersion
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.cache_lists import ListEntry, ListTable


def table_of(chunks: np.ndarray, queries: np.ndarray, m: int) -> ListTable:
    """The lists of the m best chunks of each query."""
    table = ListTable(FakeVersion(1, "t"))
    for i, query in enumerate(queries):
        scores = chunks @ query
        order = np.argsort(-scores)[:m]
        table.put(
            ListEntry(f"past {i}", query, order.astype(np.int64), float(scores[order[-1]]), scores[order])
        )
    return table


def units(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    vectors = rng.standard_normal((count, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(2, 8), st.integers(1, 12), st.integers(2, 60), st.integers(1, 6)
)
def test_nothing_outside_what_is_read_scores_above_the_bound(seed, dimension, count, m, max_lists):
    rng = np.random.default_rng(seed)
    chunks, query = units(rng, 200, dimension), units(rng, 1, dimension)[0]
    queries = query + 0.6 * units(rng, count, dimension)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    nearby = table_of(chunks, queries, m).best_certificate(query, k=1, max_lists=max_lists)
    if nearby is not None:
        outside = np.setdiff1d(np.arange(200), nearby.chunks)
        assert (chunks[outside].astype(np.float64) @ query).max() <= nearby.bound
        assert 1 <= len(nearby.texts) <= max_lists
        assert nearby.text == nearby.texts[0]


def test_a_list_of_every_chunk_is_read_alone_and_proves_everything():
    rng = np.random.default_rng(0)
    chunks, queries = units(rng, 20, 4), units(rng, 3, 4)
    table = table_of(chunks, queries, 5)
    table.put(ListEntry("all", queries[2], np.arange(20), -np.inf, np.ones(1)))
    nearby = table.best_certificate(queries[0], k=1, max_lists=8)
    assert (nearby.texts, nearby.bound) == (("all",), -np.inf)


def test_lists_are_not_read_where_the_proof_is_hopeless():
    """The k best would have to be more similar to the new query than they were to the past one."""
    rng = np.random.default_rng(0)
    chunks, query = units(rng, 200, 8), units(rng, 1, 8)[0]
    table = table_of(chunks, query[None], 50)
    assert table.best_certificate(query, k=49, max_lists=1) is not None
    assert table.best_certificate(query, k=50, max_lists=1) is None
    moved = query + 0.5 * units(rng, 1, 8)[0]
    moved /= np.linalg.norm(moved)
    bound = table.best_certificate(moved, k=1, max_lists=1).bound
    hopeless = int(np.argmax(-np.sort(-(chunks @ query)) <= bound)) + 1
    assert table.best_certificate(moved, k=hopeless - 1, max_lists=1) is not None
    assert table.best_certificate(moved, k=hopeless, max_lists=1) is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=60))
def test_putting_and_removing_keeps_every_other_entry_in_its_place(steps):
    rng = np.random.default_rng(0)
    queries = units(rng, 21, 4)
    table, model = ListTable(FakeVersion(1, "t")), {}
    for step, (put, i) in enumerate(steps):
        if put:
            entry = ListEntry(f"q{i}", queries[i], np.array([step]), 0.5, np.ones(1))
            table.put(entry)
            model[entry.text] = entry
        else:
            table.remove(f"q{i}")
            model.pop(f"q{i}", None)
        assert {entry.text for entry in table} == set(model)
        for text in model:
            nearest = table.nearest(queries[int(text[1:])])
            assert nearest.text == text
            assert nearest.chunks.tolist() == model[text].chunks.tolist()
