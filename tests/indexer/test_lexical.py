from __future__ import annotations

import math
import sqlite3
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import lexical, lexical_segments
from indexer.catalog import ChunkChange
from indexer.errors import IndexNotWritable
from indexer.lexical import K1, B, LexicalIndex
from indexer.lexical_terms import query_terms, term_counts

WORDS = ["amber", "basin", "cedar", "delta", "ember", "fjord", "getValue", "the"]


@pytest.fixture
def connection():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    lexical_segments.create_tables(connection)
    yield connection
    connection.close()


def brute_force(chunks: dict[int, str], query: str) -> dict[int, float]:
    """BM25 as the formula says, one chunk at a time."""
    counts = {number: term_counts(text) for number, text in chunks.items()}
    mean = max(sum(c.total() for c in counts.values()) / max(len(counts), 1), 1.0)
    scores: Counter[int] = Counter()
    for term, repeats in query_terms(query).items():
        df = sum(term in c for c in counts.values())
        idf = math.log(1 + (len(counts) - df + 0.5) / (df + 0.5))
        for number, c in counts.items():
            if term in c:
                f = min(c[term], 255)
                scores[number] += repeats * idf * f / (f + K1 * (1 - B + B * c.total() / mean))
    return dict(scores)


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_a_segment_says_which_slots_hold_a_term_and_how_often(
    connection, monkeypatch: pytest.MonkeyPatch, at_once: int
):
    """However many texts are taken together to find that out."""
    monkeypatch.setattr(lexical_segments, "_CHUNKS_INVERTED_AT_ONCE", at_once)
    texts = ["amber getValue", "", "basin amber amber", "value " * 300, "!!!", "getValue basin"]
    lexical_segments.add_chunks(connection, list(enumerate(texts, 10)))
    (segment,) = lexical_segments.read_segments(connection)
    counts = [term_counts(text) for text in texts]
    assert segment.chunks.tolist() == list(range(10, 16))
    assert segment.lengths.tolist() == [of_text.total() for of_text in counts]
    rows = connection.execute("SELECT term, postings FROM lexical_postings ORDER BY term").fetchall()
    found = {term: lexical_segments.Postings.decode(blob) for term, blob in rows}
    assert set(found) == set().union(*counts)
    for term, postings in found.items():
        expected = [(slot, min(c[term], 255)) for slot, c in enumerate(counts) if term in c]
        assert list(zip(postings.slots.tolist(), postings.counts.tolist(), strict=True)) == expected


def check(connection, index, chunks, query, k, allowed=None):
    (hits,) = index.search(connection, [query], k, allowed=allowed)
    expected = brute_force(chunks, query)
    some = [*list(chunks)[:3], 10**9, -1]
    np.testing.assert_allclose(hits.scores_of(some), [expected.get(n, 0.0) for n in some], rtol=1e-5)
    assert hits.scores_of(hits.chunks).tolist() == hits.scores.tolist()  # to the last bit
    if allowed is not None:
        expected = {n: s for n, s in expected.items() if n in allowed}
    ranked = sorted(expected.values(), reverse=True)
    assert len(hits.chunks) == len(set(hits.chunks.tolist())) >= min(k, len(ranked))
    np.testing.assert_allclose(hits.scores[:k], ranked[:k], rtol=1e-5)
    np.testing.assert_allclose(hits.scores, [expected[n] for n in hits.chunks.tolist()], rtol=1e-5)
    assert np.all(hits.scores < hits.ceiling)
    if len(ranked) > k:  # what was left out is worse than the k-th, give or take the rounding of a sum
        left_out = set(expected) - set(hits.chunks.tolist())
        assert all(expected[n] <= ranked[k - 1] * (1 + 1e-5) for n in left_out)


