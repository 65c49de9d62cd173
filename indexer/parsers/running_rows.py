"""Running heads and feet: rows at the edges of a PDF's pages that are repeated from page to page.

A row runs if pages nearby have it at the same height with the same words, its numbers equal or counting up
with the pages. Of a row with wide gaps it is enough that one part is a number that counts. Nothing is asked
of one page alone: what is not repeated is text, wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from indexer.parsers.layout import Row, gather_blocks

REACH = 10  # pages before and after in which a row is looked for: left and right pages may have their own
EDGE = 0.1  # of the page's height, at its top and at its bottom
_MOST_ROWS = 4  # at one edge
_LEAST_REPEATED = 2  # other pages that have the row
_LARGE = 1.12  # times the usual type: a heading, unless nearly every page has it
_NEARLY_ALL = 0.8
_LONGEST = 300  # characters
_NUMBER = re.compile(r"\d{1,9}")
_ROMAN = re.compile(r"[ivxlc]{1,8}", re.IGNORECASE)
_ROMAN_VALUES = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}


class _Mark(NamedTuple):
    """What can be found again on another page: a row at the page's edge, or one segment of it."""

    is_top: bool
    words: str  # with # for each number
    numbers: tuple[int, ...]
    distance: float  # from the edge of the page to the middle of the row
    size: float  # of the type


class _EdgeRow(NamedTuple):
    number: int  # in the page's rows
    row: _Mark
    counters: tuple[_Mark, ...]  # the segments that are numbers


class RunningRows:
    """Knows the edges of the pages that were noted, and so which rows of a page run.

    Pages are noted in order, at least the next `REACH` of them before a page is asked for.
    """

    def __init__(self) -> None:
        self._pages: dict[int, tuple[_EdgeRow, ...]] = {}

    def note(self, page: int, rows: Sequence[Row], height: float) -> None:
        """Remember the edges of a page that is so high."""
        self._pages[page] = tuple(_edge_rows(rows, height))

    def take(self, page: int, rows: Sequence[Row], *, usual_size: float) -> frozenset[int]:
        """Which of the rows run, by their number among the page's rows.

        To be asked for each page once, in order: what lies too far back is forgotten.
        """
        for old in [number for number in self._pages if number < page - REACH]:
            del self._pages[old]
        found: set[int] = set()
        for is_top in (True, False):
            for edge in self._pages.get(page, ()):
                if edge.row.is_top == is_top:
                    if not self._runs(page, edge, usual_size):
                        break  # what stands further inside is text
                    found.add(edge.number)
        return frozenset(found - _rows_of_tables(rows, found))

    def _runs(self, page: int, edge: _EdgeRow, usual_size: float) -> bool:
        needed = _LEAST_REPEATED
        others = {number: rows for number, rows in self._pages.items() if 0 < abs(number - page) <= REACH}
        if edge.row.size > _LARGE * usual_size:
            needed = max(needed + 1, round(_NEARLY_ALL * len(others)))
        repeated = sum(
            any(_is_same(edge.row, other.row, number - page) for other in rows)
            for number, rows in others.items()
        )
        counted = sum(
            any(_counts(mine, other, number - page) for mine in edge.counters for other in _counters(rows))
            for number, rows in others.items()
        )
        return max(repeated, counted) >= needed


def _edge_rows(rows: Sequence[Row], height: float) -> Iterator[_EdgeRow]:
    """The outermost rows within the edges, from the outside to the inside."""
    level = [(number, row) for number, row in enumerate(rows) if row.y1 - row.y0 < 3 * row.size]
    from_top = sorted(level, key=lambda item: item[1].y0)[:_MOST_ROWS]
    from_bottom = sorted(level, key=lambda item: -item[1].y1)[:_MOST_ROWS]
    for number, row in from_top:
        if row.y1 <= EDGE * height:
            yield _edge_row(number, row, True, (row.y0 + row.y1) / 2)
    for number, row in from_bottom:
        if row.y0 >= (1 - EDGE) * height:
            yield _edge_row(number, row, False, height - (row.y0 + row.y1) / 2)


def _edge_row(number: int, row: Row, is_top: bool, distance: float) -> _EdgeRow:
    def mark(text: str) -> _Mark:
        if _ROMAN.fullmatch(text):
            return _Mark(is_top, "#", (_roman(text),), distance, row.size)
        numbers = tuple(map(int, _NUMBER.findall(text)))
        return _Mark(is_top, _NUMBER.sub("#", text).casefold(), numbers, distance, row.size)

    segments = (mark(segment.text.strip(" .-–—|")) for segment in row.segments)
    return _EdgeRow(
        number, mark(row.text[:_LONGEST]), tuple(segment for segment in segments if segment.words == "#")
    )


def _counters(rows: Sequence[_EdgeRow]) -> Iterator[_Mark]:
    return (mark for row in rows for mark in row.counters)


def _is_same(a: _Mark, b: _Mark, pages: int) -> bool:
    """Whether b, so many pages after a, is the same row again."""
    return (
        _is_level(a, b)
        and a.words == b.words
        and any(character.isalnum() or character == "#" for character in a.words)
        and all(after - before in (0, pages) for before, after in zip(a.numbers, b.numbers, strict=True))
    )


def _counts(a: _Mark, b: _Mark, pages: int) -> bool:
    """Whether two numbers are those of two pages so far apart."""
    return _is_level(a, b) and b.numbers[0] - a.numbers[0] == pages


def _is_level(a: _Mark, b: _Mark) -> bool:
    return a.is_top == b.is_top and abs(a.distance - b.distance) <= max(3.0, 0.5 * a.size)


def _rows_of_tables(rows: Sequence[Row], found: set[int]) -> set[int]:
    """Those of the found rows that are part of a table with others: each of its pages repeats the header."""
    if not any(len(rows[number].segments) > 1 for number in found):
        return set()
    numbers = {id(row): number for number, row in enumerate(rows)}
    kept: set[int] = set()
    for block in gather_blocks(rows):
        members = {numbers[id(row)] for row in block.rows}
        if block.kind == "table" and not members <= found:
            kept |= members & found
    return kept


def _roman(text: str) -> int:
    values = [_ROMAN_VALUES[letter] for letter in text.lower()]
    return sum(
        -value if following > value else value
        for value, following in zip(values, [*values[1:], 0], strict=True)
    )
