"""Figures and comparisons as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from ragserve.evaluation.figures import Difference, Figure, Measured
from ragserve.evaluation.saved import Comparison

_NAME = 20
_NUMBER = 8


def table(measured: Sequence[Measured]) -> str:
    """One line a figure: value, 95% interval, number of questions, what it means."""
    lines = [f"{'':{_NAME}}{'value':>{_NUMBER}}  {'95% interval':<18}{'n':>6}"]
    for group, members in _by_group((one.figure, one) for one in measured):
        lines.append(group)
        for one in members:
            bounds = f"{_number(one.interval.low)} to {_number(one.interval.high)}"
            lines.append(
                f"  {one.figure.name:{_NAME - 2}}{_number(one.value):>{_NUMBER}}  {bounds:<18}"
                f"{one.questions:>6,}  {_unit(one.figure)}"
            )
    return "\n".join(lines)


def comparison_table(comparison: Comparison) -> str:
    """One line a figure: both values, their difference with its interval; * where that leaves out zero."""
    lines = [
        f"{'':{_NAME}}{'before':>{_NUMBER}}{'after':>{_NUMBER}}{'change':>{_NUMBER}}  95% interval of change"
    ]
    for group, members in _by_group((one.figure, one) for one in comparison.differences):
        lines.append(group)
        for one in members:
            bounds = f"{_signed(one.interval.low)} to {_signed(one.interval.high)}"
            lines.append(
                f"  {one.figure.name:{_NAME - 2}}{_number(one.before):>{_NUMBER}}"
                f"{_number(one.after):>{_NUMBER}}{_signed(one.after - one.before):>{_NUMBER}}  "
                f"{bounds:<18} {_unit(one.figure)}{' *' if one.is_clear else ''}"
            )
    unpaired = f"; {comparison.num_unpaired:,} in one run only" if comparison.num_unpaired else ""
    lines.append(f"{comparison.num_paired:,} questions in both runs{unpaired}. * the interval leaves out 0.")
    return "\n".join(lines)


def _by_group(
    members: Iterable[tuple[Figure, Measured | Difference]],
) -> Iterator[tuple[str, list[Measured | Difference]]]:
    for group, pairs in groupby(members, key=lambda pair: pair[0].group):
        yield group, [one for _, one in pairs]


def _number(value: float) -> str:
    return f"{value:,.1f}"


def _signed(value: float) -> str:
    return f"{value:+,.1f}"


def _unit(figure: Figure) -> str:
    return "%" if figure.unit == "percent" else "ms"
