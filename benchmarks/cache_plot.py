"""A picture of hit rate against false-hit rate, one line a rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from charts import Axis, line_chart

_SERVED = Axis(
    "share of the new wordings that is served", tuple((share / 4, f"{share / 4:.0%}") for share in range(5))
)
_WRONG = Axis(
    "share of what is served that is wrong",
    ((1e-4, "≤ 0.01%"), (1e-3, "0.1%"), (1e-2, "1%"), (1e-1, "10%"), (1.0, "100%")),
    is_logarithmic=True,
)


class Point(NamedTuple):
    """A rule at one setting."""

    false_hit_rate: float
    hit_rate: float


def rates_svg(title: str, rules: Mapping[str, Sequence[Point]]) -> str:
    """Hit rate upwards, false-hit rate of what was served to the right, logarithmic from 0.01% to 100%."""
    return line_chart(title, _WRONG, _SERVED, rules)
