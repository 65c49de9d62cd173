"""Sentence boundaries, by rules that hold for prose, lists and broken PDF lines in any script."""

from __future__ import annotations

import re

_END = re.compile(
    r"""
    (?: [.!?…]+ ["'”’)\]]* (?=\s) | [。！？؟।] ["'”’」』)]* )   # final punctuation, with closing quotes
    | \n\s*\n                                                    # an empty line
    | \n (?= \s* (?: [-*•–] | \d{1,3}[.)] ) \s )                 # a list item begins
    """,
    re.VERBOSE,
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'])(?:[A-Z]|Mr|Mrs|Ms|Messrs|Dr|Prof|St|Jr|Capt|Maj|Sen|Gov|Mt|Sr|vs|etc|e\.g|i\.e|cf|al|no|No|Nos|Fig|fig|Eq|Sec|pp?|"
    r"approx|ca?|Inc|Ltd|Co|Corp|Gen|Col|Lt|Sgt|Rev|Hon|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|"
    r"U\.S|U\.K|a\.m|p\.m|Ph\.D|M\.D|B\.C|A\.D)\.$"
)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """[start, end) of each sentence, without white space around; together they hold all visible text."""
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _END.finditer(text):
        end = match.end()
        if text[match.start()] in ".!?…" and not _ends_sentence(text, start, end):
            continue
        _append(spans, text, start, end)
        start = end
    _append(spans, text, start, len(text))
    return spans


def ends_sentence(text: str) -> bool:
    """Whether a text that goes on after a space has come to the end of a sentence."""
    bare = text.rstrip("\"'”’)]」』")
    if not bare.endswith((".", "!", "?", "…", "。", "！", "？", "؟", "।")):
        return False
    return not bare.endswith(".") or _ends_sentence(text, 0, len(bare))


def _ends_sentence(text: str, start: int, end: int) -> bool:
    """Whether the mark before `end` ends a sentence: no abbreviation, no lower case after it."""
    if _ABBREVIATION.search(text, max(start, end - 12), end):
        return False
    following = text[end : end + 16].lstrip()
    return not following or not following[0].islower()


def _append(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    stripped = piece.strip()
    if stripped:
        begin = start + piece.index(stripped[0])
        spans.append((begin, begin + len(stripped)))
