from __future__ import annotations

import numpy as np
import pytest
from fakes import FakeVersion
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever import cache_lists
from retriever.cache_lists import ListEntry, ListTable
from retriever.cache_vectors import QueryVectors
from retriever.packed_numbers import PackedNumbers


def table_of(chunks: np.ndarray, queries: np.ndarray, m: int) -> ListTable:
    """The lists of the m best chunks of each query."""
    table = ListTable(FakeVersion(1, "t"))
    for i, query in enumerate(queries):
        scores = chunks @ query
        order = np.argsort(-scores)[:m]
        table.put(
            ListEntry(f"past {i}", query, PackedNumbers(order), float(scores[order[-1]]), scores[order])
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
    table.put(ListEntry("all", queries[2], PackedNumbers(np.arange(20)), -np.inf, np.ones(1)))
    nearby = table.best_certificate(queries[0], k=1, max_lists=8)
    assert (nearby.texts, nearby.bound) == (("all",), -np.inf)


def test_lists_are_not_read_where_the_proof_is_hopeless():
    """The k best would have to be clearly more similar to the new query than they were to the past one."""
    rng = np.random.default_rng(0)
    chunks, query = units(rng, 200, 8), units(rng, 1, 8)[0]
    table = table_of(chunks, query[None], 50)
    moved = query + 0.5 * units(rng, 1, 8)[0]
    moved /= np.linalg.norm(moved)
    bound = table.best_certificate(moved, k=1, max_lists=1).bound
    hopeless = int(np.argmax(-np.sort(-(chunks @ query)) + 0.02 <= bound)) + 1
    assert table.best_certificate(moved, k=hopeless - 1, max_lists=1) is not None
    assert table.best_certificate(moved, k=hopeless, max_lists=1) is None


def test_one_list_is_read_alone_where_it_proves_more_than_enough():
    rng = np.random.default_rng(0)
    chunks, query = units(rng, 400, 8), units(rng, 1, 8)[0]
    queries = query + 0.3 * units(rng, 6, 8)
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    table = table_of(chunks, queries, 60)
    found = [table.best_certificate(query, k=k, max_lists=4) for k in range(1, 40)]
    num_lists = [len(nearby.texts) for nearby in found if nearby is not None]
    assert num_lists == sorted(num_lists)
    assert (num_lists[0], num_lists[-1]) == (1, 4)


def test_a_list_of_which_every_chunk_has_gone_proves_nothing_and_hinders_nothing():
    rng = np.random.default_rng(0)
    query, *others = units(rng, 3, 8)
    near, further = (query + step * other for step, other in zip((0.1, 0.3), others, strict=True))
    table = ListTable(FakeVersion(1, "t"))
    for text, vector, radius, top_scores in (
        ("proves nothing", near, 1.0, np.ones(1, np.float32)),
        ("all gone", further, 0.5, np.zeros(0, np.float32)),
    ):
        unit = (vector / np.linalg.norm(vector)).astype(np.float32)
        table.put(ListEntry(text, unit, PackedNumbers(np.zeros(0, np.int64)), radius, top_scores))
    assert table.best_certificate(query, k=1, max_lists=4) is None


class Later:
    """A state in which some chunks are new; keeps how many vectors it was asked for at a time."""

    version = FakeVersion(2, "t")

    def __init__(self, chunks: np.ndarray, added: np.ndarray) -> None:
        self._chunks, self._added = chunks, added
        self.sizes: list[int] = []

    def added_since(self, version: FakeVersion) -> np.ndarray:
        return self._added

    def vectors(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.sizes.append(len(numbers))
        return numbers, self._chunks[numbers]


def test_many_newcomers_are_compared_in_parts_and_put_on_every_list_that_they_belong_on(monkeypatch):
    monkeypatch.setattr(cache_lists, "_PAIRS_PER_PRODUCT", 40)
    rng = np.random.default_rng(0)
    chunks, queries = units(rng, 400, 8), units(rng, 10, 8)
    table = table_of(chunks[:200], queries, 20)
    before = {entry.text: set(entry.chunks.unpacked().tolist()) for entry in table}
    view = Later(chunks, np.arange(200, 400))
    followed = table.follow(view, None, max_length=400)
    assert followed is not None
    assert not followed.overgrown
    assert (max(view.sizes), sum(view.sizes)) == (4, 200)
    for entry in table:
        new = 200 + np.flatnonzero(chunks[200:] @ entry.vector > entry.radius)
        assert set(entry.chunks.unpacked().tolist()) == before[entry.text] | set(new.tolist())
        assert (entry.text in {one.text for one in followed.grown}) == bool(len(new))


def test_where_more_came_than_could_be_compared_in_a_moment_the_lists_are_dropped(monkeypatch):
    rng = np.random.default_rng(0)
    chunks, queries = units(rng, 400, 8), units(rng, 10, 8)
    for limit, dropped in ((2000, False), (1999, True)):
        monkeypatch.setattr(cache_lists, "_MOST_PAIRS", limit)
        table = table_of(chunks[:200], queries, 20)
        followed = table.follow(Later(chunks, np.arange(200, 400)), None, max_length=400)
        assert (followed is None) == dropped
        assert len(table) == (0 if dropped else 10)


@pytest.mark.parametrize(("name", "limit"), [("_MOST_NEWCOMERS", 199), ("_MOST_INSERTED", 20)])
def test_memory_for_newcomers_is_bounded_also_where_there_is_one_list(monkeypatch, name, limit):
    rng = np.random.default_rng(0)
    chunks, queries = units(rng, 400, 8), units(rng, 1, 8)
    monkeypatch.setattr(cache_lists, "_ROWS_PER_PRODUCT", 16)
    table, view = table_of(chunks[:200], queries, 20), Later(chunks, np.arange(200, 400))
    assert table.follow(view, None, max_length=400) is not None
    assert (max(view.sizes), sum(view.sizes)) == (16, 200)
    monkeypatch.setattr(cache_lists, name, limit)
    table = table_of(chunks[:200], queries, 200)  # every newcomer is inside
    assert table.follow(Later(chunks, np.arange(200, 400)), None, max_length=400) is None
    assert len(table) == 0


def test_a_list_that_would_grow_too_long_is_named_and_nothing_is_gathered_for_it():
    rng = np.random.default_rng(0)
    chunks, queries = units(rng, 400, 8), units(rng, 10, 8)
    table = table_of(chunks[:200], queries, 20)
    longest = {
        entry.text: 20 + int((chunks[200:] @ entry.vector > entry.radius - 1e-4).sum()) for entry in table
    }
    limit = sorted(longest.values())[5]
    followed = table.follow(Later(chunks, np.arange(200, 400)), None, max_length=limit)
    assert followed is not None
    assert set(followed.overgrown) == {text for text, length in longest.items() if length > limit}
    assert all(len(entry.chunks) == longest[entry.text] for entry in followed.grown)
    assert all(table.length(text) == 20 for text in followed.overgrown)


MODES = {
    "all in full": {},
    "by shadows": {"full_limit": 0},
    "by inverted lists": {"full_limit": 0, "shadow_limit": 0},
}


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=25))
def test_putting_and_removing_keeps_every_other_entry_in_its_place(mode, steps):
    rng = np.random.default_rng(0)
    queries = units(rng, 21, 80)
    table, model = ListTable(FakeVersion(1, "t"), vectors=QueryVectors(**MODES[mode])), {}
    for step, (put, i) in enumerate(steps):
        if put:
            entry = ListEntry(f"q{i}", queries[i], PackedNumbers(np.array([step])), 0.5, np.ones(1))
            table.put(entry)
            model[entry.text] = entry
        else:
            table.remove(f"q{i}")
            model.pop(f"q{i}", None)
        assert {entry.text for entry in table} == set(model)
        for text in model:
            query = queries[int(text[1:])]
            nearest = table.similar(query, threshold=0.99, accept=lambda _: True, max_lists=1)
            assert nearest.text == text
            assert nearest.chunks.tolist() == model[text].chunks.unpacked().tolist()


