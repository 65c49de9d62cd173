"""From placed pieces of text to reading order and blocks. PDFs and OCR meet here; units are points or pixels.

A page is a list of segments: runs of text without a wide gap in them. Segments side by side form rows. Rows
are put into reading order by cutting the page at white gutters (columns) and between rows, and gathered into
paragraphs, lists and tables.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import itemgetter
from statistics import median
from typing import NamedTuple

from indexer.parsers.tabular import clean_cell, names_columns
from indexer.types import BlockKind, Box


class Segment(NamedTuple):
    """Text without a wide gap in it, where it stands (origin top left), and how it is set."""

    text: str
    x0: float
    y0: float
    x1: float
    y1: float
    size: float  # of the type; for OCR the height of the line
    bold: bool = False
    base: float | None = None  # where the letters stand; None: at y1


def scaled(segment: Segment, factor: float) -> Segment:
    """The segment in units that are `factor` times smaller."""
    text, x0, y0, x1, y1, size, bold, base = segment
    base = None if base is None else base * factor
    return Segment(text, x0 * factor, y0 * factor, x1 * factor, y1 * factor, size * factor, bold, base)


@dataclass(frozen=True, slots=True)
class Row:
    """Segments side by side, from left to right, at least one.

    What is asked of a row is worked out once: the search for tables and paragraphs asks many times.
    """

    segments: tuple[Segment, ...]
    text: str = field(init=False, repr=False, compare=False)  # the row as running text
    x0: float = field(init=False, repr=False, compare=False)  # its edges
    y0: float = field(init=False, repr=False, compare=False)
    x1: float = field(init=False, repr=False, compare=False)
    y1: float = field(init=False, repr=False, compare=False)
    base: float = field(init=False, repr=False, compare=False)  # where the letters of the first segment stand
    size: float = field(init=False, repr=False, compare=False)  # of the type of the first segment
    bold: bool = field(init=False, repr=False, compare=False)  # all of the row

    def __post_init__(self) -> None:
        first = self.segments[0]
        text, x0, y0, x1, y1, size, bold, base = first
        if base is None:
            base = y1
        if len(self.segments) > 1:
            text = " ".join([segment.text for segment in self.segments])
            x1 = max([segment.x1 for segment in self.segments])
            y0 = min([segment.y0 for segment in self.segments])
            y1 = max([segment.y1 for segment in self.segments])
            bold = all(segment.bold for segment in self.segments)
        remember = object.__setattr__  # of a frozen object
        remember(self, "text", text)
        remember(self, "x0", x0)
        remember(self, "y0", y0)
        remember(self, "x1", x1)
        remember(self, "y1", y1)
        remember(self, "base", base)
        remember(self, "size", size)
        remember(self, "bold", bold)

    @property
    def cells(self) -> list[str]:
        """The row as that of a table."""
        return [clean_cell(segment.text) for segment in self.segments]

    def box(self, page: int) -> Box:
        """Where the row stands."""
        return Box(page, round(self.x0, 1), round(self.y0, 1), round(self.x1, 1), round(self.y1, 1))


class TextBlock(NamedTuple):
    """Rows that belong together, before headings are told from text (that takes the whole document)."""

    kind: BlockKind
    rows: tuple[Row, ...]

    @property
    def text(self) -> str:
        """The block as running text."""
        return " ".join(row.text for row in self.rows)

    def lines(self, page: int, *, has_header: bool = True) -> list[tuple[str, Box]]:
        """The block's lines, each with its box; a table's are Markdown, with a rule below its header."""
        if self.kind != "table":
            return [(row.text, row.box(page)) for row in self.rows]
        lines: list[tuple[str, Box]] = []
        for cells, rows in _table_rows(self.rows):
            lines.append((" | ".join(cells), _around(rows, page)))
            if len(lines) == 1 and has_header and names_columns(list(filter(None, cells))):
                lines.append((" | ".join(["---"] * len(cells)), _around(rows, page)))
        return lines


class PlacedBlock(NamedTuple):
    """A block that is complete: its lines, each with its box."""

    kind: BlockKind
    lines: tuple[tuple[str, Box], ...]


def _table_rows(rows: Sequence[Row]) -> list[tuple[list[str], list[Row]]]:
    """The cells of a table's rows, each with the rows on the page that it runs over: cells may be wrapped."""
    columns = _columns(rows)
    table: list[tuple[list[str], list[Row]]] = []
    for row in rows:
        if table and len(row.segments) == 1:
            cells, whole = table[-1]
            number = _column_of(row.segments[0], columns)
            cells += [""] * (number + 1 - len(cells))
            above, more = cells[number], row.cells[0]
            cells[number] = above[:-1] + more if above.endswith(_BROKEN) else f"{above} {more}".strip()
            whole.append(row)
        else:
            table.append((_in_columns(row, columns), [row]))
    return table