texts = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(texts, max_size=4)),
        st.tuples(st.just("remove"), st.lists(st.integers(0, 60), max_size=6)),
        st.tuples(st.just("search"), texts),
    ),
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(operations, st.integers(1, 6))
def test_scores_stay_those_of_the_formula_under_any_adds_and_removes(operations, k):
    with sqlite3.connect(":memory:", isolation_level=None) as connection:
        lexical_segments.create_tables(connection)
        index, chunks, number = LexicalIndex(), {}, 0
        for kind, value in operations:
            if kind == "add":
                batch = dict(enumerate(value, start=number))
                number += len(batch)
                lexical_segments.add_chunks(connection, batch.items())
                chunks |= batch
            elif kind == "remove":
                lexical_segments.remove_chunks(connection, value)
                chunks = {n: text for n, text in chunks.items() if n not in value}
            else:
                check(connection, index, chunks, value, k)
                check(connection, index, chunks, value, k, allowed={n for n in chunks if n % 2})
        check(connection, index, chunks, "amber cedar getValue", k)
    connection.close()


def test_segments_stay_few_while_chunks_come_one_at_a_time(connection):
    for number in range(200):
        lexical_segments.add_chunks(connection, [(number, f"word{number} common")])
    assert len(lexical_segments.read_segments(connection)) < 20
    lexical_segments.remove_chunks(connection, range(195))
    assert connection.execute("SELECT count(*) FROM lexical_postings").fetchone()[0] <= 10
    (hits,) = LexicalIndex().search(connection, ["common"], 10)
    assert sorted(hits.chunks.tolist()) == [195, 196, 197, 198, 199]


def test_merging_leaves_out_what_was_removed_and_changes_nothing_else(connection):
    chunks, index = {}, LexicalIndex()
    for number in range(0, 70, 10):
        batch = {number + i: " ".join(WORDS[: 1 + (number + i) % 7]) for i in range(10)}
        lexical_segments.add_chunks(connection, batch.items())
        chunks |= batch
    gone = [3, 14, 15, 36]
    lexical_segments.remove_chunks(connection, gone)
    chunks = {number: text for number, text in chunks.items() if number not in gone}
    lexical_segments.add_chunks(connection, [(70 + i, "amber basin") for i in range(10)])
    chunks |= {70 + i: "amber basin" for i in range(10)}
    (segment,) = lexical_segments.read_segments(connection)
    assert sorted(segment.chunks.tolist()) == sorted(chunks)
    for query in ("amber", "delta basin", "fjord getValue"):
        check(connection, index, chunks, query, 100)


def test_a_rare_term_decides_before_common_ones_are_read_in_full(connection, monkeypatch):
    lexical_segments.add_chunks(
        connection, [(n, "common shared" + " needle" * (n == 77)) for n in range(500)]
    )
    looked_up = []
    original = lexical._score_candidates
    monkeypatch.setattr(
        lexical,
        "_score_candidates",
        lambda snapshot, terms, candidates, scores: (
            looked_up.append(len(candidates)),
            original(snapshot, terms, candidates, scores),
        ),
    )
    (hits,) = LexicalIndex().search(connection, ["shared needle common"], 1)
    assert hits.chunks.tolist() == [77]
    assert looked_up == [1]
    # Its score is the same as when every posting is read.
    (every,) = LexicalIndex().search(connection, ["shared needle common"], 500)
    assert every.scores[0] == hits.scores[0]


def test_all_chunks_that_tie_with_the_last_come_along(connection):
    lexical_segments.add_chunks(connection, [(n, "amber basin") for n in range(10)] + [(10, "amber amber")])
    (hits,) = LexicalIndex().search(connection, ["amber"], 2)
    assert hits.chunks[0] == 10
    assert sorted(hits.chunks[1:].tolist()) == list(range(10))


def test_a_change_is_part_of_the_callers_transaction(connection):
    index = LexicalIndex()
    lexical_segments.add_chunks(connection, [(1, "amber")])
    assert index.search(connection, ["amber"], 5)[0].chunks.tolist() == [1]
    connection.execute("BEGIN IMMEDIATE")
    lexical_segments.add_chunks(connection, [(2, "amber")])
    lexical_segments.remove_chunks(connection, [1])
    assert index.search(connection, ["amber"], 5)[0].chunks.tolist() == [2]
    connection.execute("ROLLBACK")
    assert index.search(connection, ["amber"], 5)[0].chunks.tolist() == [1]


