"""From the rows of a PDF's pages to blocks: running heads and feet set apart, headings told by outline and
type, words mended at line ends."""

from __future__ import annotations

import itertools
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import NamedTuple, Self

from indexer.parsers.building import DocumentBuilder
from indexer.parsers.layout import PlacedBlock, Row, Segment, TextBlock, gather_blocks
from indexer.parsers.pdf_pages import HYPHEN
from indexer.parsers.running_rows import RunningRows
from indexer.parsers.tabular import names_columns
from indexer.types import Box

_PAGES_SEEN_FIRST = 40  # from which the body's type size is known before the first page is written
_LARGER = 1.12  # than the body: the type of a heading
_LONGEST_HEADING = 200  # characters
_HEADING_ROWS = 3
_LONGEST_WORD = 80  # characters
_SAME_EDGE = 6.0  # points by which the cells of a column are apart
_UNEVEN = 1.25  # times the usual height of the lines of a scan: the height of a box varies with its letters
_LARGE_SIZES = 4  # sizes of type that are told apart as heading levels
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)+", re.UNICODE)
_BROKEN = re.compile(rf"([^\W\d_]+(?:-[^\W\d_]+)*)[-\u2010\u00ad{HYPHEN}]$", re.UNICODE)
_FIRST_WORD = re.compile(r"([^\W\d_]+\S*)\s*(.*)$", re.UNICODE | re.DOTALL)
_NUMBERING = re.compile(
    r"(?:chapter|section|part|appendix)?\s*[\dIVXA-Z]{0,4}(?:\.\d+)*[.:)]?\s+", re.IGNORECASE
)


class Outline(NamedTuple):
    """The document's own table of contents: heading text (folded) to its depth from 1, by page from 1."""

    levels: Mapping[tuple[int, str], int]

    def level(self, page: int, text: str) -> int | None:
        """The depth of a heading on a page; None when the outline does not name it there."""
        if not self.levels:
            return None
        folded = fold(text)
        without_number = fold(_NUMBERING.sub("", text, count=1))
        return self.levels.get((page, folded)) or self.levels.get((page, without_number))

    @property
    def depth(self) -> int:
        """The deepest level."""
        return max(self.levels.values(), default=0)


def fold(text: str) -> str:
    """Text as it is compared: letters and digits only, without case."""
    return re.sub(r"\W+", "", text).casefold()


class PageContent(NamedTuple):
    """What was read of a page, by whichever reader."""

    number: int  # from 1
    height: float  # points
    rows: Sequence[Row] = ()  # of the text layer
    paragraphs: tuple[PlacedBlock, ...] = ()  # of which no more is known than the page
    pictures: tuple[PlacedBlock, ...] = ()  # the text in pictures, or of the page as a picture
    annotations: tuple[tuple[str, Box], ...] = ()  # what was written on the page later
    links: tuple[tuple[str, Box], ...] = ()  # where its words lead to
    is_scan: bool = False  # `pictures` is all that the page shows

    @property
    def is_empty(self) -> bool:
        """Whether nothing was found."""
        return not (self.rows or self.paragraphs or self.pictures or self.annotations)

    @property
    def placed_rows(self) -> Sequence[Row]:
        """The rows of the text layer; of a scan, a row for each line of its blocks, in order."""
        if not self.is_scan:
            return self.rows
        return [_row_of(text, box) for block in self.pictures for text, box in block.lines]