@pytest.mark.parametrize("mode", MODES)
def test_near_queries_are_found_among_thousands(mode):
    rng = np.random.default_rng(1)
    centres = units(rng, 300, 96)
    vectors = QueryVectors(**MODES[mode])
    past = centres[np.arange(3000) % 300] + 0.4 * units(rng, 3000, 96)
    past = (past / np.linalg.norm(past, axis=1, keepdims=True)).astype(np.float32)
    for row in past:
        vectors.append(row)
    found = 0
    for row in past[rng.integers(0, 3000, 100)] + 0.2 * units(rng, 100, 96):
        query = (row / np.linalg.norm(row)).astype(np.float32)
        slots, similarities = vectors.near(query)
        assert similarities == pytest.approx(past[slots] @ query, abs=1e-6)
        found += int((past @ query).argmax()) in slots
    assert found >= 95


@given(
    st.lists(
        st.one_of(st.integers(0, 300), st.integers(0, 10**5), st.integers(0, 2**62)), unique=True, max_size=60
    )
)
def test_packed_numbers_come_out_as_they_went_in(numbers):
    packed = PackedNumbers(np.array(numbers, np.int64))
    assert packed.unpacked().tolist() == sorted(numbers)
    assert len(packed) == len(numbers)
    assert packed.nbytes <= 8 * len(numbers)
    assert PackedNumbers.from_bytes(*packed.to_bytes()).unpacked().tolist() == sorted(numbers)


