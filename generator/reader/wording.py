"""How an answer is worded: short, or as the sentence that says it. Always in the passage's own words."""

from __future__ import annotations

import re
from typing import NamedTuple

from generator.reader.sentences import sentence_spans

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
_YES_NO = re.compile(
    r"^\W*(?:is|are|was|were|am|do|does|did|can|could|has|have|had|will|would|should|shall|may|might|must)\b",
    re.IGNORECASE,
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
    """Whether a span would be too short an answer: how, why, what is X, explain ..., and yes/no questions.

    A yes/no question gets the sentence that settles it, because this reader was not trained to say which.
    """
    return bool(_WANTS_SENTENCE.search(question) or _DEFINITION.match(question) or _YES_NO.match(question))


def word_answer(
    question: str, passage: str, start: int, end: int, *, rank: int, max_characters: int = 600
) -> Wording:
    """Word the answer `passage[start:end]`, marked `[rank]`.

    A question that wants a sentence gets the sentence(s) around the span; a bare number or word gets its
    sentence after it, as a quotation, because "42" alone explains nothing. A "sentence" of more than
    `max_characters` (a table, a listing) is left out.
    """
    mark = f"[{rank}]"
    span = Evidence(start, end)
    sentence = _around(passage, span)
    fits = sentence.end - sentence.start <= max(max_characters, end - start)
    if wants_sentence(question) and fits:
        return Wording(f"{_shown(passage, sentence)} {mark}", (sentence,))
    answer = f"{_shown(passage, span)} {mark}"
    if _BARE.match(passage[start:end]) and fits and sentence != span:
        return Wording(f"{answer} “{_shown(passage, sentence)}”", (span, sentence))
    return Wording(answer, (span,))


def _around(passage: str, span: Evidence) -> Evidence:
    """The sentences that the span touches."""
    touched = [(s, e) for s, e in sentence_spans(passage) if s < span.end and e > span.start]
    if not touched:
        return span
    return Evidence(min(touched[0][0], span.start), max(touched[-1][1], span.end))


def _shown(passage: str, evidence: Evidence) -> str:
    """The words of the evidence on one line: where a page broke its lines is no part of an answer."""
    return " ".join(passage[evidence.start : evidence.end].split())
