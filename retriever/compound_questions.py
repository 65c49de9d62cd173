"""Questions that ask several things, taken apart: what is asked, or searched for, part by part."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from retriever.lookahead_sources import collapsed
from retriever.types import SearchResult

_MAX_PARTS = 8
_MIN_WORDS = 3  # "who and when" is one question
_BREAK = re.compile(  # of text without runs of white space, on which it would backtrack
    r"(?<=[?？])\s+"
    r"|\n"
    r"|\s*;\s+"
    r"|\s*,?\s+(?:and|but)\s+(?=(?:also\s+)?(?:who|whom|whose|what|when|where|which|why|how)\b)",
    re.IGNORECASE,
)
_LEADING = re.compile(r"^(?:[-*•]|\(?\d{1,2}[.)]|(?:and|but|also)\b)\s*", re.IGNORECASE)


def sub_questions(question: str) -> tuple[str, ...]:
    """The parts of a question that asks several things, in order, each a question; () where it asks one.

    By rules and for English: at the end of a question, at the end of a line, at a semicolon, and before a
    question word after "and" or "but". A part keeps its words, so one that says "it" still does.
    """
    parts = []
    lines = filter(None, map(collapsed, question.splitlines()))
    for piece in _BREAK.split("\n".join(lines)):
        part = collapsed(_LEADING.sub("", piece.strip())).rstrip(" ,;.?？")
        if len(part.split()) >= _MIN_WORDS:
            parts.append(f"{part}?")
    return tuple(dict.fromkeys(parts))[:_MAX_PARTS] if len(parts) > 1 else ()


class SubQuestions:
    """A LookaheadSource: the parts of the last question that had any, until something else is asked.

    `split` takes a question apart; a model may do it better than the rules.
    """

    def __init__(self, split: Callable[[str], Sequence[str]] = sub_questions) -> None:
        self._split = split
        self._parts: tuple[str, ...] = ()  # replaced as a whole, as threads share it

    def observe(self, query: str, result: SearchResult | None) -> None:
        """Takes the question apart, or moves on to the part after it."""
        text, known = collapsed(query), self._parts
        parts = tuple(collapsed(part) for part in self._split(query))
        if not parts and text in known:
            parts = known[known.index(text) + 1 :]
        self._parts = parts

    def expected(self, limit: int) -> Sequence[str]:
        """The parts that were not asked yet."""
        return self._parts[:limit]
