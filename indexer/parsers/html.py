"""From an HTML tree to blocks: what a reader sees, in order, without scripts, styles and navigation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from indexer.parsers.building import DocumentBuilder
from indexer.parsers.normalise import collapse_spaces, one_line
from indexer.parsers.tabular import Row, add_table, drop_empty_columns
from indexer.parsers.xml import local_name

if TYPE_CHECKING:
    from lxml import etree

_DROPPED = frozenset(
    [
        "script",
        "style",
        "noscript",
        "template",
        "nav",
        "head",
        "iframe",
        "object",
        "embed",
        "svg",
        "canvas",
        "audio",
        "video",
        "map",
        "button",
        "select",
        "datalist",
        "input",
        "textarea",
    ]
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "caption",
        "center",
        "dd",
        "details",
        "dialog",
        "dir",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "frameset",
        "header",
        "hgroup",
        "html",
        "legend",
        "li",
        "main",
        "menu",
        "ol",
        "optgroup",
        "p",
        "search",
        "section",
        "summary",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "ul",
    ]
)
_LISTS = frozenset({"ul", "ol", "menu", "dir"})
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_BLANKS = re.compile(r"\s+")
_PARAGRAPH_END = re.compile(r"\n{2,}")
_LONG_PREFORMATTED = 10_000  # characters; a whole document in `pre` is a text file, not code
_MAX_SPAN = 50  # columns or rows that one cell may cover
_LAYOUT_CELL = 1500  # characters; a cell this long holds prose, and its table is there for the layout
_MAX_DEPTH = 200  # of Python's stack; deeper markup gives its text without structure


class HtmlWalker:
    """Appends the blocks of an HTML tree to a builder; inline text gathers until a block begins or ends."""

    def __init__(self, builder: DocumentBuilder, *, base_level: int = 0) -> None:
        self._builder = builder
        self._base_level = base_level
        self._inline: list[str] = []

    def walk(self, root: etree._Element) -> None:
        """Append everything below `root`."""
        self._element(root, 0)
        self._flush()

    def _flush(self) -> None:
        text = collapse_spaces("".join(self._inline))
        self._inline.clear()
        for paragraph in _PARAGRAPH_END.split(text):  # pages from before style sheets part them by two `br`
            self._builder.add("text", paragraph)

    def _say(self, text: str | None) -> None:
        """Gather inline text; the source's own line breaks mean nothing, only `br` breaks lines."""
        if text:
            self._inline.append(_BLANKS.sub(" ", text))

    def _element(self, element: etree._Element, depth: int) -> None:
        tag = local_name(element).lower()
        if not tag or tag in _DROPPED or is_hidden(element):
            return
        if depth > _MAX_DEPTH:
            self._say(" ".join(element.itertext()))
        elif tag in _HEADINGS:
            self._flush()
            self._builder.heading(_text_of(element), level=_HEADINGS[tag] + self._base_level)
        elif tag == "pre":
            self._flush()
            self._preformatted(element)
        elif tag in _LISTS and not _holds_blocks(element):
            self._flush()
            self._builder.add("list", "\n".join(_list_lines(element, "", depth)))
        elif tag == "dl" and not _holds_blocks(element):
            self._flush()
            self._builder.add("list", "\n".join(_definition_lines(element)))
        elif tag == "table":
            self._flush()
            self._table(element, depth)
        elif tag == "br":
            self._inline.append("\n")
        elif tag == "hr":
            self._flush()
        elif tag == "img":
            self._say(f" {element.get('alt') or ''} ")
        else:
            self._container(element, tag, depth)

    def _container(self, element: etree._Element, tag: str, depth: int) -> None:
        is_block = tag in _BLOCKS
        if is_block:
            self._flush()
        self._say(element.text)
        for child in element:
            self._element(child, depth + 1)
            self._say(child.tail)
        if is_block:
            self._flush()

    def _preformatted(self, element: etree._Element) -> None:
        for end in element.iter("{*}br"):
            end.tail = "\n" + (end.tail or "")
        text = "".join(element.itertext())
        is_code = len(text) < _LONG_PREFORMATTED or next(element.iter("{*}code"), None) is not None
        for piece in [text] if is_code else _PARAGRAPH_END.split(text):
            self._builder.add("code" if is_code else "text", piece)

    def _table(self, table: etree._Element, depth: int) -> None:
        rows = table_rows(table)
        if _is_layout(table, rows):
            self._container(table, "table", depth)
            return
        caption = next((_text_of(child) for child in table if local_name(child).lower() == "caption"), "")
        if caption:
            self._builder.add("text", caption)
        cells = drop_empty_columns([row for row in rows if any(cell.strip() for cell in row)])
        add_table(self._builder, cells, title=caption, header=len(cells) > 1)


def html_metadata(root: etree._Element) -> tuple[str, dict[str, str]]:
    """The page's title, and what its meta elements say of author, description and date."""
    title = next((_text_of(element) for element in root.iter("{*}title")), "")
    metadata: dict[str, str] = {}
    for element in root.iter("{*}meta"):
        key = (element.get("name") or element.get("property") or "").lower()
        content = element.get("content") or ""
        if key == "og:title" and not title:
            title = content
        elif key in ("author", "description", "keywords", "date", "article:published_time"):
            metadata.setdefault(key.rpartition(":")[2], content)
    return title, metadata


def is_hidden(element: etree._Element) -> bool:
    """Whether the page does not show the element, or shows it for finding the way about."""
    return (
        "hidden" in element.attrib
        or element.get("role") == "navigation"
        or _HIDDEN_STYLE.search(element.get("style") or "") is not None
    )


