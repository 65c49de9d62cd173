"""Large pictures in pieces: text that is too small to read once a picture is shrunk is looked for closer by.

Lines are found tile by tile. One that runs from a tile into the next is found in both: it is put together
before it is read, so that no word is read in two halves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

TILE = 1920  # pixels a side
_OVERLAP = 160  # pixels that neighbouring tiles share: more than a line is high
_MOST_TILES = 12
_SAME_LINE = 0.6  # of the lower one's height that two boxes share if they are of one line
_LINES_AT_ONCE = 64  # that are read together


class Line(NamedTuple):
    """Where a line of text is, in pixels, and which tile it was found in."""

    x0: float
    y0: float
    x1: float
    y1: float
    tile: int


class ReadLine(NamedTuple):
    """A line, what it says, and how sure that is (0 to 1)."""

    line: Line
    text: str
    confidence: float


Detect = Callable[["np.ndarray"], Sequence[tuple[float, float, float, float]]]
"""The boxes of the lines in (height, width, 3) uint8 BGR pixels: x0, y0, x1, y1."""
Recognise = Callable[[Sequence["np.ndarray"]], Sequence[tuple[str, float]]]
"""What single lines say, and the confidence in that."""


def needs_shrinking(width: int, height: int) -> float:
    """By how much a picture must shrink, from 1, so that it has no more tiles than may be read."""
    scale = 1.0
    while len(_starts(width / scale)) * len(_starts(height / scale)) > _MOST_TILES:
        scale *= 1.1
    return scale


def read_tiles(pixels: np.ndarray, detect: Detect, recognise: Recognise) -> list[ReadLine]:
    """The lines in (height, width, 3) uint8 BGR pixels, from the top."""
    lines: list[Line] = []
    for number, (left, top) in enumerate(_tiles(pixels.shape[1], pixels.shape[0])):
        tile = pixels[top : top + TILE, left : left + TILE]
        for x0, y0, x1, y1 in detect(tile):
            _add(lines, Line(x0 + left, y0 + top, x1 + left, y1 + top, number))
    lines.sort(key=lambda line: (line.y0, line.x0))
    found = []
    for first in range(0, len(lines), _LINES_AT_ONCE):
        some = lines[first : first + _LINES_AT_ONCE]
        said = recognise([_cut(pixels, line) for line in some])
        found += [ReadLine(line, *words) for line, words in zip(some, said, strict=True)]
    return found


def _tiles(width: int, height: int) -> Iterator[tuple[int, int]]:
    """The left and upper edges of tiles that cover a picture."""
    return ((left, top) for top in _starts(height) for left in _starts(width))


def _starts(length: float) -> list[int]:
    """Where tiles begin along one side; the last one ends with it."""
    if length <= TILE:
        return [0]
    count = -(-(int(length) - _OVERLAP) // (TILE - _OVERLAP))
    return [round(number * (length - TILE) / (count - 1)) for number in range(count)]


def _add(lines: list[Line], line: Line) -> None:
    """Append a line, joined with what other tiles have found of it."""
    while True:
        other = next((other for other in lines if other.tile != line.tile and _is_same(other, line)), None)
        if other is None:
            lines.append(line)
            return
        lines.remove(other)
        line = Line(
            min(line.x0, other.x0),
            min(line.y0, other.y0),
            max(line.x1, other.x1),
            max(line.y1, other.y1),
            line.tile,
        )


def _is_same(one: Line, other: Line) -> bool:
    """Whether two boxes overlap, and do so over most of their height."""
    shared = min(one.y1, other.y1) - max(one.y0, other.y0)
    beside = min(one.x1, other.x1) - max(one.x0, other.x0)
    return beside > 0 and shared >= _SAME_LINE * min(one.y1 - one.y0, other.y1 - other.y0)


def _cut(pixels: np.ndarray, line: Line) -> np.ndarray:
    """The pixels of a line; one that is written upwards is laid down."""
    import numpy as np

    part = pixels[max(0, int(line.y0)) : int(line.y1) + 1, max(0, int(line.x0)) : int(line.x1) + 1]
    return np.ascontiguousarray(np.rot90(part)) if part.shape[0] > 1.5 * part.shape[1] else part
