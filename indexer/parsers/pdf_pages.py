"""Pages of a PDF as placed text, read by pdfium: a few calls a line instead of several a character."""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Callable, Iterator
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from indexer.parsers.layout import Row, Segment, is_disordered, reading_order
from indexer.parsers.normalise import normalise_typesetting
from indexer.parsers.running_rows import EDGE
from indexer.types import Box

if TYPE_CHECKING:
    import pypdfium2

HYPHEN = "\ufffe"  # what pdfium gives for a hyphen at the end of a line, instead of the line's end
_LINE = re.compile(f"[^\r\n{HYPHEN}]+[{HYPHEN}]?")
_BOLD = re.compile(r"bold|black|heavy|demi|medi|cmbx|-bd", re.IGNORECASE)
_GARBAGE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd\ue000-\uf8ff\U000f0000-\U0010ffff]")
_WIDE_GAP = 1.5  # of the size of the type: parts cells and columns
_SPACE = 0.15  # of the size of the type: parts words
_OVERLAP = 0.2  # of the size of the type: how far letters may reach into what follows
_LONGEST_FONT_NAME = 128  # bytes
_LONGEST_HEADING_LINE = 120  # characters; only lines that may be headings are asked for their font
_SAMPLED_CHARACTERS = 64
_MOST_GARBAGE = 0.15  # of a page's characters
_MOST_GARBAGE_ELSEWHERE = 0.05  # of a line's, or of what another reader says
_GLYPH_NAME = re.compile(r"/(?:[A-Za-z]{1,2}[0-9a-fA-F]{1,4}|[A-Z]{2,3}\d?)\b")
_PROSE_CELL = 18  # characters: gaps between longer segments part columns rather than cells
_INTERLEAVED_ROWS = 4


class PageText(NamedTuple):
    """What a page's text layer holds, in reading order, and how good it is."""

    rows: list[Row]
    num_characters: int
    num_garbage: int  # replacement and private-use characters, controls, glyphs without a meaning

    @property
    def is_garbage(self) -> bool:
        """Whether the text layer is not what the page shows."""
        return self.num_garbage > _MOST_GARBAGE * self.num_characters

    def is_marginal(self, height: float) -> bool:
        """Whether all of it stands at the edges of a page that is so high: stamps on a scan do."""
        return all(row.y1 <= EDGE * height or row.y0 >= (1 - EDGE) * height for row in self.rows)


def read_page(page: pypdfium2.PdfPage) -> PageText:
    """The text layer of a page. Raises pypdfium2.PdfiumError when it cannot be loaded."""
    textpage = page.get_textpage()
    try:
        characters = _characters(textpage)
        lines = list(_LineReader(textpage, characters, placement(page)).lines())
        unmapped = _unmapped_share(textpage, characters)
    finally:
        textpage.close()
    num_characters = len("".join(characters.split()))
    num_garbage = max(len(_GARBAGE.findall(characters)), round(unmapped * num_characters))
    return PageText(_in_order(lines), num_characters, num_garbage)


def is_sensible(text: str) -> bool:
    """Whether text can be read: neither codes without a meaning nor the names of glyphs."""
    letters = len("".join(text.split()))
    num_garbage = len(_GARBAGE.findall(text)) + sum(map(len, _GLYPH_NAME.findall(text)))
    return letters > 0 and num_garbage <= _MOST_GARBAGE_ELSEWHERE * letters


def without_garbage(rows: list[Row]) -> list[Row]:
    """The rows that can be read."""
    return [row for row in rows if is_sensible(row.text)]


Bounds = tuple[float, float, float, float]


def _characters(textpage: pypdfium2.PdfTextPage) -> str:
    """The page's characters, one for each of pdfium's character indices."""
    import pypdfium2.raw as pdfium

    num_characters = textpage.count_chars()
    text = textpage.get_text_range()
    if len(text) == num_characters:
        return text
    # Characters were left out or put in: ask for each.
    get_unicode, raw = pdfium.FPDFText_GetUnicode, textpage.raw
    codes = (get_unicode(raw, index) for index in range(num_characters))
    return "".join(
        chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd" for code in codes
    )


_Place = Callable[[float, float, float, float], Bounds]
"""(left, bottom, right, top) in the page's own space to (x0, y0, x1, y1) as shown, origin at the top left."""


