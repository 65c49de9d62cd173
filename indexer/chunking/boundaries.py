"""How good a place between two words is to end a chunk, by kind of block. Higher is better."""

from __future__ import annotations

import re
from collections.abc import Callable

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
_TAB_WIDTH = 4
_DEEPEST = 60  # columns of indentation that are told apart


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
    return _ABBREVIATION.search(text, max(0, end - 12), end) is not None
