"""How good a place between two words is to end a chunk, by kind of block. Higher is better."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import islice

from indexer.token_sums import Units
from indexer.types import BlockKind

RankBoundary = Callable[[str, int, int], int]
"""(text, end of the word before, start of the word after) -> rank."""

_BLANK_LINE, _LIST_ITEM, _LAST_SENTENCE, _SENTENCE, _LINE, _CLAUSE, _WORD, _PUNCTUATION, _INSIDE = range(
    8, -1, -1
)
_ITEM_MARK = re.compile(r"(?:[-*+•‣◦–]|\(?\w{1,3}[.)])\s")
_CLOSING = "\"'”’»)]}」』）"
_SENTENCE_END = ".!?…。！？"
_WIDE_SENTENCE_END = "。！？"  # followed by no space
_CLAUSE_END = ",;:—，；：、)"
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Za-z]|[Mm]rs?|[Mm]s|[Dd]r|[Pp]rof|[Ss]t|[Nn]o|[Ff]ig|[Ee]q|[Ss]ec|[Vv]ol|[Pp]p?|cf|vs|etc|al|approx|resp|"
    r"[Ii]nc|[Ll]td|[Cc]o|[Cc]orp|[Jj]r|[Ss]r|Jan|Feb|Mar|Apr|Aug|Sept?|Oct|Nov|Dec|i\.e|e\.g|[A-Z]\.[A-Z])|^\d{1,3})\.$",
    re.MULTILINE,
)
_CODE_CONTINUATION = re.compile(
    r"[)\]}>]|(?:end|else|elif|elsif|except|finally|catch|rescue|ensure|then|fi|done|esac)\b"
)
# The last three letters of the abbreviations that have three or more.
_BEFORE_ABBREVIATION_DOT = frozenset(
    [
        *("mrs", "rof", "fig", "sec", "vol", "etc", "rox", "esp", "inc", "ltd", "orp"),
        *("jan", "feb", "mar", "apr", "aug", "sep", "ept", "oct", "nov", "dec"),
    ]
)
# What a blank between two words is worth by the last character of the first one, or that it has to be looked
# at: after what ends a sentence or a quotation and after what is not ASCII, which reads as "?".
_IN_LINE, _PERHAPS_LINE = 100, 101
_BLANK = ord(" ")


def _worth_after(clause_ends: str) -> bytes:
    looked_at = (_CLOSING + _SENTENCE_END).encode("ascii", "replace").decode()
    characters = map(chr, range(128))
    return bytes(_IN_LINE if c in looked_at else _CLAUSE if c in clause_ends else _WORD for c in characters)


_WORTH, _WORTH_IN_TABLES = _worth_after(",;:"), _worth_after(",;|")
_TAB_WIDTH = 4
_DEEPEST = 60  # columns of indentation that are told apart


class Boundaries:
    """The places between units, numbered by the unit that follows.

    Most are a blank between two words, the first of which ends with a letter or a comma: what these are worth
    is told from that character, of all of them at once. Only the others are looked at one by one, and only
    when they are compared.
    """

    def __init__(self, text: str, kind: BlockKind, units: Units) -> None:
        self._text = text
        self._rank = rank_boundary(kind)
        self._best_in_line = _CLAUSE if kind in ("code", "table") else _SENTENCE
        self._starts, self._ends = units.starts, units.ends
        origin = units.starts[0]
        codes = text[origin : units.ends[-1]].encode("ascii", "replace")
        worth_after = _WORTH_IN_TABLES if kind == "table" else _WORTH
        places = zip(units.ends, islice(units.starts, 1, None), strict=False)
        self._worth = bytes(
            [
                _IN_LINE,  # never asked for
                *(
                    worth_after[codes[end - 1 - origin]]
                    if start - end == 1 and codes[end - origin] == _BLANK
                    else _PERHAPS_LINE
                    for end, start in places
                ),
            ]
        )

    def best(self, first: int, last: int) -> list[int]:
        """Those from `first` to `last` that are ranked highest, in order."""
        places = [(self._worth[place], place) for place in range(first, last + 1)]
        highest, best = self._highest([place for worth, place in places if worth == _PERHAPS_LINE])
        if highest <= self._best_in_line:
            in_line = self._highest([place for worth, place in places if worth == _IN_LINE])
            highest, best = _higher((highest, best), in_line)
        for rank in (_CLAUSE, _WORD):
            if highest <= rank and (found := [place for worth, place in places if worth == rank]):
                return sorted(_higher((highest, best), (rank, found))[1])
        return sorted(best)

    def _highest(self, places: Sequence[int]) -> tuple[int, list[int]]:
        """(the highest rank of these places, those of them that have it)."""
        text, rank, ends, starts = self._text, self._rank, self._ends, self._starts
        ranks = [rank(text, ends[place - 1], starts[place]) for place in places]
        highest = max(ranks, default=-1)
        return highest, [place for place, each in zip(places, ranks, strict=True) if each == highest]


def _higher(some: tuple[int, list[int]], others: tuple[int, list[int]]) -> tuple[int, list[int]]:
    """Those of the higher rank; all of them where it is the same."""
    if some[0] == others[0]:
        return some[0], some[1] + others[1]
    return max(some, others)


def rank_boundary(kind: BlockKind) -> RankBoundary:
    """The ranking for a kind of block."""
    return {"code": _rank_code, "table": _rank_table}.get(kind, _rank_text)


def _rank_text(text: str, end: int, start: int) -> int:
    """Blank line, then list item, sentence that ends its line, sentence, line, clause, word, punctuation."""
    num_newlines = text.count("\n", end, start)
    if num_newlines > 1:
        return _BLANK_LINE
    if num_newlines and _ITEM_MARK.match(text, start):
        return _LIST_ITEM
    if _ends_sentence(text, end, start):
        return _LAST_SENTENCE if num_newlines else _SENTENCE
    if num_newlines:
        return _LINE
    before = text[end - 1]
    if before in _CLAUSE_END:
        return _CLAUSE
    if start > end:
        return _PUNCTUATION if before == "." and _ends_abbreviation(text, end) else _WORD
    return _INSIDE if before.isalnum() and text[start].isalnum() else _PUNCTUATION


def _rank_code(text: str, end: int, start: int) -> int:
    """Lines with the least indentation first, after a blank line if possible, not before a closing one."""
    newline = text.rfind("\n", end, start)
    if newline < 0:
        return min(_rank_text(text, end, start), _CLAUSE)
    indentation = len(text[newline + 1 : start].expandtabs(_TAB_WIDTH))
    rank = 10 + 2 * (_DEEPEST - min(indentation, _DEEPEST))
    if _CODE_CONTINUATION.match(text, start):
        return 10
    return rank + (3 if text.count("\n", end, start) > 1 else 0)


def _rank_table(text: str, end: int, start: int) -> int:
    """Between rows, then between cells."""
    if text.find("\n", end, start) >= 0:
        return _BLANK_LINE
    if text[end - 1] in "|,;" or text.find("\t", end, start) >= 0:
        return _CLAUSE
    return min(_rank_text(text, end, start), _WORD)


def _ends_sentence(text: str, end: int, start: int) -> bool:
    last = end - 1
    while last >= 0 and end - last < 4 and text[last] in _CLOSING:
        last -= 1
    if last < 0 or text[last] not in _SENTENCE_END:
        return False
    if text[last] in _WIDE_SENTENCE_END:
        return True
    if start == end or text[start].islower():
        return False
    return text[last] != "." or not _ends_abbreviation(text, last + 1)


def _ends_abbreviation(text: str, end: int) -> bool:
    before = text[end - 4 : end - 1] if end > 3 else ""
    if len(before) == 3 and before.isalpha() and before.lower() not in _BEFORE_ABBREVIATION_DOT:
        return False
    return _ABBREVIATION.search(text, max(0, end - 12), end) is not None
