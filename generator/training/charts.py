"""Line charts, laid out once and drawn twice: as SVG for the HTML page and as PNG by Pillow.

Four small charts do not need matplotlib and its dozen dependencies; Pillow is there for images anyway.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 34, 34  # margins in pixels
_COLOURS = ("#2563a8", "#d1701f", "#3a8a4d")
_INK, _GRID = "#30343a", "#dfe3e8"
_MAX_POINTS = 800
_PNG_SCALE = 2

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """One line; values that are no numbers are left out."""

    name: str
    points: Sequence[Point]
    marked: bool = False  # a dot at each point, for the few figures of validations


@dataclass(frozen=True, slots=True)
class Chart:
    """A title and its lines over training steps."""

    title: str
    series: Sequence[Series]


@dataclass(frozen=True, slots=True)
class _Layout:
    lines: list[tuple[Series, list[Point], str]]  # pixels, colour
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


def to_svg(chart: Chart) -> str:
    """The chart as an <svg> element."""
    layout = _lay_out(chart)
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif" '
        f'font-size="12" fill="{_INK}">',
        f"<title>{html.escape(chart.title)}</title>",
        f'<text x="{_LEFT}" y="20" font-size="14" font-weight="bold">{html.escape(chart.title)}</text>',
    ]
    for y, label in layout.y_ticks:
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for x, label in layout.x_ticks:
        parts.append(f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{label}</text>')
    for series, points, colour in layout.lines:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        if series.marked or len(points) == 1:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    for (series, _, colour), x in zip(layout.lines, _legend_places(layout), strict=True):
        parts.append(f'<text x="{x}" y="20" fill="{colour}">{html.escape(series.name)}</text>')
    return "\n".join([*parts, "</svg>"])


def save_png(chart: Chart, path: Path) -> None:
    """The chart as a PNG file, at twice the size so that it is sharp on dense screens."""
    from PIL import Image, ImageDraw, ImageFont

    layout, scale = _lay_out(chart), _PNG_SCALE
    image = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), "white")
    draw = ImageDraw.Draw(image)
    small, large = (ImageFont.load_default(size=size * scale) for size in (12, 14))

    def text(x: float, y: float, label: str, *, anchor: str, colour: str = _INK, font: Any = small) -> None:
        draw.text((x * scale, y * scale), label, fill=colour, font=font, anchor=anchor)

    text(_LEFT, 20, chart.title, anchor="ls", font=large)
    for y, label in layout.y_ticks:
        draw.line(
            [(_LEFT * scale, y * scale), ((WIDTH - _RIGHT) * scale, y * scale)], fill=_GRID, width=scale
        )
        text(_LEFT - 8, y, label, anchor="rm")
    for x, label in layout.x_ticks:
        text(x, HEIGHT - _BOTTOM + 20, label, anchor="ms")
    for series, points, colour in layout.lines:
        pixels = [(x * scale, y * scale) for x, y in points]
        if len(pixels) > 1:
            draw.line(pixels, fill=colour, width=3, joint="curve")
        if series.marked or len(pixels) == 1:
            for x, y in pixels:
                draw.ellipse([x - 6, y - 6, x + 6, y + 6], fill=colour)
    for (series, _, colour), x in zip(layout.lines, _legend_places(layout), strict=True):
        text(x, 20, series.name, anchor="ls", colour=colour)
    image.save(path, format="PNG", optimize=True)


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """About `count` round numbers that span [low, high]."""
    size = max(abs(low), abs(high), 1e-30)
    if high - low < 1e-6 * size:  # a flat line, or as good as one
        low, high = low - 0.5 * size, high + 0.5 * size
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min((1, 2, 2.5, 5, 10), key=lambda factor: abs(factor * power - rough))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _lay_out(chart: Chart) -> _Layout:
    kept = [
        Series(s.name, _thinned([p for p in s.points if math.isfinite(p[1])]), s.marked) for s in chart.series
    ]
    kept = [series for series in kept if series.points]
    xs = [x for series in kept for x, _ in series.points] or [0.0]
    ys = [y for series in kept for _, y in series.points] or [0.0]
    x_marks, y_marks = ticks(0, max(*xs, 1.0)), ticks(min(ys), max(ys))

    def place(point: Point) -> Point:
        x = (point[0] - x_marks[0]) / (x_marks[-1] - x_marks[0])
        y = (point[1] - y_marks[0]) / (y_marks[-1] - y_marks[0])
        return _LEFT + x * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - y * (HEIGHT - _TOP - _BOTTOM)

    return _Layout(
        [(s, [place(p) for p in s.points], _COLOURS[i % len(_COLOURS)]) for i, s in enumerate(kept)],
        [(place((x, y_marks[0]))[0], f"{x:g}") for x in x_marks],
        [(place((x_marks[0], y))[1], f"{y:.4g}") for y in y_marks],
    )


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most `_MAX_POINTS`, each the mean of its neighbours: more are not seen on so few pixels."""
    size = math.ceil(len(points) / _MAX_POINTS) or 1
    groups = [points[begin : begin + size] for begin in range(0, len(points), size)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def _legend_places(layout: _Layout) -> list[float]:
    """Where the names stand, right-aligned in a row of equal cells."""
    count = len(layout.lines)
    return [WIDTH - _RIGHT - 110 * (count - index) for index in range(count)]
