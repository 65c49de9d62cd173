"""The numbers that Word shows before headings and items. It stores only how to count them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from indexer.parsers.ooxml import attribute, child, descendants

if TYPE_CHECKING:
    from lxml import etree

_BULLETS = ("bullet", "none")
_LEVEL = re.compile(r"%(\d)")
_LARGEST = 9999
_ROMAN = tuple(
    zip(
        (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1),
        ("m", "cm", "d", "cd", "c", "xc", "l", "xl", "x", "ix", "v", "iv", "i"),
        strict=True,
    )
)


class _Level(NamedTuple):
    """How a depth of a list is counted: "lowerLetter" from 1 as "%1)"."""

    form: str
    text: str
    start: int


class _List(NamedTuple):
    """A list: whose count it goes on with, and its levels by their depth from 0."""

    count: str
    levels: Mapping[int, _Level]


class Numbering:
    """Counts the paragraphs of one document, in order."""

    def __init__(self, root: etree._Element | None) -> None:
        """`root` is that of the numbering part, if there is one."""
        self._lists = _lists(root) if root is not None else {}
        self._counts: dict[tuple[str, int], int] = {}

    def mark(self, list_id: str, depth: int) -> str:
        """What stands before a list's next paragraph at a depth from 0: "1.2.", "b)"; "" for bullets."""
        its_list = self._lists.get(list_id)
        level = its_list.levels.get(depth) if its_list is not None else None
        if its_list is None or level is None or level.form in _BULLETS:
            return ""
        counts = self._counts
        for key in [key for key in counts if key[0] == its_list.count and key[1] > depth]:
            del counts[key]  # deeper levels begin anew
        key = (its_list.count, depth)
        counts[key] = counts[key] + 1 if key in counts else level.start

        def shown(match: re.Match[str]) -> str:
            above = int(match[1]) - 1
            of = its_list.levels.get(above, level)
            return _number(counts.setdefault((its_list.count, above), of.start), of.form)

        return _LEVEL.sub(shown, level.text).strip() or f"{counts[key]}."


def _lists(root: etree._Element) -> dict[str, _List]:
    shared = {
        attribute(element, "abstractNumId") or "": _levels(element)
        for element in descendants(root, "abstractNum")
    }
    lists: dict[str, _List] = {}
    for element in descendants(root, "num"):
        list_id = attribute(element, "numId") or ""
        definition = attribute(child(element, "abstractNumId"), "val") or ""
        begins_anew = next(descendants(element, "startOverride"), None) is not None
        own = _levels(element) if begins_anew else {}
        levels = {
            **shared.get(definition, {}),
            **{depth: level for depth, level in own.items() if level.text},
        }
        lists[list_id] = _List(f"list {list_id}" if begins_anew else definition, levels)
    return lists


def _levels(element: etree._Element) -> dict[int, _Level]:
    levels: dict[int, _Level] = {}
    for level in descendants(element, "lvl"):
        depth, start = attribute(level, "ilvl") or "", attribute(child(level, "start"), "val") or ""
        if depth.isdecimal():
            levels[int(depth)] = _Level(
                attribute(child(level, "numFmt"), "val") or "decimal",
                attribute(child(level, "lvlText"), "val") or "",
                int(start) if start.isdecimal() and len(start) < 5 else 1,
            )
    return levels


def _number(number: int, form: str) -> str:
    """A number as a form has it; decimal where the form is of no Latin script."""
    if form.endswith("Letter") and number > 0:
        letters = chr(ord("a") + (number - 1) % 26) * min(9, 1 + (number - 1) // 26)
        return letters.upper() if form.startswith("upper") else letters
    if form.endswith("Roman") and 0 < number <= _LARGEST:
        return _roman(number).upper() if form.startswith("upper") else _roman(number)
    return f"{number:02}" if form == "decimalZero" else str(number)


def _roman(number: int) -> str:
    letters = ""
    for value, sign in _ROMAN:
        times, number = divmod(number, value)
        letters += sign * times
    return letters