@pytest.mark.parametrize(("among", "num_bytes"), [(10_000, 1100), (100_000, 1600), (1_000_000, 2100)])
def test_a_thousand_numbers_take_one_or_two_bytes_each(among, num_bytes):
    numbers = np.random.default_rng(0).choice(among, 1000, replace=False)
    assert PackedNumbers(numbers).nbytes < num_bytes


@pytest.mark.parametrize(
    ("data", "width"), [(b"\x01\xff", 1), (b"\x01\x00\x01", 1), (b"\x01", 2), (b"\x01", 3), (b"\xfe" * 16, 8)]
)
def test_bytes_that_are_no_packed_numbers_are_refused(data, width):
    with pytest.raises(ValueError, match=r"."):
        PackedNumbers.from_bytes(data, width)


@pytest.mark.parametrize("numbers", [[-1, 3], [5, 2, 5]])
def test_what_is_no_set_of_numbers_is_refused(numbers):
    with pytest.raises(ValueError, match="negative or come twice"):
        PackedNumbers(np.array(numbers))


def test_a_shortlist_goes_on_working_while_vectors_come_and_go():
    rng = np.random.default_rng(2)
    vectors, model = QueryVectors(full_limit=0, shadow_limit=50), []
    for step in range(600):
        if model and rng.random() < 0.4:
            slot = int(rng.integers(len(model)))
            vectors.remove(slot)
            model[slot] = model[-1]
            model.pop()
        else:
            model.append(units(rng, 1, 80)[0])
            vectors.append(model[-1])
        if model and step % 20 == 0:
            slot = int(rng.integers(len(model)))
            near = vectors.near(model[slot])
            assert slot in near.slots
            assert near.similarities[near.slots.tolist().index(slot)] == pytest.approx(1, abs=1e-5)


def test_similar_queries_have_to_be_acceptable_and_are_read_together():
    rng = np.random.default_rng(0)
    chunks, query = units(rng, 200, 8), units(rng, 1, 8)[0]
    queries = query + 0.1 * np.arange(1, 5)[:, None] * units(rng, 4, 8)
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    table = table_of(chunks, queries, 30)
    seen = []

    def accept(text: str) -> bool:
        seen.append(text)
        return text != "past 0"

    nearby = table.similar(query, threshold=0.5, accept=accept, max_lists=3)
    assert seen == ["past 0", "past 1", "past 2"]
    assert nearby.texts == ("past 1", "past 2")
    assert nearby.similarity == pytest.approx(float(queries[1] @ query))
    assert nearby.bound == np.inf
    assert table.similar(query, threshold=0.999, accept=accept, max_lists=3) is None
    assert table.similar(query, threshold=0.5, accept=lambda _: False, max_lists=3) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 10), st.integers(1, 8))
def test_a_chunk_that_was_missed_is_aligned_with_what_is_not_explained_as_much_as_it_is_said(
    seed, dimension, count
):
    rng = np.random.default_rng(seed)
    chunks, query = units(rng, 200, dimension), units(rng, 1, dimension)[0]
    queries = query + 0.6 * units(rng, count, dimension)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    nearby = table_of(chunks, queries, 20).similar(query, threshold=-1, accept=lambda _: True, max_lists=8)
    outside = np.setdiff1d(np.arange(200), nearby.chunks)
    if len(outside):
        best = float((chunks[outside].astype(np.float64) @ query).max())
        assert nearby.alignment(best) <= 1 + 1e-2


def test_lists_of_a_search_that_did_not_compare_all_vectors_prove_nothing_but_may_suggest():
    rng = np.random.default_rng(0)
    chunks, query = units(rng, 200, 8), units(rng, 1, 8)[0]
    table = table_of(chunks, query[None], 50)
    (entry,) = table
    assert table.best_certificate(query, k=1, max_lists=1) is not None
    table.put(entry._replace(is_exact=False))
    assert table.best_certificate(query, k=1, max_lists=1) is None
    assert table.similar(query, threshold=0.9, accept=lambda _: True, max_lists=1).text == "past 0"
    table.put(entry._replace(radius=-np.inf, is_exact=False))
    assert table.best_certificate(query, k=1, max_lists=1) is None