@pytest.mark.parametrize(
    "query",
    ['"', "NEAR(", "a OR b*", "col:x", "-x ^y", "'; DROP TABLE lexical_postings;--", "\x00", "\ud800"],
)
def test_a_query_is_only_ever_words(connection, query):
    lexical_segments.add_chunks(connection, [(1, "amber")])
    (hits,) = LexicalIndex().search(connection, [query], 5)
    assert hits.chunks.tolist() == []
    assert LexicalIndex().search(connection, ["amber " + query], 5)[0].chunks.tolist() == [1]


def test_a_huge_query_keeps_its_rarest_terms(connection):
    lexical_segments.add_chunks(connection, [(1, "needle"), *((n, f"filler{n} hay") for n in range(2, 400))])
    query = "hay " * 1000 + "needle " + " ".join(f"filler{n}" for n in range(2, 200))
    (hits,) = LexicalIndex().search(connection, [query], 400)
    assert hits.chunks[0] in (1, *range(2, 200))
    assert len(hits.chunks) >= lexical.MAX_QUERY_TERMS - 1


def test_an_empty_index_finds_nothing(connection):
    (hits,) = LexicalIndex().search(connection, ["amber"], 5)
    assert hits.chunks.tolist() == []
    assert hits.scores_of([3]).tolist() == [0.0]
    lexical_segments.add_chunks(connection, [])
    lexical_segments.add_chunks(connection, [(1, ""), (2, "!!!")])
    lexical_segments.remove_chunks(connection, [1, 2, 3])
    assert LexicalIndex().search(connection, ["amber"], 5)[0].chunks.tolist() == []


def test_the_hook_brings_the_tables_up_to_the_chunks(connection):
    connection.execute("CREATE TABLE chunks (rowid INTEGER PRIMARY KEY, context TEXT, text TEXT)")
    rows = [(1, "Harbour", "amber"), (2, "", "basin"), (3, "", "cedar")]
    connection.executemany("INSERT INTO chunks VALUES (?, ?, ?)", rows)
    lexical_segments.add_chunks(connection, [(1, "Harbour\namber"), (9, "gone")])
    index = LexicalIndex()
    index.prepare(connection)
    found = [
        hits.chunks.tolist() for hits in index.search(connection, ["harbour", "basin", "cedar", "gone"], 5)
    ]
    assert found == [[1], [2], [3], []]

    connection.execute("DELETE FROM chunks WHERE rowid = 2")
    connection.execute("INSERT INTO chunks VALUES (4, '', 'delta')")
    index.before_commit(connection, ChunkChange(added=(4,), removed=(2,), generation=2))
    found = [hits.chunks.tolist() for hits in index.search(connection, ["basin", "delta"], 5)]
    assert found == [[], [4]]


def test_a_catalog_without_the_tables_says_what_to_do():
    with sqlite3.connect(":memory:") as connection, pytest.raises(IndexNotWritable, match="ingesting"):
        LexicalIndex().search(connection, ["amber"], 5)
    connection.close()


def test_terms_made_by_other_rules_are_noticed_and_replaced(connection):
    lexical_segments.add_chunks(connection, [(1, "amber")])
    assert lexical_segments.is_current(connection)
    connection.execute("UPDATE lexical_state SET terms_version = 'terms-0'")
    assert not lexical_segments.is_current(connection)
    with pytest.raises(IndexNotWritable):
        LexicalIndex().search(connection, ["amber"], 5)
    connection.execute("CREATE TABLE chunks (rowid INTEGER PRIMARY KEY, context TEXT, text TEXT)")
    connection.execute("INSERT INTO chunks VALUES (1, '', 'basin')")
    index = LexicalIndex()
    index.prepare(connection)
    assert lexical_segments.is_current(connection)
    assert [hits.chunks.tolist() for hits in index.search(connection, ["amber", "basin"], 5)] == [[], [1]]
