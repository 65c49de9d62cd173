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
        lines = list(_lines(textpage, characters, placement(page)))
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


def _lines(textpage: pypdfium2.PdfTextPage, characters: str, place: _Place) -> Iterator[Row]:
    """pdfium's lines, each cut into segments at its wide gaps."""
    import pypdfium2.raw as pdfium

    raw = textpage.raw
    edges = [ctypes.c_double() for _ in range(4)]
    left, top, right, bottom = edges
    for match in _LINE.finditer(characters):
        text = match.group()
        start, end = match.start() + len(text) - len(text.lstrip()), match.start() + len(text.rstrip())
        if start >= end:
            continue
        boxes = []
        for index in range(pdfium.FPDFText_CountRects(raw, start, end - start)):
            if pdfium.FPDFText_GetRect(raw, index, *edges) and right.value > left.value:
                boxes.append(place(left.value, bottom.value, right.value, top.value))
        if not boxes:
            continue
        kind = _type(raw, start, end, place)
        if _has_wide_gap(boxes, kind.size):
            yield Row(tuple(_cut(raw, characters, start, end, kind, place)))
        else:
            yield Row((_segment(characters[start:end], boxes, kind),))


def _segment(text: str, boxes: list[Bounds], kind: _Type) -> Segment:
    x0, y0 = min(box[0] for box in boxes), min(box[1] for box in boxes)
    x1, y1 = max(box[2] for box in boxes), max(box[3] for box in boxes)
    return Segment(normalise_typesetting(text), x0, y0, x1, y1, kind.size or y1 - y0, kind.bold, kind.base)


def _type(raw: object, start: int, end: int, place: _Place) -> _Type:
    """Size, weight and base line of a line; of three characters, so that a raised digit does not decide."""
    import pypdfium2.raw as pdfium

    matrix, x, y = pdfium.FS_MATRIX(), ctypes.c_double(), ctypes.c_double()
    sizes, bases = [], []
    for index in {start, (start + end) // 2, end - 1}:
        scale = math.hypot(matrix.c, matrix.d) if pdfium.FPDFText_GetMatrix(raw, index, matrix) else 1.0
        sizes.append(pdfium.FPDFText_GetFontSize(raw, index) * scale)
        pdfium.FPDFText_GetCharOrigin(raw, index, x, y)
        bases.append(place(x.value, y.value, x.value, y.value)[3])
    bold = end - start <= _LONGEST_HEADING_LINE and all(
        _is_bold(raw, index) for index in ((start + end) // 2, start, end - 1)
    )
    return _Type(median(sizes), bold, median(bases))


def _is_bold(raw: object, index: int) -> bool:
    """Whether a character is set in a bold font; a bold word within a line does not make the line bold."""
    import pypdfium2.raw as pdfium

    name, flags = ctypes.create_string_buffer(128), ctypes.c_int()
    length = pdfium.FPDFText_GetFontInfo(raw, index, name, 128, flags)
    return 0 < length <= 128 and _BOLD.search(name.value.decode("latin-1")) is not None


def _has_wide_gap(boxes: list[Bounds], size: float) -> bool:
    if len(boxes) < 2 or max(box[3] for box in boxes) - min(box[1] for box in boxes) > 3 * size:
        return False  # one run, or text that runs upwards
    spans = sorted((box[0], box[2]) for box in boxes)
    right = spans[0][1]
    for x0, x1 in spans[1:]:
        if x0 - right > _WIDE_GAP * size:
            return True
        right = max(right, x1)
    return False


def _cut(raw: object, characters: str, start: int, end: int, kind: _Type, place: _Place) -> Iterator[Segment]:
    """One line's characters as segments, cut where two of them stand far apart."""
    import pypdfium2.raw as pdfium

    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    text: list[str] = []
    boxes: list[Bounds] = []
    for index in range(start, end):
        if not characters[index].isspace() and pdfium.FPDFText_GetCharBox(
            raw, index, left, right, bottom, top
        ):
            box = place(left.value, bottom.value, right.value, top.value)
            if boxes and max(box[0] - boxes[-1][2], boxes[-1][0] - box[2]) > _WIDE_GAP * kind.size:
                yield _segment("".join(text).strip(), boxes, kind)
                text, boxes = [], []
            boxes.append(box)
        text.append(characters[index])
    if boxes:
        yield _segment("".join(text).strip(), boxes, kind)


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
