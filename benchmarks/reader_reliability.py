"""A reliability diagram as SVG: how often answers are right, by what the reader said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SIZE, MARGIN, BINS = 320, 46, 10
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37")


def reliability_svg(runs: Mapping[str, Sequence[tuple[float, bool]]], *, threshold: float) -> str:
    """Ten bins of stated confidence a run; a circle's area is the bin's share of the questions."""
    width, height = SIZE + 2 * MARGIN, SIZE + 2 * MARGIN + 18 * len(runs)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _line(0, 0, 1, 1),
        _line(threshold, 0, threshold, 1),
        *(_ticks(value / 5) for value in range(6)),
        f'<rect x="{MARGIN}" y="{MARGIN}" width="{SIZE}" height="{SIZE}" fill="none" stroke="#333"/>',
        _text(MARGIN + SIZE / 2, MARGIN + SIZE + 34, "stated confidence", "middle"),
        _text(MARGIN, MARGIN - 12, "share that is right", "start"),
        _text(_x(threshold) + 4, MARGIN + 14, "threshold", "start"),
    ]
    for number, (name, pairs) in enumerate(runs.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = _bins(pairs)
        path = " ".join(f"{_x(said):.1f},{_y(true):.1f}" for said, true, _ in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}"/>')
        for said, true, share in points:
            radius = 2 + 16 * share**0.5
            circle = f'<circle cx="{_x(said):.1f}" cy="{_y(true):.1f}" r="{radius:.1f}"'
            parts.append(f'{circle} fill="{colour}" fill-opacity="0.35" stroke="{colour}"/>')
        below = MARGIN + SIZE + 52 + 18 * number
        parts.append(_text(MARGIN, below, f"{name} ({len(pairs):,} questions)", "start", colour))
    return "\n".join([*parts, "</svg>", ""])


def _bins(pairs: Sequence[tuple[float, bool]]) -> list[tuple[float, float, float]]:
    """Mean confidence, share that is right and share of all, of each bin that holds something."""
    found = []
    for index in range(BINS):
        inside = [pair for pair in pairs if min(int(pair[0] * BINS), BINS - 1) == index]
        if inside:
            said = sum(confidence for confidence, _ in inside) / len(inside)
            true = sum(right for _, right in inside) / len(inside)
            found.append((said, true, len(inside) / len(pairs)))
    return found


def _ticks(value: float) -> str:
    below = _text(_x(value), MARGIN + SIZE + 16, f"{value:.1f}", "middle")
    return below + _text(MARGIN - 6, _y(value) + 4, f"{value:.1f}", "end")


def _line(x0: float, y0: float, x1: float, y1: float) -> str:
    ends = f'x1="{_x(x0):.1f}" y1="{_y(y0):.1f}" x2="{_x(x1):.1f}" y2="{_y(y1):.1f}"'
    return f'<line {ends} stroke="#999" stroke-dasharray="4 4"/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{text}</text>'


def _x(value: float) -> float:
    return MARGIN + SIZE * value


def _y(value: float) -> float:
    return MARGIN + SIZE * (1 - value)
