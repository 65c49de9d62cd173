"""Word documents: headings by outline level, lists with their marks, tables, text boxes, notes, comments, and
the text in pictures by OCR."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from indexer.parsers.archives import DocumentArchive
from indexer.parsers.building import DocumentBuilder
from indexer.parsers.docx_numbering import Numbering
from indexer.parsers.normalise import one_line
from indexer.parsers.omml import latex
from indexer.parsers.ooxml import (
    attribute,
    child,
    core_properties,
    descendants,
    main_part,
    picture_relations,
)
from indexer.parsers.options import ParseOptions
from indexer.parsers.pictures import DocumentPictures, PictureText
from indexer.parsers.tabular import Row, add_table, drop_empty_columns
from indexer.parsers.xml import local_name
from indexer.types import BlockKind, ParsedDocument

if TYPE_CHECKING:
    from lxml import etree

_HEADING_STYLE = re.compile(r"heading (\d)$")
_CODE_STYLE = re.compile(r"code|source|preformatted|macro|verbatim", re.IGNORECASE)
_BREAKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}
_LEFT_OUT = frozenset(
    {"txbxContent", "del", "moveFrom", "instrText", "delText", "pPr", "rPr", "Fallback", "rt"}
)
_MAX_SPAN = 60  # columns


class _Style(NamedTuple):
    """A paragraph style with what it inherits."""

    name: str
    based_on: str
    outline_level: int | None  # from 0; 9 is text
    numbering: str | None
    indent: int


class _Item(NamedTuple):
    """A paragraph that waits for its neighbours of the same kind."""

    kind: BlockKind
    text: str
    page: int | None


def parse_docx(
    data: bytes,
    *,
    name: str,
    options: ParseOptions,
    format: str,
    before_ocr_page: Callable[[], None] | None = None,
) -> ParsedDocument:
    """Read a Word document of either OOXML variant."""
    archive = DocumentArchive(data, name=name, options=options)
    part = main_part(archive, "word/document.xml")
    root = archive.xml(part)
    builder = DocumentBuilder(name=name, options=options)
    relations = archive.relations(part)
    parts = dict(relations.values())
    numbering = Numbering(archive.xml(parts.get("numbering") or "word/numbering.xml"))
    pictures = DocumentPictures(builder, before_ocr_page)

    def read_picture(relation: str) -> list[PictureText]:
        _, member = relations.get(relation, ("", ""))
        return pictures.read(archive.read, member)

    styles = _Styles(archive.xml(parts.get("styles") or "word/styles.xml"))
    walker = _Walker(builder, styles, numbering, read_picture)
    body = child(root, "body")
    if body is not None:
        walker.has_page_marks = next(descendants(body, "lastRenderedPageBreak"), None) is not None
        walker.walk(body)
        walker.flush()
    for kind in ("footnotes", "endnotes", "comments"):
        _add_notes(builder, archive, parts.get(kind), kind)
    _add_margins(
        builder, archive, [target for kind, target in relations.values() if kind in ("header", "footer")]
    )
    metadata = core_properties(archive)
    return builder.build(format="docx", parser="lxml", title=metadata.pop("title", ""), metadata=metadata)


class _Walker:
    """Appends the blocks of a body in order."""

    def __init__(
        self,
        builder: DocumentBuilder,
        styles: Mapping[str, _Style],
        numbering: Numbering,
        read_picture: Callable[[str], list[PictureText]],
    ) -> None:
        """`read_picture` gives the text in the picture that a relation leads to."""
        self._builder = builder
        self._read_picture = read_picture
        self._styles = styles
        self._numbering = numbering
        self._waiting: list[_Item] = []
        self._page = 1
        self.has_page_marks = False

    def walk(self, parent: etree._Element) -> None:
        """Append what is below an element that holds paragraphs and tables."""
        for element in parent:
            tag = local_name(element)
            if tag == "p":
                self._paragraph(element)
            elif tag == "tbl":
                self._table(element)
            elif tag == "AlternateContent":
                choice = child(element, "Choice")
                self.walk(choice if choice is not None else element)
            elif tag in ("sdt", "sdtContent", "ins", "moveTo", "customXml", "smartTag"):
                self.walk(element)

    def flush(self) -> None:
        """Append the paragraphs that waited for more of their kind."""
        if self._waiting:
            kind, page = self._waiting[0].kind, self._waiting[0].page
            self._builder.add(kind, "\n".join(item.text for item in self._waiting), page=page)
            self._waiting.clear()

    def _paragraph(self, paragraph: etree._Element) -> None:
        if self.has_page_marks:
            self._page += sum(1 for _ in descendants(paragraph, "lastRenderedPageBreak"))
        page = self._page if self.has_page_marks else None
        text = paragraph_text(paragraph)
        if text.strip():
            properties = child(paragraph, "pPr")
            style = attribute(child(properties, "pStyle"), "val") or ""
            level = self._heading_level(properties, style)
            if level is not None:
                self.flush()
                number = self._numbering.mark(*self._list_of(properties, style))
                self._builder.heading(f"{number} {text}", level=level, page=page)
            else:
                self._add(self._item(properties, style, text, page))
        self._text_boxes(paragraph)
        self._pictures(paragraph, page)

    def _add(self, item: _Item) -> None:
        """Lists and code gather their lines in one block; other paragraphs stand alone."""
        if self._waiting and (item.kind == "text" or item.kind != self._waiting[0].kind):
            self.flush()
        self._waiting.append(item)
        if item.kind == "text":
            self.flush()

    def _item(self, properties: etree._Element | None, style: str, text: str, page: int | None) -> _Item:
        if _CODE_STYLE.search(self._styles[style].name if style in self._styles else style):
            return _Item("code", text.rstrip(), page)
        list_id, depth = self._list_of(properties, style)
        if not list_id or list_id == "0":
            return _Item("text", text.strip(), page)
        mark = self._numbering.mark(list_id, depth) or "-"
        return _Item("list", f"{'  ' * min(depth, 8)}{mark} {one_line(text)}", page)

    def _list_of(self, properties: etree._Element | None, style: str) -> tuple[str, int]:
        """The list that a paragraph is part of, "" for none, and its depth there."""
        numbering = child(properties, "numPr")
        list_id = attribute(child(numbering, "numId"), "val") or self._inherited_numbering(style) or ""
        depth = attribute(child(numbering, "ilvl"), "val") or ""
        return list_id, int(depth) if depth.isdecimal() else self._styles.get(style, _NO_STYLE).indent

    def _heading_level(self, properties: etree._Element | None, style: str) -> int | None:
        value = attribute(child(properties, "outlineLvl"), "val")
        if value is not None and value.isdecimal():
            return int(value) + 1 if int(value) < 9 else None
        for ancestor in self._style_chain(style):
            name = ancestor.name.lower()
            match = _HEADING_STYLE.match(name)
            if match is not None:
                return int(match.group(1))
            if name == "title":
                return 1
            if ancestor.outline_level is not None:
                return ancestor.outline_level + 1 if ancestor.outline_level < 9 else None
        return None

    def _inherited_numbering(self, style: str) -> str | None:
        return next((ancestor.numbering for ancestor in self._style_chain(style) if ancestor.numbering), None)

    def _style_chain(self, style: str) -> Iterator[_Style]:
        for _ in range(20):  # styles may be based on each other in a circle
            if style not in self._styles:
                return
            yield self._styles[style]
            style = self._styles[style].based_on

    def _text_boxes(self, paragraph: etree._Element) -> None:
        for box in descendants(paragraph, "txbxContent"):
            if all(
                local_name(ancestor) not in ("Fallback", "txbxContent") for ancestor in box.iterancestors()
            ):
                self.flush()
                self.walk(box)

    def _pictures(self, element: etree._Element, page: int | None) -> None:
        """The text in the pictures below an element."""
        for relation in picture_relations(element):
            found = self._read_picture(relation)
            if found:
                self.flush()
            for kind, text in found:
                self._builder.add(kind, text, page=page)

    def _table(self, table: etree._Element) -> None:
        self.flush()
        rows = drop_empty_columns([row for row in _table_rows(table) if any(cell.strip() for cell in row)])
        page = self._page if self.has_page_marks else None
        if max(map(len, rows), default=0) > 1:
            add_table(self._builder, rows, page=page, header=len(rows) > 1)
            self._pictures(table, page)
        else:  # a frame around text
            for cell in descendants(table, "tc"):
                if next((a for a in cell.iterancestors() if local_name(a) == "tbl"), None) is table:
                    self.walk(cell)
                    self.flush()
        if self.has_page_marks and rows:
            self._page += sum(1 for _ in descendants(table, "lastRenderedPageBreak"))
            if max(map(len, rows)) <= 1:
                self._page -= sum(1 for _ in descendants(table, "lastRenderedPageBreak"))


_NO_STYLE = _Style("", "", None, None, 0)


def paragraph_text(element: etree._Element) -> str:
    """The text of a paragraph as it stands: without deleted text, field codes and anchored text boxes."""
    pieces: list[str] = []
    stack = [iter(element)]
    while stack:
        inner = next(stack[-1], None)
        if inner is None:
            stack.pop()
            continue
        tag = local_name(inner)
        if tag == "t":
            pieces.append(inner.text or "")
        elif tag == "oMath":
            pieces.append(f"${latex(inner)}$")
        elif tag in _BREAKS:
            pieces.append("" if attribute(inner, "type") == "page" else _BREAKS[tag])
        elif tag in ("footnoteReference", "endnoteReference"):
            pieces.append(f"[{attribute(inner, 'id') or ''}]")
        elif tag == "checked" or tag == "checkBox":
            pieces.append("")
        elif tag and tag not in _LEFT_OUT and len(stack) < 100:
            stack.append(iter(inner))
    return "".join(pieces)


def _table_rows(table: etree._Element) -> Iterator[Row]:
    """A table's own rows; cells merged downwards are repeated, cells merged sideways leave blanks."""
    above: list[str] = []
    for tr in _own(table, "tr"):
        row: list[str] = []
        for tc in _own(tr, "tc"):
            properties = child(tc, "tcPr")
            merge = child(properties, "vMerge")
            text = " ".join(one_line(paragraph_text(p)) for p in descendants(tc, "p"))
            if merge is not None and attribute(merge, "val") != "restart" and len(row) < len(above):
                text = above[len(row)]
            span = attribute(child(properties, "gridSpan"), "val") or "1"
            blanks = min(int(span), _MAX_SPAN) - 1 if span.isdecimal() else 0
            row.extend([text.strip(), *[""] * blanks])
        above = row
        yield row


