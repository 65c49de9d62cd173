"""A picture of latency against the number of vectors, one line an index."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from charts import Axis, line_chart

_FIGURE = re.compile(r"vectors_(\d+)_(\w+)_(p50|p95)_ms")
_FLOOR = re.compile(r"vectors_(\d+)_floor_ms")


def latency_svg(figures: Mapping[str, Any]) -> str:
    """What one query takes at each size, out of the figures that index_scale.py prints.

    Ours with p50 and p95, peers with p50, and the floor of comparing all vectors; both axes logarithmic.
    """
    lines: dict[str, list[tuple[float, float]]] = {}
    for name, value in figures.items():
        if found := _FIGURE.fullmatch(name):
            size, index, quantile = found.groups()
            if quantile == "p50" or index in ("exact", "approximate"):
                lines.setdefault(f"{index.replace('_', '-')}, {quantile}", []).append((int(size), value))
        elif found := _FLOOR.fullmatch(name):
            lines.setdefault("reading all vectors once", []).append((int(found[1]), value))
    points = [point for line in lines.values() for point in line]
    title = f"One query of {figures['dimension']} dimensions, on {figures['threads']} threads"
    sizes = Axis("vectors", _decades([size for size, _ in points]), is_logarithmic=True)
    times = Axis("milliseconds", _decades([ms for _, ms in points]), is_logarithmic=True)
    return line_chart(title, sizes, times, dict(sorted(lines.items())))


def _decades(values: list[float]) -> list[tuple[float, str]]:
    """Powers of ten from the last below all values to the first above them; two at least."""
    low, high = (int(f"{value:e}".partition("e")[2]) for value in (min(values), max(values)))
    if 10.0**high < max(values) or high == low:
        high += 1
    return [(10.0**exponent, f"{10.0**exponent:,.10g}") for exponent in range(low, high + 1)]
