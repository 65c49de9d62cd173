"""A picture of hit rate against false-hit rate, one line a rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

WIDTH, HEIGHT, MARGIN = 480, 320, 54
_LOWEST = 1e-4  # false-hit rates below are drawn there: the axis is logarithmic
_COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a", "#bf3989")


class Point(NamedTuple):
    """A rule at one setting."""

    false_hit_rate: float
    hit_rate: float


def rates_svg(title: str, rules: Mapping[str, Sequence[Point]]) -> str:
    """Hit rate upwards, false-hit rate of what was served to the right, logarithmic from 0.01% to 100%."""
    height = HEIGHT + 2 * MARGIN + 16 * len(rules)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 2 * MARGIN} {height}" '
        f'width="{WIDTH + 2 * MARGIN}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH + 2 * MARGIN}" height="{height}" fill="white"/>',
        _text(MARGIN, 22, title, "start"),
        _text(MARGIN, MARGIN - 10, "share of the queries that is served", "start"),
        _text(MARGIN + WIDTH / 2, MARGIN + HEIGHT + 34, "share of what is served that is wrong", "middle"),
        f'<rect x="{MARGIN}" y="{MARGIN}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#333"/>',
    ]
    for rate, words in ((1e-4, "≤ 0.01%"), (1e-3, "0.1%"), (1e-2, "1%"), (1e-1, "10%"), (1.0, "100%")):
        parts.append(_text(_x(rate), MARGIN + HEIGHT + 16, words, "middle"))
        parts.append(_line(_x(rate), _y(0), _x(rate), _y(1)))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(_text(MARGIN - 6, _y(share) + 4, f"{share:.0%}", "end"))
        parts.append(_line(_x(_LOWEST), _y(share), _x(1), _y(share)))
    for number, (name, points) in enumerate(rules.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [(_x(point.false_hit_rate), _y(point.hit_rate)) for point in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in sorted(places))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in places]
        parts.append(_text(MARGIN, MARGIN + HEIGHT + 54 + 16 * number, name, "start", colour))
    return "\n".join([*parts, "</svg>", ""])


def _x(rate: float) -> float:
    return MARGIN + WIDTH * (1 - math.log10(max(rate, _LOWEST)) / math.log10(_LOWEST))


def _y(share: float) -> float:
    return MARGIN + HEIGHT * (1 - share)


def _line(x0: float, y0: float, x1: float, y1: float) -> str:
    return f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{text}</text>'