class PdfWriter:
    """Takes pages in order and appends their blocks to a builder, some pages late, to know the usual type."""

    def __init__(self, builder: DocumentBuilder, outline: Outline) -> None:
        self._builder = builder
        self._outline = outline
        self._outline_depth = outline.depth
        self._waiting: deque[PageContent] = deque()
        self._running = RunningRows()
        self._sizes: Counter[float] = Counter()
        self._hyphenated: set[str] = set()
        self._large_sizes: list[float] | None = None
        self._title_size = 0.0
        self._table: _OpenTable | None = None  # that the page before ends with
        self.title = ""  # the first of the largest headings of the first page

    def add_page(self, page: PageContent) -> None:
        """Take the next page."""
        rows = page.placed_rows
        self._running.note(page.number, rows, page.height)
        for row in page.rows:
            self._sizes[_rounded(row.size)] += len(row.text)
        for row in rows:
            self._hyphenated.update(word.casefold() for word in _WORD.findall(row.text))
        self._waiting.append(page)
        if len(self._waiting) > _PAGES_SEEN_FIRST:
            self._write(self._waiting.popleft())

    def finish(self) -> None:
        """Append what is still waiting."""
        while self._waiting:
            self._write(self._waiting.popleft())

    def _write(self, page: PageContent) -> None:
        """The page's blocks, and around them what runs from page to page: no chunk reaches over that."""
        rows = page.placed_rows
        running = self._running_rows(page, rows)
        heads = [rows[number] for number in running if rows[number].y0 < page.height / 2]
        feet = [rows[number] for number in running if rows[number].y0 >= page.height / 2]
        self._add_furniture(page.number, heads)
        self._add_text(page.number, [row for number, row in enumerate(page.rows) if number not in running])
        pictures = _without_lines(page.pictures, running) if page.is_scan else page.pictures
        for block in (*page.paragraphs, *pictures):
            self._builder.add_lines(block.kind, self._mended(list(block.lines)))
        for lines, name in ((page.annotations, "form fields and comments"), (page.links, "links")):
            self._builder.add_lines("text", lines, name=name)
        self._add_furniture(page.number, feet)

    def _running_rows(self, page: PageContent, rows: Sequence[Row]) -> list[int]:
        """Which of a page's rows run from page to page."""
        if not rows:
            return []
        usual = _UNEVEN * median(row.size for row in rows) if page.is_scan else self._heading_sizes().body
        numbers = self._running.take(page.number, rows, usual_size=usual)
        return [
            number
            for number in sorted(numbers)
            if self._outline.level(page.number, rows[number].text) is None
        ]

    def _add_furniture(self, page: int, rows: list[Row]) -> None:
        self._builder.add_lines("furniture", ((row.text.replace(HYPHEN, "-"), row.box(page)) for row in rows))

    def _add_text(self, page: int, rows: list[Row]) -> None:
        before, self._table = self._table, None
        blocks = gather_blocks(rows)
        for number, block in enumerate(blocks):
            if block.kind == "table":
                table = self._add_table(page, block, before if number == 0 else None)
                self._table = table if number == len(blocks) - 1 else None
                continue
            level = self._heading_level(page, block)
            if level is not None:
                lines = [
                    (" ".join(text for text, _ in self._mended(block.lines(page))), _union(page, block.rows))
                ]
                self._builder.add_lines("heading", lines, level=level)
                if page == 1 and block.rows[0].size > self._title_size:
                    self._title_size, self.title = block.rows[0].size, lines[0][0]
            else:
                self._builder.add_lines(block.kind, self._mended(block.lines(page)))

    def _add_table(self, page: int, block: TextBlock, before: _OpenTable | None) -> _OpenTable:
        """Append a table, which may go on with the one before; its header is then that one's."""
        table = _OpenTable.of(page, block)
        goes_on = before is not None and table.continues(before)
        if goes_on:
            table = table._replace(header=before.header, is_bold=before.is_bold)
        lines = self._mended(block.lines(page, has_header=not goes_on))
        self._builder.add_lines("table", lines, signature=table.header if goes_on else "")
        return table

    def _heading_level(self, page: int, block: TextBlock) -> int | None:
        """The depth of the heading that a block is, or None; the outline knows better than the type."""
        if len(block.rows) > _HEADING_ROWS or block.kind == "table" or _runs_upwards(block.rows[0]):
            return None
        text = block.text
        if len(text) > _LONGEST_HEADING or not any(character.isalpha() for character in text):
            return None
        level = self._outline.level(page, text)
        if level is not None:
            return level
        sizes = self._heading_sizes()
        size = _rounded(block.rows[0].size)
        below_outline = self._outline_depth
        if size > sizes.body * _LARGER and sum(character.isalpha() for character in text) > 1:
            return below_outline + sum(larger > size for larger in sizes.large) + 1
        is_bold_line = block.rows[0].bold and len(block.rows) == 1 and size >= 0.95 * sizes.body
        if is_bold_line and len(text) <= 100 and not text.endswith((".", ",", ";")):
            return below_outline + len(sizes.large) + 1
        return None

    def _heading_sizes(self) -> _Sizes:
        body = self._sizes.most_common(1)[0][0]
        if self._large_sizes is None:
            larger = (size for size in self._sizes if size > body * _LARGER)
            self._large_sizes = sorted(larger, reverse=True)[:_LARGE_SIZES]
        return _Sizes(body, self._large_sizes)

    def _mended(self, lines: list[tuple[str, Box]]) -> list[tuple[str, Box]]:
        """A block's lines, with words that were broken at a line's end whole on their first line.

        Its box then reaches over the next line, where the rest of the word stands.
        """
        for i in range(len(lines) - 1):
            (text, box), (following, following_box) = lines[i], lines[i + 1]
            broken, rest = _BROKEN.search(text[-_LONGEST_WORD:]), _FIRST_WORD.match(following)
            if broken is None or rest is None or not following[:1].islower():
                continue
            compound = f"{broken.group(1)}-{rest.group(1)}"
            keeps_hyphen = any(
                word in self._hyphenated for word in map(str.casefold, _WORD.findall(compound))
            )
            mark = "-" if keeps_hyphen else ""
            lines[i] = (f"{text[: len(text) - 1]}{mark}{rest.group(1)}", _around([box, following_box]))
            lines[i + 1] = (rest.group(2), following_box)
        return [(text.replace(HYPHEN, "-"), box) for text, box in lines]


