"""Yes or no: said only where one sentence settles the question in its own words.

The reader was not taught to judge whether a sentence implies another, so no judgement is made: the sentence
must have every content word of the question, in the question's order and close together. Then it says what
is asked, or, with one negation among those words, the opposite. Anything that could turn the meaning (a
condition, an exception, a second negation, an alternative) leaves the question open; its sentence is still
shown.
"""

from __future__ import annotations

import re
from typing import Literal

Verdict = Literal["Yes", "No"]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_AUXILIARY = "is are was were am do does did can could has have had will would should shall may might must"
_QUESTION = re.compile(rf"^\W*(?:{'|'.join(_AUXILIARY.split())})\b", re.IGNORECASE)
_WORD = re.compile(r"\w+?n't\b|\w+(?:[.,:]\d+)*")
_EMPTY = _set(
    f"{_AUXILIARY} a an the be been being of in on at to by for with from into as and that this these those "
    "it its there any ever still also then than his her their our your my i you he she we they who which s"
)
_NEGATION = _set("not no never none neither nor without cannot nothing nobody nowhere")
_TURNING = _set(
    "if unless except only but although though however until before after instead rather almost nearly "
    "hardly rarely seldom sometimes often usually some few most once formerly former planned proposed "
    "believed claimed said says alleged reportedly perhaps possibly probably may might could would should or "
    "false untrue wrong denied whether hypothesis hypothesised hypothesized aim aims aimed investigate "
    "evaluate assess determine clarify clarifying question how when"
)
_MIN_WORDS = 2
_SLACK = 4  # other content words that may stand among the question's


def opens_with_a_verb(question: str) -> bool:
    """Whether a question opens like one for yes or no."""
    return bool(_QUESTION.match(question))


def is_yes_no(question: str) -> bool:
    """Whether a question asks for yes or no: it opens with a verb and offers no alternatives."""
    return opens_with_a_verb(question) and " or " not in question.lower()


def verdict(question: str, sentence: str) -> Verdict | None:
    """What the sentence says to a yes/no question; None where it does not settle it."""
    asked = _WORD.findall(question.lower().replace("’", "'"))
    if not is_yes_no(question) or any(_negates(word) for word in asked):
        return None
    wanted = [_stem(word) for word in asked if word not in _EMPTY]
    words = _WORD.findall(sentence.lower().replace("’", "'"))
    if len(wanted) < _MIN_WORDS or sentence.rstrip().endswith("?"):
        return None
    if _TURNING.intersection(words).difference(asked):
        return None
    places = _in_order(wanted, words)
    if places is None:
        return None
    between = words[places[0] : places[-1] + 1]
    if sum(word not in _EMPTY and not _negates(word) for word in between) > len(wanted) + _SLACK:
        return None
    negations = sum(map(_negates, words))
    if negations == 0:
        return "Yes"
    return "No" if negations == 1 and any(map(_negates, between)) else None


def _in_order(wanted: list[str], words: list[str]) -> list[int] | None:
    """Places of the wanted stems among the words, each after the one before; the shortest such stretch."""
    stems = [_stem(word) for word in words]
    best: list[int] | None = None
    for begin in (place for place, stem in enumerate(stems) if stem == wanted[0]):
        places = [begin]
        for stem in wanted[1:]:
            following = next((i for i in range(places[-1] + 1, len(stems)) if stems[i] == stem), None)
            if following is None:
                return best
            places.append(following)
        if best is None or places[-1] - places[0] < best[-1] - best[0]:
            best = places
    return best


def _negates(word: str) -> bool:
    return word in _NEGATION or word.endswith("n't")


def _stem(word: str) -> str:
    """A word without the endings that a verb or noun changes with: carried, carries, carry."""
    for ending, instead in (("ies", "y"), ("ied", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + instead
            break
    return word.rstrip("e")
