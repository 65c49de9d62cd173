from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.reader.sentences import sentence_spans
from generator.reader.wording import Evidence, wants_sentence, word_answer

PASSAGE = (
    "Dr. Voss founded the line in 1952. A car costs 42 pounds.  "
    "Dogs travel free because the island asked for it."
)


@pytest.mark.parametrize(
    "question",
    [
        "Why do dogs travel free?",
        "How does the chain ferry work?",
        "how do I book a crossing",
        "What is a chain ferry?",
        "what's an incubation period?",
        "Explain the links",
        "What happens when the wind rises?",
        "What does APR mean?",
        "Is Marrowick an island?",
        "Do dogs pay?",
        "What is the difference between the two boats?",
    ],
)
def test_questions_that_want_a_sentence_are_recognised(question: str) -> None:
    assert wants_sentence(question)


@pytest.mark.parametrize(
    "question",
    [
        "What is the population of Marrowick?",
        "How many passengers may it carry?",
        "How much is a car?",
        "How long does it take?",
        "At what mean wind does the Wagtail stop sailing?",
        "Who founded the line?",
        "When was the line founded?",
        "Where is the office?",
    ],
)
def test_questions_that_want_a_few_words_are_left_alone(question: str) -> None:
    assert not wants_sentence(question)


def test_a_few_words_are_given_with_their_mark() -> None:
    start = PASSAGE.index("42 pounds")
    worded = word_answer("How much is a car?", PASSAGE, start, start + 9, rank=3)
    assert worded.text == "42 pounds [3]"
    assert worded.evidence == ((start, start + 9),)


def test_a_bare_number_brings_its_sentence() -> None:
    start = PASSAGE.index("42")
    worded = word_answer("How much is a car?", PASSAGE, start, start + 2, rank=1)
    assert worded.text == "42 [1] “A car costs 42 pounds.”"
    assert [PASSAGE[s:e] for s, e in worded.evidence] == ["42", "A car costs 42 pounds."]


def test_a_question_that_wants_a_sentence_gets_the_one_around_the_span() -> None:
    start = PASSAGE.index("the island")
    worded = word_answer("Why do dogs travel free?", PASSAGE, start, start + 10, rank=2)
    assert worded.text == "Dogs travel free because the island asked for it. [2]"


def test_a_span_across_sentences_brings_all_of_them() -> None:
    start, end = PASSAGE.index("costs"), PASSAGE.index("free") + 4
    worded = word_answer("Why?", PASSAGE, start, end, rank=1)
    assert worded.text.startswith("A car costs 42 pounds. Dogs")


def test_a_line_break_of_the_page_is_no_part_of_the_answer() -> None:
    page = "The tug needs 12\n    minutes from the quay."
    start, end = page.index("12"), page.index(" from")
    worded = word_answer("How long does the tug need?", page, start, end, rank=1)
    assert worded.text == "12 minutes [1]"
    assert page[slice(*worded.evidence[0])] == "12\n    minutes"


TWO = "Fog is common. The bell is rung because of it. Boats wait. So the horn is blown, too."


def test_a_second_sentence_that_is_nearly_as_good_is_shown_in_its_place() -> None:
    first, second = TWO.index("rung"), TWO.index("horn")
    worded = word_answer("Why?", TWO, second, second + 4, rank=1, second=Evidence(first, first + 4))
    assert worded.text == "The bell is rung because of it. … So the horn is blown, too. [1]"
    assert [TWO[s:e] for s, e in worded.evidence] == [
        "The bell is rung because of it.",
        "So the horn is blown, too.",
    ]
    beside = TWO.index("Boats")
    worded = word_answer("Why?", TWO, second, second + 4, rank=1, second=Evidence(beside, beside + 5))
    assert worded.text == "Boats wait. So the horn is blown, too. [1]"


def test_a_yes_or_no_stands_before_the_sentence_that_says_so() -> None:
    start = PASSAGE.index("free")
    assert word_answer("Do dogs travel free?", PASSAGE, start, start + 4, rank=2).text == (
        "Yes. Dogs travel free because the island asked for it. [2]"
    )
    start = PASSAGE.index("42")
    assert word_answer("Do dogs travel free?", PASSAGE, start, start + 2, rank=2).text == (
        "A car costs 42 pounds. [2]"
    )


def test_code_is_shown_as_it_stands() -> None:
    code = "def fare(age):\n    if age < 6:\n        return 0;\n    return 280;\n"
    start = code.index("280")
    worded = word_answer("What does an adult pay?", code, start, start + 3, rank=1)
    assert worded.text == "280 [1] “return 280;”"
    whole = word_answer("How is the fare found?", code, code.index("age <"), code.index("0;"), rank=1)
    assert whole.text == "    if age < 6:\n        return 0; [1]"


def test_a_cell_of_a_table_brings_its_row() -> None:
    table = "Boat | Built | Cars\n--- | --- | ---\nWagtail | 1987 | 14\nDipper | 2004 | 0"
    start = table.index("1987")
    worded = word_answer("When was the Wagtail built?", table, start, start + 4, rank=4)
    assert worded.text == "1987 [4] “Wagtail | 1987 | 14”"


def test_a_table_without_sentences_is_not_quoted_whole() -> None:
    table = "fare " * 400 + "42 pounds"
    start = table.index("42")
    assert word_answer("Why 42?", table, start, start + 9, rank=1).text == "42 pounds [1]"


def test_sentences_end_where_a_reader_would_say_so() -> None:
    text = (
        "Dr. Voss came at 5 p.m. on Monday. “Really?” she asked. See Fig. 3 for e.g. details.\n\n"
        "New heading\n"
        "- one item\n- two items\n\n東京です。大阪です。 The end"
    )
    assert [text[s:e] for s, e in sentence_spans(text)] == [
        "Dr. Voss came at 5 p.m. on Monday.",
        "“Really?” she asked.",
        "See Fig. 3 for e.g. details.",
        "New heading",
        "- one item",
        "- two items",
        "東京です。",
        "大阪です。",
        "The end",
    ]


@given(st.text(max_size=200))
def test_sentences_lose_nothing_visible_and_never_overlap(text: str) -> None:
    spans = sentence_spans(text)
    assert all(character.isspace() for character in _between(text, spans))
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def _between(text: str, spans: list[tuple[int, int]]) -> str:
    """What no sentence covers."""
    covered = {i for s, e in spans for i in range(s, e)}
    return "".join(character for i, character in enumerate(text) if i not in covered)
