"""Formulas of Word documents as LaTeX: without it a fraction would read as a product."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexer.parsers.ooxml import attribute, child
from indexer.parsers.xml import local_name

if TYPE_CHECKING:
    from lxml import etree

_DEEPEST = 60  # formulas within formulas
_OPERATORS = {"∑": r"\sum", "∏": r"\prod", "∫": r"\int", "∬": r"\iint", "∮": r"\oint", "⋃": r"\bigcup"}
_ACCENTS = {"\u0302": r"\hat", "\u0303": r"\tilde", "\u0304": r"\bar", "\u0307": r"\dot", "\u20d7": r"\vec"}
_FUNCTIONS = frozenset(
    ["log", "ln", "lg", "exp", "sin", "cos", "tan", "cot", "sinh", "cosh", "tanh", "min", "max", "lim"]
)


def latex(formula: etree._Element) -> str:
    """An `oMath` element as LaTeX, without the marks around it."""
    return _inner(formula, _DEEPEST).strip()


def _inner(element: etree._Element | None, depth: int) -> str:
    if element is None:
        return ""
    if depth <= 0:
        return "".join(element.itertext())
    return "".join(_latex(each, depth) for each in element)


def _latex(element: etree._Element, depth: int) -> str:
    def part(name: str) -> str:
        return _inner(child(element, name), depth - 1).strip()

    def setting(name: str, default: str) -> str:
        value = attribute(child(element, f"{tag}Pr", name), "val")
        return default if value is None else value

    match tag := local_name(element):
        case "t":
            return element.text or ""
        case "f":
            return rf"\frac{{{part('num')}}}{{{part('den')}}}"
        case "sSup" | "sSub" | "sSubSup" | "sPre":
            return f"{part('e')}{_scripts(part('sub'), part('sup'))}"
        case "rad":
            degree = part("deg")
            return rf"\sqrt[{degree}]{{{part('e')}}}" if degree else rf"\sqrt{{{part('e')}}}"
        case "d":
            parts = (_inner(each, depth - 1).strip() for each in element if local_name(each) == "e")
            return f"{setting('begChr', '(')}{setting('sepChr', '|').join(parts)}{setting('endChr', ')')}"
        case "nary":
            sign = setting("chr", "∫")
            return f"{_OPERATORS.get(sign, sign)}{_scripts(part('sub'), part('sup'))} {part('e')}"
        case "func":
            name = part("fName")
            return f"{_function(name)} {part('e')}"
        case "limLow" | "limUpp":
            low, high = (part("lim"), "") if tag == "limLow" else ("", part("lim"))
            return f"{_function(part('e'))}{_scripts(low, high)}"
        case "acc":
            accent = _ACCENTS.get(setting("chr", "\u0302"), "")
            return f"{accent}{{{part('e')}}}"
        case "m" | "eqArr":
            rows = (_inner_cells(each, depth - 1) for each in element if local_name(each) in ("mr", "e"))
            lines = r" \\ ".join(rows)
            return rf"\begin{{matrix}}{lines}\end{{matrix}}"
        case _ if tag.endswith("Pr"):
            return ""
        case _:
            return _inner(element, depth - 1)


def _inner_cells(row: etree._Element, depth: int) -> str:
    """A row of a matrix, or a line of equations."""
    if local_name(row) == "e":
        return _inner(row, depth).strip()
    return " & ".join(_inner(cell, depth).strip() for cell in row if local_name(cell) == "e")


def _scripts(low: str, high: str) -> str:
    return (f"_{{{low}}}" if low else "") + (f"^{{{high}}}" if high else "")


def _function(name: str) -> str:
    return f"\\{name}" if name in _FUNCTIONS else name
