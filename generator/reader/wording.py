"""How an answer is worded: short, or as the sentence that says it. Always in the passage's own words."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from generator.reader.lines import structured_lines
from generator.reader.sentences import sentence_spans
from generator.reader.yes_no import Verdict, is_yes_no, opens_with_a_verb, verdict

UNSUPPORTED = "The passages do not answer this question."

_QUANTITY = (
    r"many|much|long|old|often|far|tall|high|big|large|small|deep|wide|heavy|fast|hot|cold|late|early|soon|"
    r"quickly|old|thick|strong|loud|close|near|wide|warm|expensive|frequently|likely|few|little|young"
)
_WANTS_SENTENCE = re.compile(
    rf"""
    \b(?: why | how \s+ (?! (?:{_QUANTITY})\b ) | how $
        | describe | explain | define | summari[sz]e | compare | outline | elaborate
        | tell \s+ me \s+ (?:about|how|why)
        | what \s+ (?:happens|happened|would\ happen|will\ happen)
        | what \s+ do(?:es)? \s+ .+ \s+ (?:mean|do|stand\ for)
        | in \s+ what \s+ ways? | for \s+ what \s+ reasons? | what \s+ (?:is|was|are|were) \s+ the \s+
          (?:difference|reason|purpose|point|meaning|definition|procedure|process)s? \b
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_DEFINITION = re.compile(
    r"^\W*what(?:'s|’s|\s+(?:is|are|was|were))\s+(?:an?\s+)?(?!the\b)[\w' -]+?\W*$", re.IGNORECASE
)
_BARE = re.compile(r"^\W*\w{1,4}\W*$")


class Evidence(NamedTuple):
    """Characters [start, end) of a passage."""

    start: int
    end: int


class Wording(NamedTuple):
    """An answer's text with its mark, and the stretches of the passage that it shows."""

    text: str
    evidence: tuple[Evidence, ...]


def wants_sentence(question: str) -> bool:
    """Whether a span would be too short an answer: how, why, what is X, explain ..., and yes/no questions."""
    return bool(
        _WANTS_SENTENCE.search(question) or _DEFINITION.match(question) or opens_with_a_verb(question)
    )


def word_answer(
    question: str,
    passage: str,
    start: int,
    end: int,
    *,
    rank: int,
    second: Evidence | None = None,
    max_characters: int = 600,
) -> Wording:
    """Word the answer `passage[start:end]`, marked `[rank]`.

    A question that wants a sentence gets the sentence(s) around the span, and around `second` where that is
    nearly as good; a yes/no question that one of them settles gets its yes or no before it. A bare number or
    word gets its sentence after it, as a quotation, because "42" alone explains nothing; so does whatever
    stands in code or a table, and there the "sentence" is the whole line, as it stands. A sentence of more
    than `max_characters` is left out.
    """
    mark = f"[{rank}]"
    span = Evidence(start, end)
    lines = structured_lines(passage, start, end)
    whole = sentence_around(passage, span) if lines is None else Evidence(*lines)
    show = _on_one_line if lines is None else _as_it_stands
    fits = whole.end - whole.start <= max(max_characters, end - start)
    if wants_sentence(question) and fits:
        said = settles(question, passage, span)
        if said is not None:
            return Wording(f"{said}. {show(passage, whole)} {mark}", (whole,))
        shown = _with_second(passage, whole, second) if second is not None and lines is None else (whole,)
        return Wording(f"{_joined(passage, shown, show)} {mark}", shown)
    answer = f"{_on_one_line(passage, span)} {mark}"
    if fits and whole != span and (lines is not None or _BARE.match(passage[start:end])):
        return Wording(f"{answer} “{show(passage, whole)}”", (span, whole))
    return Wording(answer, (span,))


def settles(question: str, passage: str, span: Evidence) -> Verdict | None:
    """Yes or no, where the sentence around the span says so; see `yes_no`. Never by code or a table."""
    if not is_yes_no(question) or structured_lines(passage, span.start, span.end) is not None:
        return None
    sentence = sentence_around(passage, span)
    return verdict(question, passage[sentence.start : sentence.end])


def sentence_around(passage: str, span: Evidence) -> Evidence:
    """The sentences that the span touches."""
    touched = [(s, e) for s, e in sentence_spans(passage) if s < span.end and e > span.start]
    if not touched:
        return span
    return Evidence(min(touched[0][0], span.start), max(touched[-1][1], span.end))


def _with_second(passage: str, whole: Evidence, second: Evidence) -> tuple[Evidence, ...]:
    """Both sentences in the passage's order; one, where they overlap."""
    other = sentence_around(passage, second)
    if other.start < whole.end and whole.start < other.end:
        return (whole,)
    return tuple(sorted((whole, other)))


def _joined(passage: str, shown: tuple[Evidence, ...], show: Callable[[str, Evidence], str]) -> str:
    """The sentences one after the other, with dots where something is left out between them."""
    text = show(passage, shown[0])
    for before, after in pairwise(shown):
        gap = " " if not passage[before.end : after.start].strip() else " … "
        text += gap + show(passage, after)
    return text


def _on_one_line(passage: str, evidence: Evidence) -> str:
    """The words of the evidence on one line: where a page broke its lines is no part of an answer."""
    return " ".join(passage[evidence.start : evidence.end].split())


def _as_it_stands(passage: str, evidence: Evidence) -> str:
    """The evidence letter for letter: in code and tables, spaces and lines mean something."""
    return passage[evidence.start : evidence.end]