def table_rows(table: etree._Element) -> list[Row]:
    """The cells of a table's own rows; a cell over several rows is repeated, over several columns is not."""
    rows: list[Row] = []
    carried: dict[int, tuple[int, str]] = {}  # column -> rows that its cell still covers, its text
    for tr in table.iter("{*}tr"):
        if _nearest_table(tr) is not table:
            continue
        row: list[str] = []
        following: dict[int, tuple[int, str]] = {}
        for cell in tr:
            if local_name(cell).lower() in ("td", "th"):
                _fill_from_above(row, carried, following)
                text, rowspan = _text_of(cell), _span(cell, "rowspan")
                if rowspan > 1:
                    following[len(row)] = (rowspan - 1, text)
                row.extend([text] + [""] * (_span(cell, "colspan") - 1))
        _fill_from_above(row, carried, following)
        carried = following
        rows.append(row)
    return rows


def _fill_from_above(
    row: list[str], carried: dict[int, tuple[int, str]], following: dict[int, tuple[int, str]]
) -> None:
    while (column := len(row)) in carried:
        num_left, text = carried.pop(column)
        row.append(text)
        if num_left > 1:
            following[column] = (num_left - 1, text)


def _span(cell: etree._Element, attribute: str) -> int:
    value = (cell.get(attribute) or "1").strip()
    return min(_MAX_SPAN, max(1, int(value))) if value.isdecimal() and len(value) < 6 else 1


def _nearest_table(element: etree._Element) -> etree._Element | None:
    return next((parent for parent in element.iterancestors() if local_name(parent).lower() == "table"), None)


def _is_layout(table: etree._Element, rows: list[Row]) -> bool:
    """Tables that place prose rather than data: nested, of one column, or with very long cells."""
    if any(
        local_name(element).lower() in ("table", "pre", *_HEADINGS) for element in table.iterdescendants()
    ):
        return True
    width = max((sum(1 for cell in row if cell) for row in rows), default=0)
    return width <= 1 or any(len(cell) > _LAYOUT_CELL for row in rows for cell in row)


def _holds_blocks(element: etree._Element) -> bool:
    """Whether a list is there for the layout, or holds what should stay whole."""
    return any(
        local_name(child).lower() in ("table", "pre", *_HEADINGS) for child in element.iterdescendants()
    )


def _list_lines(element: etree._Element, indent: str, depth: int) -> list[str]:
    ordered = local_name(element).lower() == "ol"
    lines: list[str] = []
    number = 0
    for item in element:
        tag = local_name(item).lower()
        if not tag or tag in _DROPPED or is_hidden(item):
            continue
        if depth > _MAX_DEPTH:
            lines.append(f"{indent}- {_text_of(item)}")
        elif tag in _LISTS:
            lines.extend(_list_lines(item, indent + "  ", depth + 1))
        else:
            nested: list[etree._Element] = []
            own = _text_of(item, apart=nested)
            number += 1
            lines.append(f"{indent}{f'{number}.' if ordered else '-'} {own}" if own else "")
            for inner in nested:
                lines.extend(_lines_within(inner, indent, depth))
    return list(filter(None, lines))


def _lines_within(element: etree._Element, indent: str, depth: int) -> list[str]:
    """The lines of a list within a list."""
    lines_of = _definition_lines if local_name(element).lower() == "dl" else _list_lines
    return lines_of(element, indent + "  ", depth + 1)


def _definition_lines(element: etree._Element, indent: str = "", depth: int = 0) -> list[str]:
    """A line a term, with its definition after a colon; further ones, and lists within, below it."""
    lines: list[str] = []
    term = ""
    for child in _terms(element):
        if local_name(child).lower() == "dt":
            if term:
                lines.append(f"{indent}- {term}")
            term = _text_of(child)
            continue
        nested: list[etree._Element] = []
        text = _text_of(child, apart=nested if depth < _MAX_DEPTH else None)
        if term and (text or nested):
            lines.append(f"{indent}- {term}: {text}" if text else f"{indent}- {term}")
            term = ""
        elif text:
            lines.append(f"{indent}  {text}")
        for inner in nested:
            lines.extend(_lines_within(inner, indent, depth))
    return [*lines, f"{indent}- {term}"] if term else lines


def _terms(element: etree._Element) -> Iterator[etree._Element]:
    """The terms and definitions of a list, which may be wrapped in groups."""
    for child in element:
        tag = local_name(child).lower()
        if tag in ("dt", "dd"):
            yield child
        elif tag == "div":
            yield from (inner for inner in child if local_name(inner).lower() in ("dt", "dd"))


def _text_of(element: etree._Element, *, apart: list[etree._Element] | None = None) -> str:
    """All visible text below an element on one line; with `apart`, lists below it are put there instead."""
    pieces: list[str] = []
    stack: list[etree._Element | str] = [element]
    while stack:  # not recursive: markup may be nested deeper than Python's stack
        node = stack.pop()
        if isinstance(node, str):
            pieces.append(node)
            continue
        tag = local_name(node).lower()
        if not tag or tag in _DROPPED or (node is not element and is_hidden(node)):
            continue
        if apart is not None and tag in (*_LISTS, "dl") and node is not element:
            apart.append(node)
            continue
        pad = " " if tag in _BLOCKS or tag in ("br", "img") else ""
        inner: list[etree._Element | str] = [
            pad,
            (node.get("alt") or "") if tag == "img" else (node.text or ""),
        ]
        for child in node:
            inner += [child, child.tail or ""]
        stack.extend(reversed([*inner, pad]))
    return one_line("".join(pieces))
