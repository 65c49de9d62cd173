"""Citations: what survives, what is dropped, and the evidence behind it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.citations import CitedText, EvidenceFinder, says_unanswerable, sentences

PASSAGES = [
    ("tower", "The old tower is red. It was built in 1889 by Gustave. It stands 330 metres tall."),
    ("bridge", "The bridge crosses the river. Workers finished the bridge in 1932."),
    ("code", "def head(items):\n    return items[0]"),
]


def cite(text: str) -> CitedText:
    cited = CitedText(PASSAGES)
    joined = cited.push(text) + cited.finish()
    assert joined == cited.text
    return cited


def quotes(cited: CitedText) -> list[tuple[str, str]]:
    texts = dict(PASSAGES)
    return [(span.passage_id, texts[span.passage_id][span.start : span.end]) for span in cited.spans]


def test_a_cited_sentence_gets_the_passages_sentence_as_evidence() -> None:
    cited = cite("The tower stands 330 metres tall [1]. The bridge was finished in 1932 [2].")
    assert cited.text == "The tower stands 330 metres tall [1]. The bridge was finished in 1932 [2]."
    assert quotes(cited) == [
        ("tower", "It stands 330 metres tall."),
        ("bridge", "Workers finished the bridge in 1932."),
    ]
    assert cited.passage_ids == ("tower", "bridge")
    assert 0.5 < cited.confidence <= 1


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("It was built in 1889 [1] by Gustave [7].", "It was built in 1889 [1] by Gustave."),
        ("It was built in 1889 [0] by Gustave [1].", "It was built in 1889 by Gustave [1]."),
        ("It was built in 1889 [1, 7].", "It was built in 1889 [1]."),
        ("Built in 1889 [ 1 ;1 ]", "Built in 1889 [1]"),
        ("Zebras eat grass [2].", "Zebras eat grass. [?]"),
        ("The zebra eats fresh green grass at night [2].", "The zebra eats fresh green grass at night. [?]"),
        ("[2] The bridge crosses the river.", "[2] The bridge crosses the river."),
        (
            "According to [2], the bridge crosses the river.",
            "According to [2], the bridge crosses the river.",
        ),
        ("It is red. [1] It stands 330 metres tall. [1]", "It is red. [1] It stands 330 metres tall. [1]"),
        ("  The tower is red [1].\n\n", "The tower is red [1]."),
        ("Zebras take `items[1]` and [see] a[", "Zebras take `items[1]` and [see] a[ [?]"),
        ("Zebras see no end [1", "Zebras see no end [1 [?]"),
    ],
)
def test_only_citations_that_hold_are_shown(given: str, shown: str) -> None:
    assert cite(given).text == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (
            "The tower is red [1]. Zebras eat fresh grass. It stands 330 metres tall [1].",
            "The tower is red [1]. Zebras eat fresh grass. [?] It stands 330 metres tall [1].",
        ),
        (
            "The old tower is red. Zebras eat fresh grass.",
            "The old tower is red. [1] Zebras eat fresh grass. [?]",
        ),
        ("Zebras met Dr. Gustave at 5 p.m. on Monday.", "Zebras met Dr. Gustave at 5 p.m. on Monday. [?]"),
        ("Sure! Here is what I found:\nThe old tower is red [1].", None),
        (
            "Zebras eat grass daily\nThe old tower is red [1].",
            "Zebras eat grass daily [?]\nThe old tower is red [1].",
        ),
        ("The old tower is red [1]. The passages do not mention zebras at all.", None),
        ("The old tower is red. [1] It stands 330 metres tall. [1]", None),
    ],
)
def test_sentences_that_nothing_backs_are_marked(given: str, shown: str | None) -> None:
    assert cite(given).text == (given if shown is None else shown)


def test_two_passages_for_one_claim_become_two_marks() -> None:
    cited = cite("Built in 1889 and finished in 1932 [1, 2].")
    assert cited.text == "Built in 1889 and finished in 1932 [1][2]."
    assert cited.passage_ids == ("tower", "bridge")


def test_an_answer_without_citations_gets_the_passage_that_says_it() -> None:
    cited = cite("The bridge crosses the river.")
    assert cited.text == "The bridge crosses the river. [2]"
    assert quotes(cited) == [("bridge", "The bridge crosses the river.")]


def test_an_answer_that_no_passage_says_stays_without_evidence() -> None:
    cited = cite("Zebras cross the savannah at night looking for water.")
    assert cited.spans == ()
    assert cited.confidence == 0


def test_a_refusal_gets_no_evidence() -> None:
    cited = cite("The passages do not answer this question.")
    assert cited.text == "The passages do not answer this question."
    assert cited.spans == ()


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("The passages do not answer this question.", True),
        ("Sorry, the provided text doesn't mention a price.", True),
        ("There is no price in the passages. The context has no information on it.", True),
        ("There is no mention of a price in the passages.", True),
        ("The tower is not red [1].", False),
        ("The passage says that the tower does not contain a lift [1].", False),
        ("330 metres [1].", False),
    ],
)
def test_refusals_are_recognised(text: str, refuses: bool) -> None:
    assert says_unanswerable(text) is refuses


@settings(deadline=None)
@given(
    text=st.lists(
        st.sampled_from(
            [
                "The tower is red",
                " [1]",
                "[1]",
                " [2, 1]",
                "[9]",
                ". ",
                ".",
                "\n",
                " [",
                "]",
                "`x[1]`",
                " bridge",
                "7",
                "Zebras eat fresh grass",
                " and Mr. Voss ",
            ]
        ),
        max_size=12,
    ).map("".join),
    data=st.data(),
)
def test_what_is_shown_does_not_depend_on_how_the_text_comes(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    whole, pieces = CitedText(PASSAGES), CitedText(PASSAGES)

    expected = whole.push(text) + whole.finish()
    shown = [pieces.push(text[start:end]) for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    assert "".join(shown) + pieces.finish() == expected == whole.text == pieces.text
    assert pieces.spans == whole.spans
    for span in whole.spans:
        passage = dict(PASSAGES)[span.passage_id]
        assert 0 <= span.start < span.end <= len(passage)


@settings(deadline=None)
@given(text=st.text(max_size=60))
def test_sentences_cover_all_words_in_order(text: str) -> None:
    spans = sentences(text)
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    outside = list(text)
    for start, end in spans:
        outside[start:end] = " " * (end - start)
    assert not any(character.isalnum() for character in outside)


def test_evidence_prefers_rare_words_over_common_ones() -> None:
    finder = EvidenceFinder(
        [("p", "The tower is in the city. The Eiffel is famous. The city is in the north.")]
    )
    evidence = finder.find("The Eiffel is in the city", 1)
    text = "The tower is in the city. The Eiffel is famous. The city is in the north."
    assert evidence is not None
    assert "Eiffel" in text[evidence.start : evidence.end]


def test_scripts_without_spaces_are_compared_by_character() -> None:
    finder = EvidenceFinder([("p", "塔は赤い。橋は川を渡る。")])
    evidence = finder.find("橋は川を渡ります", 1)
    assert evidence is not None
    assert (evidence.start, evidence.end) == (5, 12)


def test_marks_are_shown_as_the_reader_counts_where_the_prompt_counts_otherwise() -> None:
    said = "Workers finished the bridge in 1932 [1]. The tower stands 330 metres tall. It was built [1, 2]."
    prompt_order = [PASSAGES[1], PASSAGES[0]]
    cited = CitedText(prompt_order, ranks=(2, 1))
    shown = cited.push(said) + cited.finish()
    assert shown == cited.text
    assert shown.startswith("Workers finished the bridge in 1932 [2]. The tower stands 330 metres tall. [1]")
    assert quotes(cited)[:2] == [
        ("bridge", "Workers finished the bridge in 1932."),
        ("tower", "It stands 330 metres tall."),
    ]