def _own(parent: etree._Element, name: str) -> Iterator[etree._Element]:
    """Children of a name, looking through content controls."""
    for element in parent:
        tag = local_name(element)
        if tag == name:
            yield element
        elif tag in ("sdt", "sdtContent", "customXml", "ins"):
            yield from _own(element, name)


class _Styles(Mapping[str, _Style]):
    """The styles of a document by their ids, each read when first asked for: of hundreds, few are used."""

    def __init__(self, root: etree._Element | None) -> None:
        elements = root.iterchildren("{*}style") if root is not None else ()
        self._elements = {attribute(element, "styleId") or "": element for element in elements}
        self._read: dict[str, _Style] = {}

    def __getitem__(self, style: str) -> _Style:
        if style not in self._read:
            self._read[style] = _read_style(self._elements[style])
        return self._read[style]

    def __iter__(self) -> Iterator[str]:
        return iter(self._elements)

    def __len__(self) -> int:
        return len(self._elements)


def _read_style(element: etree._Element) -> _Style:
    properties = child(element, "pPr")
    level = attribute(child(properties, "outlineLvl"), "val") or ""
    indent = attribute(child(properties, "numPr", "ilvl"), "val") or ""
    return _Style(
        attribute(child(element, "name"), "val") or "",
        attribute(child(element, "basedOn"), "val") or "",
        int(level) if level.isdecimal() else None,
        attribute(child(properties, "numPr", "numId"), "val"),
        int(indent) if indent.isdecimal() else 0,
    )


def _add_notes(builder: DocumentBuilder, archive: DocumentArchive, part: str | None, kind: str) -> None:
    root = archive.xml(part) if part else None
    for note in root if root is not None else ():
        if attribute(note, "type") in ("separator", "continuationSeparator", "continuationNotice"):
            continue
        text = " ".join(filter(None, (one_line(paragraph_text(p)) for p in descendants(note, "p"))))
        if not text:
            continue
        author = attribute(note, "author")
        head = (
            f"Comment by {author}: " if kind == "comments" and author else f"[{attribute(note, 'id') or ''}] "
        )
        builder.add("text", f"{head}{text}", name=kind)


def _add_margins(builder: DocumentBuilder, archive: DocumentArchive, parts: list[str]) -> None:
    """Headers and footers, each text once: they repeat on every page."""
    seen: set[str] = set()
    for part in sorted(set(parts)):
        root = archive.xml(part)
        for paragraph in descendants(root, "p") if root is not None else ():
            text = one_line(paragraph_text(paragraph))
            if text and text not in seen and not text.isdecimal():
                seen.add(text)
                builder.add("text", text, name="header or footer")
