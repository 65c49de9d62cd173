"""Line charts as SVG, for the pages in docs/."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

_WIDTH, _HEIGHT, _MARGIN = 480, 320, 54
_LINE_OF_LEGEND = 16
_COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a", "#bf3989")


class Axis(NamedTuple):
    """What an axis shows: values from the first tick to the last; others are drawn at the nearer end."""

    label: str
    ticks: Sequence[tuple[float, str]]  # value and words, rising
    is_logarithmic: bool = False

    def place(self, value: float) -> float:
        """0 at the first tick, 1 at the last."""
        low, high = self.ticks[0][0], self.ticks[-1][0]
        value = min(max(value, low), high)
        if self.is_logarithmic:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)


def line_chart(title: str, x: Axis, y: Axis, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """An SVG document: a line of dots for each named sequence of (x, y), the names below."""
    width = _WIDTH + 2 * _MARGIN
    height = _HEIGHT + 2 * _MARGIN + _LINE_OF_LEGEND * len(lines)
    bottom = _MARGIN + _HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(_MARGIN, 22, title, "start"),
        _text(_MARGIN, _MARGIN - 10, y.label, "start"),
        _text(_MARGIN + _WIDTH / 2, bottom + 34, x.label, "middle"),
        f'<rect x="{_MARGIN}" y="{_MARGIN}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#333"/>',
    ]
    for value, words in x.ticks:
        at = _MARGIN + _WIDTH * x.place(value)
        parts += [_text(at, bottom + 16, words, "middle"), _rule(at, bottom, at, _MARGIN)]
    for value, words in y.ticks:
        at = bottom - _HEIGHT * y.place(value)
        parts += [_text(_MARGIN - 6, at + 4, words, "end"), _rule(_MARGIN, at, _MARGIN + _WIDTH, at)]
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = sorted((_MARGIN + _WIDTH * x.place(a), bottom - _HEIGHT * y.place(b)) for a, b in points)
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{colour}"/>' for a, b in places]
        parts.append(_text(_MARGIN, bottom + 54 + _LINE_OF_LEGEND * number, name, "start", colour))
    return "\n".join([*parts, "</svg>", ""])


def _rule(x0: float, y0: float, x1: float, y1: float) -> str:
    return f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
