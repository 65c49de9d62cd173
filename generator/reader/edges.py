"""Where an answer begins and ends: no cut number, no title without its name, no half of brackets."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"[$£€¥]?\d+(?:[.,:]\d+)*%?")
_TITLE = re.compile(
    r"(?:^|(?<=\W))(?:Mr|Mrs|Ms|Mx|Messrs|Dr|Drs|Prof|St|Sts|Rev|Hon|Capt|Cpt|Col|Gen|Lt|Maj|Sgt|Sen|Rep|Gov|Sir)\.?$"
)
_NAME = re.compile(
    r"\.?[^\S\n]+(?:[A-Z][\w'’-]*\.?|and|of|de|van|von)(?:[^\S\n]+(?:[A-Z][\w'’-]*|and(?=[^\S\n]+[A-Z])))*"
)
_LOOSE = ",;: \t\n"
_MARKS = (("<", ">"), ("`", "`"))  # of markup, which runs on without spaces: "`run <run_command>`"
_PAIRS = {"(": ")", "[": "]", "{": "}", "“": "”", "«": "»"}
_REACH = 40  # characters around a span in which a number may go on


def mend(text: str, start: int, end: int) -> tuple[int, int]:
    """The span [start, end) of `text` with whole numbers and names, and without loose punctuation.

    A trained span head seldom needs this; where it does, "42" out of "42,000" would be a wrong answer.
    """
    start, end = _whole_numbers(text, start, end)
    start, end = _whole_marks(text, start, end)
    end = _with_name(text, start, end)
    return _without_loose_ends(text, start, end)


def _whole_numbers(text: str, start: int, end: int) -> tuple[int, int]:
    first, last = start, end
    for match in _NUMBER.finditer(text, max(0, start - _REACH), min(len(text), end + _REACH)):
        if match.start() < start < match.end():
            first = match.start()
        if match.start() < end < match.end():
            last = match.end()
    return first, last


def _whole_marks(text: str, start: int, end: int) -> tuple[int, int]:
    """Half of an inline mark goes on to its other half, if that is near and on the same line."""
    for opening, closing in _MARKS:
        inside = text[start:end]
        if opening == closing:
            unpaired_closing = unpaired_opening = inside.count(closing) % 2 == 1
        else:
            unpaired_closing = inside.count(closing) > inside.count(opening)
            unpaired_opening = inside.count(opening) > inside.count(closing)
        before = text.rfind(opening, max(0, start - _REACH), start)
        after = text.find(closing, end, end + _REACH)
        if unpaired_closing and before >= 0 and "\n" not in text[before:start]:
            start = before
        elif unpaired_opening and after >= 0 and "\n" not in text[end : after + 1]:
            end = after + 1
    return start, end


def _with_name(text: str, start: int, end: int) -> int:
    """A title is no name: "Messrs" goes on to "Messrs. Calder and Voss"."""
    if not _TITLE.search(text, start, end):
        return end
    name = _NAME.match(text, end)
    return name.end() if name else end


def _without_loose_ends(text: str, start: int, end: int) -> tuple[int, int]:
    """Closes a bracket right after the span, drops one that has no partner at an edge, and commas."""
    first, last = start, end
    while first < last and text[first] in _LOOSE:
        first += 1
    while first < last and text[last - 1] in _LOOSE:
        last -= 1
    for opening, closing in _PAIRS.items():
        surplus = text.count(opening, first, last) - text.count(closing, first, last)
        if surplus > 0 and text.startswith(closing, last):
            last += 1
        elif surplus > 0 and text.startswith(opening, first):
            first += 1
        elif surplus < 0 and text.endswith(closing, first, last):
            last -= 1
    return (first, last) if any(c.isalnum() for c in text[first:last]) else (start, end)