def placement(page: pypdfium2.PdfPage) -> _Place:
    """Leads from the page's own space to the page as shown, turned as it says, origin at the top left."""
    left, bottom, right, top = page.get_bbox()
    return {
        90: lambda x0, y0, x1, y1: (y0 - bottom, x0 - left, y1 - bottom, x1 - left),
        180: lambda x0, y0, x1, y1: (right - x1, y0 - bottom, right - x0, y1 - bottom),
        270: lambda x0, y0, x1, y1: (top - y1, right - x1, top - y0, right - x0),
    }.get(page.get_rotation(), lambda x0, y0, x1, y1: (x0 - left, top - y1, x1 - left, top - y0))


def whole_page(number: int, size: tuple[float, float]) -> Box:
    """The box of a page that is so wide and high: of text of which no more is known than its page."""
    return Box(number, 0.0, 0.0, *(round(side, 1) for side in size))


class _Type(NamedTuple):
    """How a line is set."""

    size: float
    bold: bool
    base: float


class _LineReader:
    """Reads pdfium's lines of one page, each cut into segments at its wide gaps.

    A book has tens of thousands of lines: what pdfium writes its answers into is made once a page.
    """

    def __init__(self, textpage: pypdfium2.PdfTextPage, characters: str, place: _Place) -> None:
        import pypdfium2.raw as pdfium

        self._pdfium = pdfium
        self._raw = textpage.raw
        self._characters = characters
        self._place = place
        self._edges = [ctypes.c_double() for _ in range(4)]
        self._matrix, self._x, self._y = pdfium.FS_MATRIX(), ctypes.c_double(), ctypes.c_double()
        self._font, self._flags = ctypes.create_string_buffer(_LONGEST_FONT_NAME), ctypes.c_int()
        self._bold_fonts: dict[bytes, bool] = {}

    def lines(self) -> Iterator[Row]:
        """The lines that have a place."""
        for match in _LINE.finditer(self._characters):
            text = match.group()
            start, end = match.start() + len(text) - len(text.lstrip()), match.start() + len(text.rstrip())
            boxes = self._boxes(start, end) if start < end else []
            if not boxes:
                continue
            kind = self._type(start, end)
            if _has_wide_gap(boxes, kind.size):
                segments = tuple(self._cut(start, end, kind))
                if segments:
                    yield Row(segments)
            else:
                yield Row((_segment(self._characters[start:end], boxes, kind),))

    def _boxes(self, start: int, end: int) -> list[Bounds]:
        """Of the runs of one height and font that a line consists of."""
        left, top, right, bottom = edges = self._edges
        raw, place, rectangle = self._raw, self._place, self._pdfium.FPDFText_GetRect
        return [
            place(left.value, bottom.value, right.value, top.value)
            for index in range(self._pdfium.FPDFText_CountRects(raw, start, end - start))
            if rectangle(raw, index, *edges) and right.value > left.value
        ]

    def _type(self, start: int, end: int) -> _Type:
        """Size, weight and base line of a line, of three characters: a raised digit does not decide."""
        middle = (start + end) // 2
        size, base = self._size_and_base(start)
        if start < middle and (size, base) != (another := self._size_and_base(middle)):
            set_as = [(size, base), another]
            if middle < end - 1:
                set_as.append(self._size_and_base(end - 1))
            size, base = (median(values) for values in zip(*set_as, strict=True))
        bold = (  # a bold word within a line does not make the line bold
            end - start <= _LONGEST_HEADING_LINE
            and self._is_bold(middle)
            and self._is_bold(start)
            and self._is_bold(end - 1)
        )
        return _Type(size, bold, base)

    def _size_and_base(self, index: int) -> tuple[float, float]:
        """Of one character."""
        pdfium, raw, matrix, x, y = self._pdfium, self._raw, self._matrix, self._x, self._y
        scale = math.hypot(matrix.c, matrix.d) if pdfium.FPDFText_GetMatrix(raw, index, matrix) else 1.0
        pdfium.FPDFText_GetCharOrigin(raw, index, x, y)
        base = self._place(x.value, y.value, x.value, y.value)[3]
        return pdfium.FPDFText_GetFontSize(raw, index) * scale, base

    def _is_bold(self, index: int) -> bool:
        """Whether a character is set in a bold font."""
        font = self._font
        length = self._pdfium.FPDFText_GetFontInfo(self._raw, index, font, _LONGEST_FONT_NAME, self._flags)
        if not 0 < length <= _LONGEST_FONT_NAME:
            return False
        name = font.value
        if name not in self._bold_fonts:
            self._bold_fonts[name] = _BOLD.search(name.decode("latin-1")) is not None
        return self._bold_fonts[name]

    def _cut(self, start: int, end: int, kind: _Type) -> Iterator[Segment]:
        """One line's characters as segments, cut where two of them stand far apart."""
        left, right, bottom, top = self._edges
        character_box, raw, place = self._pdfium.FPDFText_GetCharBox, self._raw, self._place
        text: list[str] = []
        boxes: list[Bounds] = []
        for index in range(start, end):
            character = self._characters[index]
            if not character.isspace() and character_box(raw, index, left, right, bottom, top):
                box = place(left.value, bottom.value, right.value, top.value)
                if boxes and max(box[0] - boxes[-1][2], boxes[-1][0] - box[2]) > _WIDE_GAP * kind.size:
                    yield _segment("".join(text).strip(), boxes, kind)
                    text, boxes = [], []
                boxes.append(box)
            text.append(character)
        if boxes:
            yield _segment("".join(text).strip(), boxes, kind)


