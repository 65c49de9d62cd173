"""Yes and no are said where a sentence says so word for word, and nowhere else."""

from __future__ import annotations

import pytest

from generator.reader.yes_no import is_yes_no, verdict


@pytest.mark.parametrize(
    ("question", "sentence", "said"),
    [
        ("Do dogs travel free?", "Dogs travel free on every crossing.", "Yes"),
        ("Was the bridge built in 1931?", "The bridge was built by Mara Ellison in 1931.", "Yes"),
        ("Does the Wagtail carry cars?", "Since 1987 the Wagtail has carried cars and lorries.", "Yes"),
        ("Does the Dipper sail in ice?", "The Dipper does not sail in ice.", "No"),
        ("Can the Dipper sail in ice?", "The Dipper can’t sail in ice.", "No"),
        ("Is Marrowick an island?", "Marrowick was never an island.", "No"),
    ],
)
def test_a_sentence_in_the_words_of_the_question_settles_it(question, sentence, said):
    assert verdict(question, sentence) == said


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("Was the bridge built in 1931?", "The bridge was built in 1932."),
        ("Was the bridge built in 1931?", "The bridge was planned in 1931 and built later."),
        ("Do dogs travel free?", "Dogs travel free if they are small."),
        ("Do dogs travel free?", "Only guide dogs travel free."),
        ("Do dogs travel free?", "Travel is free for people with dogs."),
        ("Is the ferry safe?", "It is not true that the ferry is not safe."),
        ("Isn't the ferry safe?", "The ferry is safe."),
        ("Does collateral flow predict restenosis?", "We asked whether collateral flow predicts restenosis."),
        ("Do dogs travel free?", "Do dogs travel free?"),
        ("Is it red?", "It is red."),
        ("Is the Dipper red or blue?", "The Dipper is red or blue."),
        (
            "Does the tug pull the barge?",
            "The tug came, a mate woke, oil ran, wind rose, men pull the barge.",
        ),
        ("What is free?", "Dogs travel free."),
    ],
)
def test_everything_else_is_left_open(question, sentence):
    assert verdict(question, sentence) is None


def test_alternatives_are_no_yes_no_question():
    assert is_yes_no("Is it open?")
    assert not is_yes_no("Is it open or closed?")
    assert not is_yes_no("When is it open?")
