"""What a speaker took back is not searched for; a fluent question stays as it is, letter by letter."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.disfluency import repair_disfluencies


@pytest.mark.parametrize(
    ("spoken", "meant"),
    [
        # a question that begins anew
        ("what is no wait who founded Rome", "who founded Rome"),
        ("what do astronomers no what do comets consist of", "what do comets consist of"),
        (
            "besides copper what oh wait which metals did they trade",
            "besides copper which metals did they trade",
        ),
        ("in what year no sorry in which decade was it built", "in which decade was it built"),
        # a repair that takes up a word of the reparandum
        ("what is the height no wait the depth of Loch Ness", "what is the depth of Loch Ness"),
        ("who led the army scratch that no the navy in 1805", "who led the navy in 1805"),
        # a name or a number in the place of another
        ("when did Leonardo da Vinci I mean Michelangelo die", "when did Michelangelo die"),
        ("who won in 1998 no sorry 2002 and where", "who won in 2002 and where"),
        ("Why did Bremen join the league, no sorry it was Hamburg?", "Why did Hamburg join the league"),
        # nothing in common: the last word before the interruption is taken back
        ("how deep is the largest no wait smallest lake of Wales", "how deep is the smallest lake of Wales"),
        # several in one
        ("what is the I mean who is the king no wait the queen of Spain", "who is the queen of Spain"),
        # fillers, repetitions, broken-off words
        ("um what is uh the height of the tower", "what is the height of the tower"),
        ("what is the the height of of the tower", "what is the height of the tower"),
        ("what is what is the height", "what is the height"),
        ("wh- what is the height", "what is the height"),
        # apostrophes are no quotation marks
        ("who fed the dogs' um puppies and didn't um leave", "who fed the dogs' puppies and didn't leave"),
        ("why 'twas um the king no wait the queen's son", "why 'twas the queen's son"),
        ("what does 'er' mean no wait what does um 'uh' mean", "what does 'uh' mean"),
    ],
)
def test_what_was_taken_back_is_not_searched_for(spoken, meant):
    assert repair_disfluencies(spoken) == meant


@pytest.mark.parametrize(
    "fluent",
    [
        "Why is there no oxygen on Mars?",
        "Is it a yes or no question?",
        "Who said no when Hitler asked?",
        "Which laws make that illegal?",
        "What does I mean in Roman numerals?",
        "What do I mean by that?",
        "Who sang Sorry Seems to Be the Hardest Word?",
        "Why did they wait no longer than a day?",
        "How long did they wait when the train was late?",
        "Do people actually eat what bears eat?",
        "Is Pluto a planet or rather a dwarf planet?",
        "The fact that that is so: who had had it before?",
        "Who founded the band The The in London?",
        "Which flights go from New York New York to Walla Walla?",
        "Where is the UM campus of the university?",
        "How do I log in in London and hold on to it?",
        'Who wrote the line "what is no wait who founded Rome"?',
        "Who wrote “no wait, what is it” on the wall?",
        "What does 'um' mean in German?",
        "What does ‘um’ mean in German?",
        "How is the filler ('uh') written?",
        "Who wrote 'what is no wait who founded Rome'?",
        "Who said ‘in 1998 no wait in 2002’ on the dogs' behalf?",
        'Who sang "and the the rain fell" in 1970?',
        "What does 'a wh- what' stand for?",
        "Um wie viel Uhr beginnt das Spiel?",
        "O que é um número primo, no sorry?",
        "no wait",
        "no wait what",
        "",
        "   ",
    ],
)
def test_a_fluent_question_stays_as_it_is(fluent):
    assert repair_disfluencies(fluent) == fluent


def test_a_long_text_is_not_taken_for_speech():
    text = "what is the the " * 60
    assert repair_disfluencies(text) == text


_WORDS = st.sampled_from(
    [
        "what",
        "who",
        "the",
        "of",
        "no",
        "wait",
        "sorry",
        "I",
        "mean",
        "make",
        "that",
        "uh",
        "in",
        "Rome",
        "1990",
        "river,",
        "is",
        '"',
        "-",
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_WORDS, max_size=14).map(" ".join))
def test_a_repair_only_takes_words_away_and_never_all_that_say_something(question):
    repaired = repair_disfluencies(question)
    left = [word.strip(",-") for word in question.split()]
    for word in repaired.split():
        assert word.strip(",-") in left
    assert len(repaired.split()) <= len(question.split())
    assert bool(repaired.strip()) == bool(question.strip())


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_taken(question):
    repair_disfluencies(question)