def _segment(text: str, boxes: list[Bounds], kind: _Type) -> Segment:
    x0, y0, x1, y1 = _union(boxes)
    return Segment(normalise_typesetting(text), x0, y0, x1, y1, kind.size or y1 - y0, kind.bold, kind.base)


def _union(boxes: list[Bounds]) -> Bounds:
    if len(boxes) == 1:
        return boxes[0]
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _has_wide_gap(boxes: list[Bounds], size: float) -> bool:
    if len(boxes) < 2:
        return False
    _, top, _, bottom = _union(boxes)
    if bottom - top > 3 * size:
        return False  # text that runs upwards
    ordered = sorted(boxes)
    right, wide = ordered[0][2], _WIDE_GAP * size
    for x0, _, x1, _ in ordered:
        if x0 - right > wide:
            return True
        right = max(right, x1)
    return False


def _in_order(lines: list[Row]) -> list[Row]:
    """Lines in reading order: as the file has them, unless it jumps about or runs columns together."""
    rows: list[Row] = []
    for line in lines:
        if rows and _stands_right_of(rows[-1], line):
            rows[-1] = _continued(rows[-1], line)
        else:
            rows.append(line)
    interleaved = sum(sum(len(segment.text) >= _PROSE_CELL for segment in row.segments) >= 2 for row in rows)
    if interleaved >= _INTERLEAVED_ROWS or is_disordered(rows):
        return reading_order([segment for row in rows for segment in row.segments])
    return rows


def _stands_right_of(row: Row, line: Row) -> bool:
    """Whether a line continues a row on the same height."""
    shared = min(row.y1, line.y1) - max(row.y0, line.y0)
    beside = line.x0 >= row.x1 - _OVERLAP * row.size
    return beside and shared > 0.5 * min(row.y1 - row.y0, line.y1 - line.y0)


def _continued(row: Row, line: Row) -> Row:
    """A row with the line to its right; a raised or lowered digit is part of the segment that it touches."""
    last, first = row.segments[-1], line.segments[0]
    gap = first.x0 - last.x1
    if gap > _WIDE_GAP * max(last.size, first.size):
        return Row(row.segments + line.segments)
    longer = max(last, first, key=lambda segment: len(segment.text))
    joined = longer._replace(
        text=f"{last.text}{' ' if gap > _SPACE * longer.size else ''}{first.text}",
        x0=last.x0,
        y0=min(last.y0, first.y0),
        x1=max(last.x1, first.x1),
        y1=max(last.y1, first.y1),
        bold=last.bold and first.bold,
    )
    return Row((*row.segments[:-1], joined, *line.segments[1:]))


def _unmapped_share(textpage: pypdfium2.PdfTextPage, characters: str) -> float:
    """The share of glyphs of which the font does not say what they mean, from a sample."""
    import pypdfium2.raw as pdfium

    step = max(1, len(characters) // _SAMPLED_CHARACTERS)
    indices = [index for index in range(0, len(characters), step) if not characters[index].isspace()]
    if not indices:
        return 0.0
    return sum(pdfium.FPDFText_HasUnicodeMapError(textpage.raw, index) == 1 for index in indices) / len(
        indices
    )
