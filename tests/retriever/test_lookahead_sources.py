"""What is likely to be asked next, by a queue, by headings, by the parts of a question, by what is typed."""

from __future__ import annotations

import pytest

from indexer.types import Chunk
from retriever import PastQueries, SearchResult, SubQuestions, TypedText, sub_questions
from retriever.lookahead_sources import HeadingFollowUps, QueuedQueries
from retriever.types import Hit


def test_a_queue_moves_past_what_was_asked_and_what_was_passed_over():
    queue = QueuedQueries(["a", "b  b", "c", "a", "d"], max_queries=4)
    assert queue.expected(9) == ["a", "b  b", "c", "a"]
    queue.observe("something else", None)
    queue.observe("b b", None)
    assert queue.expected(1) == ["c"]
    queue.extend(["e"])
    assert queue.expected(9) == ["c", "a", "e"]
    queue.clear()
    assert queue.expected(9) == []


def test_a_queue_holds_no_more_characters_than_it_may_and_has_room_again_when_some_are_asked():
    queue = QueuedQueries(["four", "more", "x"], max_chars=9)
    queue.extend(["one too many"])
    assert queue.expected(9) == ["four", "more", "x"]
    queue.observe("more", None)
    queue.extend(["fits now"])
    assert queue.expected(9) == ["x", "fits now"]
    queue.clear()
    queue.extend(["123456789", "x"])
    assert queue.expected(9) == ["123456789"]


def hits(*paths: tuple[str, ...]) -> SearchResult:
    chunks = [Chunk(str(i), "d", "/d", "", 0, 0, None, (), path, "text") for i, path in enumerate(paths)]
    return SearchResult(tuple(Hit(chunk, 1.0, i) for i, chunk in enumerate(chunks, start=1)), "miss")


def test_follow_ups_are_the_headings_of_the_hits():
    source = HeadingFollowUps()
    assert source.expected(3) == []
    source.observe("routing:  rules", hits(("Guide", "Routing", "Rules"), (), ("Guide", "Views"), ("Guide",)))
    assert source.expected(9) == ["Guide: Views", "Guide"]
    assert source.expected(1) == ["Guide: Views"]
    source.observe("bad", None)
    assert source.expected(9) == []


def test_with_an_outline_the_sections_around_a_hit_are_follow_ups_too():
    outline = [("A",), ("A", "B"), ("A", "C"), ("D",)]
    source = HeadingFollowUps(outline=lambda _: outline, phrase=lambda path: path[-1])
    source.observe("?", hits(("A", "B"), ("D",), ("Z",)))
    assert source.expected(9) == ["B", "C", "A", "D", "Z"]


# --- parts of a question


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        (
            "Who designed the bridge and when was it opened?",
            ("Who designed the bridge?", "when was it opened?"),
        ),
        ("What does it cost?  How is it paid?", ("What does it cost?", "How is it paid?")),
        (
            "1. What is the toll?\n2) Who sets it today?\n- and where is it paid",
            ("What is the toll?", "Who sets it today?", "where is it paid?"),
        ),
        ("Name the owner of it; say, where he lives", ("Name the owner of it?", "say, where he lives?")),
    ],
)
def test_a_question_that_asks_several_things_falls_into_its_parts(question, parts):
    assert sub_questions(question) == parts


@pytest.mark.parametrize(
    "question",
    [
        "",
        "Who designed the bridge?",
        "Who and when?",
        "Which bread and butter is sold here?",
        "Is the man who built it still alive?",
        "What is the difference between a toll and a fee?",
    ],
)
def test_a_question_that_asks_one_thing_has_no_parts(question):
    assert sub_questions(question) == ()


@pytest.mark.parametrize("space", [" ", "\t", "\n", "\r\n", " \n", "\u3000", "\x0c"])
def test_white_space_without_end_is_one_space_or_one_break(space):
    gap = space * 8000
    parts = ("who built it?", "when was it opened?")
    assert sub_questions(f"who built it;{gap}when was it opened{gap}") == parts
    assert sub_questions(f"who built it{gap}, and{gap}when was it opened") == parts


def test_parts_are_a_few_and_none_comes_twice():
    many = "? ".join(f"What is number {i % 10}" for i in range(30))
    assert sub_questions(many) == tuple(f"What is number {i}?" for i in range(8))


def test_the_parts_are_expected_one_after_another_until_something_else_is_asked():
    source = SubQuestions()
    source.observe("Who built the bridge, and what does it cost?", None)
    assert source.expected(9) == ("Who built the bridge?", "what does it cost?")
    assert source.expected(1) == ("Who built the bridge?",)
    source.observe("Who built  the bridge?", None)
    assert source.expected(9) == ("what does it cost?",)
    source.observe("something else", None)
    assert source.expected(9) == ()


def test_another_way_of_taking_questions_apart_may_be_given():
    source = SubQuestions(lambda question: question.split("/"))
    source.observe("one / two", None)
    assert source.expected(9) == ("one", "two")


# --- typing


def test_what_is_being_typed_is_expected_once_it_may_be_a_question_and_until_it_is_asked():
    source = TypedText()
    assert source.expected(3) == []
    source.write("who")
    assert source.expected(3) == []
    source.write(" who   built it ")
    assert source.expected(3) == ["who built it"]
    assert source.expected(0) == []
    source.observe("who built it", None)
    assert source.expected(3) == []


def test_those_who_began_like_this_went_on_like_that():
    source = PastQueries()
    for query in ("What is  a toll?", "what is a fee?", "who pays?", "What is a toll?", "what is the sea?"):
        source.observe(query, hits(("A",)))
    assert source.expected(9) == []
    source.write("WHAT  is")
    assert source.expected(9) == ["What is a toll?", "what is the sea?", "what is a fee?"]
    assert source.expected(1) == ["What is a toll?"]
    source.write("wh")
    assert source.expected(9) == []
    source.write("who")
    source.observe("who pays?", hits(("A",)))
    assert source.expected(9) == []


def test_what_was_pasted_is_not_remembered_as_typed():
    source = PastQueries()
    source.observe("query " + "x" * 1000, hits(("A",)))
    source.write("query")
    assert source.expected(9) == []


def test_only_the_latest_queries_that_found_something_are_remembered():
    source = PastQueries(max_queries=2)
    source.observe("query that failed", None)
    source.observe("query without hits", hits())
    for query in ("query 1", "query 2", "query 1", "query 3"):
        source.observe(query, hits(("A",)))
    source.write("query")
    assert source.expected(9) == ["query 1", "query 3"]