class _OpenTable(NamedTuple):
    """A table that a page ends with, and the next one may go on with."""

    page: int
    header: str  # "" where it has none
    is_bold: bool  # the header
    edges: tuple[tuple[float, float], ...]  # of the cells of its fullest row: left and right

    @classmethod
    def of(cls, page: int, block: TextBlock) -> Self:
        """The table that a block is."""
        cells = block.rows[0].cells
        fullest = max(block.rows, key=lambda row: len(row.segments))
        edges = tuple((segment.x0, segment.x1) for segment in fullest.segments)
        header = " | ".join(cells).replace(HYPHEN, "-") if names_columns(cells) else ""
        return cls(page, header, block.rows[0].bold, edges)

    def continues(self, other: _OpenTable) -> bool:
        """Whether it goes on with the one that the page before ends with, whose header it does not repeat."""
        return (
            self.page == other.page + 1
            and other.header not in ("", self.header)
            and not (self.is_bold and other.is_bold)  # it has a header of its own
            and len(self.edges) == len(other.edges)
            and all(
                min(abs(mine[0] - its[0]), abs(mine[1] - its[1])) < _SAME_EDGE
                for mine, its in zip(self.edges, other.edges, strict=True)
            )
        )


class _Sizes(NamedTuple):
    """The usual size of the type, and the larger ones in descending order."""

    body: float
    large: list[float]


def _row_of(text: str, box: Box) -> Row:
    """A line that OCR found."""
    _, x0, y0, x1, y1 = box
    return Row((Segment(text, x0, y0, x1, y1, size=min(x1 - x0, y1 - y0)),))


def _without_lines(blocks: Iterable[PlacedBlock], numbers: Sequence[int]) -> Iterator[PlacedBlock]:
    """The blocks without the lines of these numbers, counted over all of them."""
    counted = itertools.count()
    for block in blocks:
        yield PlacedBlock(block.kind, tuple(line for line in block.lines if next(counted) not in numbers))


def _runs_upwards(row: Row) -> bool:
    """Text along the edge of a page."""
    return row.y1 - row.y0 > max(3 * row.size, row.x1 - row.x0)


def _rounded(size: float) -> float:
    return round(2 * size) / 2


def _union(page: int, rows: Iterable[Row]) -> Box:
    return _around([row.box(page) for row in rows])


def _around(boxes: Sequence[Box]) -> Box:
    """The box that holds all of some on one page."""
    return Box(
        boxes[0].page,
        min(box.x0 for box in boxes),
        min(box.y0 for box in boxes),
        max(box.x1 for box in boxes),
        max(box.y1 for box in boxes),
    )
