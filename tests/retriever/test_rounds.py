"""A draft becomes a query, and the hits of several searches become one list."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.types import Chunk
from retriever.lookahead_sources import DraftQueries
from retriever.rounds import (
    MAX_DRAFT_CHARS,
    ends_sentence,
    explained,
    merged,
    num_new,
    query_from_draft,
    query_from_passages,
)
from retriever.types import Hit, SearchResult

NAMES = "abcdefghijxyz"


def result_of(names: str, **options) -> SearchResult:
    """Hits on chunks of these names, best first."""
    chunks = [passage(name, 20 * NAMES.find(name), 20 * NAMES.find(name) + 10) for name in names]
    hits = tuple(Hit(chunk, 1 / rank, rank) for rank, chunk in enumerate(chunks, start=1))
    return SearchResult(hits, options.pop("tier", "miss"), **options)


def passage(name: str, start: int, end: int) -> Chunk:
    return Chunk(name, "d", "/d", f"Text of {name}.", start, end, None, (), (), "text")


def names_of(result: SearchResult) -> str:
    return "".join(hit.chunk.id for hit in result.hits)


RESULTS = st.lists(
    st.permutations(NAMES).flatmap(lambda names: st.integers(0, 6).map(lambda n: result_of(names[:n]))),
    min_size=1,
    max_size=4,
)
WORDS = st.text("ab .!?。\n\"')", max_size=2 * MAX_DRAFT_CHARS)


# --- queries


def test_a_query_is_the_question_and_the_draft_without_its_marks():
    query = query_from_draft("Who built it?", "Mara\nEllison [1] built it. [1, 2]  In 1931 [12].")
    assert query == "Who built it? Mara Ellison built it. In 1931."


def test_of_a_long_draft_the_first_sentences_that_fit_are_taken():
    fits, too_much = "First. " + "a" * (MAX_DRAFT_CHARS - 10) + ".", " And then some."
    assert query_from_draft("q", fits + too_much) == f"q {fits}"
    assert query_from_draft("q", "word " * MAX_DRAFT_CHARS) == "q" + " word" * (MAX_DRAFT_CHARS // 5)
    assert query_from_draft("q", "字" * 2 * MAX_DRAFT_CHARS) == "q " + "字" * MAX_DRAFT_CHARS


def test_what_was_near_stands_in_for_a_draft_that_knows_no_answer():
    assert query_from_passages("q", result_of("ab").hits) == "q Text of a."
    assert query_from_passages("q", ()) == "q"


@given(WORDS, WORDS)
def test_the_query_of_a_draft_that_is_long_enough_is_known_before_its_end(draft, rest):
    query = query_from_draft("q", draft)
    assert len(query) <= len("q ") + MAX_DRAFT_CHARS
    if len(" ".join(draft.split())) > MAX_DRAFT_CHARS:
        assert query_from_draft("q", draft + rest) == query


@pytest.mark.parametrize("text", ["It is.", "Is it? [1]", 'He said "no." ', "是。", "It is.[2]", "Well…\n"])
def test_a_sentence_ends_with_its_mark_and_what_closes_it(text):
    assert ends_sentence(text)


@pytest.mark.parametrize("text", ["", "It is", "It is 3.5 m", "It is. So", "[1]"])
def test_a_sentence_does_not_end_before_that(text):
    assert not ends_sentence(text)


def test_a_draft_expects_its_query_at_every_end_of_a_sentence_until_it_is_asked():
    draft = DraftQueries("q")
    written = [draft.write(piece) for piece in ("Mara", " Ellison", " did.", " [1]", " In", " 1931.")]
    assert written == [False, False, True, False, False, True]
    assert draft.expected(3) == ("q Mara Ellison did. In 1931.",)
    draft.observe("q Mara Ellison did. In 1931.", None)
    assert draft.expected(3) == ()
    assert draft.write("Another.")
    assert draft.expected(3) == ("q Another.",)


def test_the_query_of_a_long_draft_is_settled_before_its_end_and_no_guess_any_more():
    draft = DraftQueries("q")
    assert draft.write("First.")
    assert not draft.write(" " + "a" * (MAX_DRAFT_CHARS - 7))
    assert draft.settled is None
    assert draft.write("a and")
    assert draft.settled == "q First."
    assert draft.expected(3) == ()
    assert not draft.write(" so on.")
    draft.observe("q First.", None)
    assert draft.settled is None


# --- merging


def test_the_best_of_both_searches_come_first_and_ties_go_to_the_later():
    both = merged([result_of("abcd"), result_of("bexd")], k=4)
    assert names_of(both) == "baed"
    assert [hit.score for hit in both.hits] == pytest.approx([0.75, 0.5, 0.25, 0.25])
    assert names_of(merged([result_of("a"), result_of("b")], k=1)) == "b"


def test_what_a_draft_rests_on_stays_whatever_is_found_later():
    assert names_of(merged([result_of("abc"), result_of("xyz")], k=3, keep={"c"})) == "xac"


def test_what_lies_within_a_better_passage_is_not_read_twice():
    long, inside = Hit(passage("long", 0, 90), 1.0, 1), Hit(passage("inside", 20, 30), 0.5, 2)
    assert names_of(merged([SearchResult((long, inside), "miss")], k=2)) == "long"
    shorter_first = [replace(inside, rank=1), replace(long, rank=2)]
    assert names_of(merged([SearchResult(tuple(shorter_first), "miss")], k=2)) == "insidelong"


def test_a_merged_result_is_as_sure_as_the_least_sure_search():
    for tiers, tier in [
        (("exact", "certified"), "certified"),
        (("exact", "miss"), "miss"),
        (("miss", "approximate"), "approximate"),
    ]:
        assert merged([result_of("a", tier=one) for one in tiers], k=1).tier == tier


def test_a_merged_result_took_as_long_as_all_searches_and_says_what_they_were_about():
    one = result_of("a", timings={"embed": 1.0, "total": 2.0}, explanation={"depth": 3})
    other = result_of("b", timings={"total": 4.0})
    result = explained(merged([one, other], k=2), [{"query": "q"}])
    assert result.timings == {"embed": 1.0, "total": 6.0}
    assert result.explanation == {"depth": 3, "rounds": [{"query": "q"}]}
    assert num_new(result, one) == 1


@given(RESULTS, st.integers(1, 8), st.sets(st.sampled_from(NAMES)))
def test_merging_loses_nothing_better_and_invents_nothing(results, k, keep):
    result = merged(results, k=k, keep=keep)
    known = {hit.chunk.id for one in results for hit in one.hits}
    assert len(result.hits) == min(k, len(known))
    assert [hit.rank for hit in result.hits] == list(range(1, len(result.hits) + 1))
    scores = [hit.score for hit in result.hits]
    assert scores == sorted(scores, reverse=True)
    names = set(names_of(result))
    assert len(names) == len(result.hits)
    assert names <= known
    assert len(keep & names) == min(k, len(keep & known))
    alone = merged(results[:1], k=k)
    assert alone.hits == tuple(replace(hit, score=1 / hit.rank) for hit in results[0].hits[:k])