def _columns(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Left and right edge of the columns, told by the rows that have a cell in each."""
    num_columns = max(len(row.segments) for row in rows)
    full = [row.segments for row in rows if len(row.segments) == num_columns]
    return [
        (min(cell.x0 for cell in cells), max(cell.x1 for cell in cells)) for cells in zip(*full, strict=True)
    ]


def _column_of(cell: Segment, columns: Sequence[tuple[float, float]]) -> int:
    """Of the columns around where a cell begins, the one that it shares most width with, or is nearest to."""
    begins = bisect_right(columns, cell.x0, key=itemgetter(0))
    around = range(max(0, begins - 1), min(len(columns), begins + 2))
    return max(around, key=lambda i: min(cell.x1, columns[i][1]) - max(cell.x0, columns[i][0]))


def _in_columns(row: Row, columns: Sequence[tuple[float, float]]) -> list[str]:
    """The row's cells with blank ones where it has none; as they are where they stand across the columns."""
    if len(row.segments) == len(columns):
        return row.cells
    places = [_column_of(segment, columns) for segment in row.segments]
    if len(set(places)) < len(places):
        return row.cells
    cells = [""] * (max(places) + 1)
    for place, cell in zip(places, row.cells, strict=True):
        cells[place] = cell
    return cells


def _around(rows: Sequence[Row], page: int) -> Box:
    """The box that rows stand in together."""
    boxes = [row.box(page) for row in rows]
    x0, y0 = min(box.x0 for box in boxes), min(box.y0 for box in boxes)
    return Box(page, x0, y0, max(box.x1 for box in boxes), max(box.y1 for box in boxes))


_BROKEN = "\ufffe"  # pdfium's hyphen at the end of a line
_MAX_CUT_SEGMENTS = 4000  # more are maps and plots, whose reading order nobody knows
_GUTTER = 0.6  # of the size of the type: how wide white space between columns is at least
_OVERHANG = 0.15  # of the size of the type: how far boxes reach beyond their ink
_CROSSING = 0.2  # of the segments may cross a gutter
_TRIED_GUTTERS = 8
_COLUMN_CHARACTERS = 18  # median length of the rows of a column of prose; columns of a table are shorter
_COLUMN_ROWS = 4
_ROW_GAP = 3.0  # sizes of the type: between the rows of a table
_LINE_GAP = 0.8  # between the lines of a cell
_ITEM = re.compile(r"(?:[•‣◦▪●■–—*·-]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)]|\[\d{1,3}\])\s+\S")
_SENTENCE_END = (".", "!", "?", ":", "。", "！", "？", '."', ".”")


def reading_order(segments: Sequence[Segment]) -> list[Row]:
    """Rows in the order in which people read: columns of prose one after the other, all else by rows."""
    if len(segments) > _MAX_CUT_SEGMENTS:
        return group_rows(segments)
    rows: list[Row] = []
    stack = [list(segments)]
    while stack:
        area = stack.pop()
        parts = _cut_columns(area) or _cut_bands(area)
        if parts is None:
            rows.extend(group_rows(area))
        else:
            stack.extend(reversed(parts))
    return rows


def group_rows(segments: Iterable[Segment]) -> list[Row]:
    """Segments whose heights overlap by more than half form a row."""
    rows: list[list[Segment]] = []
    for segment in sorted(segments, key=lambda segment: (segment.y0 + segment.y1, segment.x0)):
        if rows and _overlap_in_height(rows[-1][-1], segment) > 0.5:
            rows[-1].append(segment)
        else:
            rows.append([segment])
    return [Row(tuple(sorted(row, key=lambda segment: segment.x0))) for row in rows]


def is_disordered(rows: Sequence[Row]) -> bool:
    """Whether rows often stand above the row before them in the same column: no order that people read in."""
    backward = sum(
        after.y1 < before.y0 and after.x0 < before.x1 and before.x0 < after.x1
        for before, after in pairwise(rows)
    )
    return backward > 2 and backward > 0.1 * len(rows)


def _overlap_in_height(a: Segment, b: Segment) -> float:
    """Shared height as a fraction of the smaller height."""
    shared = min(a.y1, b.y1) - max(a.y0, b.y0)
    return shared / max(1e-6, min(a.y1 - a.y0, b.y1 - b.y0))


def _cut_columns(area: list[Segment]) -> list[list[Segment]] | None:
    """The area cut at a white gutter with prose on both sides, or None.

    A few segments (titles, figures) may cross the gutter: they part what is above them from what is below.
    """
    if len(area) < 2 * _COLUMN_ROWS:
        return None
    for gutter in _gutters(area):
        left = [segment for segment in area if segment.x1 <= gutter.x1 and not gutter.crosses(segment)]
        right = [segment for segment in area if segment.x0 >= gutter.x0 and not gutter.crosses(segment)]
        if min(len(left), len(right)) < _COLUMN_ROWS or not _stand_beside(left, right):
            continue
        if _is_prose(left) and _is_prose(right):
            crossing = sorted((segment for segment in area if gutter.crosses(segment)), key=lambda s: s.y0)
            return _interleave(left, right, crossing)
    return None


class _Gutter(NamedTuple):
    """An upright strip that few segments cross."""

    x0: float
    x1: float
    num_crossing: int

    def crosses(self, segment: Segment) -> bool:
        """Whether a segment begins before the strip and ends behind it."""
        return segment.x0 < self.x0 and segment.x1 > self.x1


def _gutters(area: list[Segment]) -> list[_Gutter]:
    """Candidate gutters, the least crossed and then the widest first."""
    size = median(segment.size for segment in area)
    slack = _OVERHANG * size  # boxes are a little larger than their ink
    events = sorted(
        event
        for segment in area
        for event in ((segment.x0 + slack, 1), (max(segment.x1 - slack, segment.x0), -1))
    )
    gutters: list[_Gutter] = []
    depth, most = 0, max(1, int(_CROSSING * len(area)))
    for (x, change), (following, _) in pairwise(events):
        depth += change
        if depth <= most and following - x > _GUTTER * size:
            gutters.append(_Gutter(x, following, depth))
    gutters.sort(key=lambda gutter: (gutter.num_crossing, gutter.x0 - gutter.x1))
    return gutters[:_TRIED_GUTTERS]


def _interleave(left: list[Segment], right: list[Segment], crossing: list[Segment]) -> list[list[Segment]]:
    """Left column, right column, what crosses both, and again below it."""
    parts: list[list[Segment]] = []
    for across in [*crossing, None]:
        limit = across.y0 + 0.5 * (across.y1 - across.y0) if across is not None else float("inf")
        for column in (left, right):
            above = [segment for segment in column if 0.5 * (segment.y0 + segment.y1) < limit]
            if above:
                parts.append(above)
                column[:] = [segment for segment in column if 0.5 * (segment.y0 + segment.y1) >= limit]
        if across is not None:
            parts.append([across])
    return parts


def _is_prose(column: list[Segment]) -> bool:
    """Whether most rows hold a long stretch of text; many short ones side by side are a table's cells."""
    longest = (max(len(segment.text) for segment in row.segments) for row in group_rows(column))
    return median(longest) >= _COLUMN_CHARACTERS


def _stand_beside(left: list[Segment], right: list[Segment]) -> bool:
    """Whether the two share a good part of their height."""
    top = max(min(s.y0 for s in left), min(s.y0 for s in right))
    bottom = min(max(s.y1 for s in left), max(s.y1 for s in right))
    shorter = min(max(s.y1 for s in side) - min(s.y0 for s in side) for side in (left, right))
    return bottom - top > 0.5 * shorter


def _cut_bands(area: list[Segment]) -> list[list[Segment]] | None:
    """The area cut at its largest horizontal gap, or None when it is one row."""
    if len(area) < 2:
        return None
    by_top = sorted(area, key=lambda segment: segment.y0)
    bottom, best_gap, cut = by_top[0].y1, 0.0, 0
    for i, segment in enumerate(by_top[1:], start=1):
        if segment.y0 - bottom > best_gap:
            best_gap, cut = segment.y0 - bottom, i
        bottom = max(bottom, segment.y1)
    return [by_top[:cut], by_top[cut:]] if cut else None


def gather_blocks(rows: Sequence[Row]) -> list[TextBlock]:
    """Rows in reading order as tables, lists and paragraphs."""
    blocks: list[TextBlock] = []
    pitch = _typical_pitch(rows)
    i = 0
    while i < len(rows):
        end = _table_end(rows, i)
        if end > i:
            blocks.append(TextBlock("table", tuple(rows[i:end])))
        else:
            end = _paragraph_end(rows, i, pitch)
            kind: BlockKind = "list" if _ITEM.match(rows[i].text) else "text"
            blocks.append(TextBlock(kind, tuple(rows[i:end])))
        i = end
    return _join_lists(blocks)


def _typical_pitch(rows: Sequence[Row]) -> float:
    """The usual distance from one row's bottom to the next one's, in sizes of the type."""
    pitches = [
        (after.base - before.base) / before.size
        for before, after in pairwise(rows)
        if before.size > 0 and 0 < after.base - before.base < 3 * before.size and _is_same_size(before, after)
    ]
    return median(pitches) if pitches else 1.2


def _is_same_size(a: Row, b: Row) -> bool:
    return abs(a.size - b.size) <= 0.12 * max(a.size, b.size)


def _table_end(rows: Sequence[Row], first: int) -> int:
    """Where a run of at least three rows with cells below each other ends; `first` when there is none.

    Rows of one segment go on with a cell of the row above.
    """
    end, last, num_rows = first, first, 0
    while end < len(rows):
        row = rows[end]
        if num_rows and not -row.size < row.y0 - rows[end - 1].y1 < _ROW_GAP * row.size:
            break
        if len(row.segments) > 1:
            if num_rows and not _is_row_below(rows[last], row):
                break
            last, num_rows = end, num_rows + 1
        elif not (num_rows and _is_wrapped(rows[last], rows[end - 1], row)):
            break
        end += 1
    return end if num_rows >= 3 else first


def _is_wrapped(above: Row, before: Row, row: Row) -> bool:
    """Whether a row of one segment goes on with a cell, not the first, of the table's row above."""
    if row.y0 - before.y1 > _LINE_GAP * row.size:
        return False
    slack = 0.7 * row.size
    return any(abs(row.x0 - cell.x0) < slack for cell in above.segments[1:])


def _is_row_below(above: Row, below: Row) -> bool:
    """Whether a cell after the first stands below another, at either edge."""
    slack = 0.7 * below.size
    return any(
        abs(cell.x0 - over.x0) < slack or abs(cell.x1 - over.x1) < slack
        for cell in below.segments[1:]
        for over in above.segments[1:]
    )


def _paragraph_end(rows: Sequence[Row], first: int, pitch: float) -> int:
    end = first + 1
    right_edge = rows[first].x1
    while end < len(rows) and _table_end(rows, end) == end:
        before, row = rows[end - 1], rows[end]
        if not _continues(before, row, pitch, right_edge):
            break
        right_edge = max(right_edge, row.x1)
        end += 1
    return end


def _continues(before: Row, row: Row, pitch: float, right_edge: float) -> bool:
    """Whether a row belongs to the paragraph of the row before it."""
    size = before.size
    if not _is_same_size(before, row) or before.bold != row.bold or _ITEM.match(row.text):
        return False
    drop = row.base - before.base
    if not 0.3 * size < drop < max(1.3 * pitch, 1.35) * size:
        return False
    if row.x0 > before.x1 or before.x0 > row.x1:
        return False
    ended_early = before.x1 < right_edge - 4 * size
    is_indented = row.x0 > before.x0 + 0.8 * size
    return not (before.text.endswith(_SENTENCE_END) and (ended_early or is_indented))


def _join_lists(blocks: list[TextBlock]) -> list[TextBlock]:
    """Items that follow each other are one list."""
    joined: list[TextBlock] = []
    for block in blocks:
        last = joined[-1] if joined else None
        if last is not None and block.kind == last.kind == "list" and _is_near(last.rows[-1], block.rows[0]):
            joined[-1] = TextBlock("list", last.rows + block.rows)
        else:
            joined.append(block)
    return joined


def _is_near(above: Row, below: Row) -> bool:
    return 0 < below.base - above.base < 3 * above.size
