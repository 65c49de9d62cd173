"""OpenDocument text, spreadsheets and presentations, with the text in their pictures by OCR."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from indexer.parsers.archives import DocumentArchive
from indexer.parsers.building import DocumentBuilder
from indexer.parsers.errors import EncryptedFile
from indexer.parsers.failures import file_title, malformed
from indexer.parsers.normalise import one_line
from indexer.parsers.ooxml import attribute, child, descendants
from indexer.parsers.options import ParseOptions
from indexer.parsers.pictures import DocumentPictures
from indexer.parsers.tabular import Row, add_sheet, add_table, drop_empty_columns
from indexer.parsers.xml import local_name
from indexer.types import ParsedDocument

if TYPE_CHECKING:
    from lxml import etree

_MAX_REPEATED = 100  # columns or rows that one element with text stands for
_MAX_DEPTH = 100
_SPACES = {"s": " ", "tab": "\t", "line-break": "\n"}
_LEFT_OUT = frozenset({"note", "annotation", "tracked-changes", "frame", "custom-shape", "ruby-text"})


def parse_opendocument(
    data: bytes,
    *,
    name: str,
    options: ParseOptions,
    format: str,
    before_ocr_page: Callable[[], None] | None = None,
) -> ParsedDocument:
    """Read an .odt, .ods or .odp file."""
    archive = DocumentArchive(data, name=name, options=options)
    if b"encryption-data" in archive.read("META-INF/manifest.xml"):
        raise EncryptedFile(f"{file_title(name)} is encrypted.", hint="Save a copy without a password.")
    body = child(archive.xml("content.xml"), "body")
    if body is None or not len(body):
        raise malformed(name, "an OpenDocument file", "it has no content")
    builder = DocumentBuilder(name=name, options=options)
    pictures = DocumentPictures(builder, before_ocr_page)
    walker = _Walker(builder, lambda member, page: pictures.add(archive.read, member, page=page))
    if format == "ods":
        for table in descendants(body, "table"):
            add_sheet(builder, attribute(table, "name") or "", _rows(table))
            walker.pictures(table)
    elif format == "odp":
        for number, page in enumerate(descendants(body, "page"), start=1):
            walker.slide(page, number)
    else:
        walker.walk(body[0], _MAX_DEPTH)
    metadata = _metadata(archive)
    return builder.build(format=format, parser="lxml", title=metadata.pop("title", ""), metadata=metadata)


class _Walker:
    """Appends text, lists, tables and what is anchored in them."""

    def __init__(self, builder: DocumentBuilder, add_picture: Callable[[str, int | None], None]) -> None:
        """`add_picture` appends the text in the picture that a member of the file is, on a page."""
        self._builder = builder
        self._add_picture = add_picture
        self._page: int | None = None

    def slide(self, page: etree._Element, number: int) -> None:
        """Append a slide, its title first, its notes last."""
        self._page = number
        frames = [element for element in page if local_name(element) != "notes"]
        titles = [frame for frame in frames if attribute(frame, "class") == "title"]
        title = " ".join(filter(None, (one_line(_text_of(frame)) for frame in titles)))
        before = len(self._builder.blocks)
        self._builder.heading(title or f"Slide {number}", level=1, page=number)
        for frame in frames:
            if frame not in titles:
                self._anchored(frame, _MAX_DEPTH)
        for notes in descendants(page, "notes"):
            for box in descendants(notes, "text-box"):
                self._builder.add("text", _text_of(box), page=number, name=f"Notes of slide {number}")
        if len(self._builder.blocks) == before + 1 and not title:
            self._builder.drop_last()

    def walk(self, parent: etree._Element, depth: int) -> None:
        """Append what is below an element that holds paragraphs."""
        if depth <= 0:
            return
        for element in parent:
            tag = local_name(element)
            if tag == "h":
                level = attribute(element, "outline-level") or "1"
                self._builder.heading(
                    _text_of(element), level=int(level) if level.isdecimal() else 1, page=self._page
                )
                self._anchored(element, depth)
            elif tag == "p":
                is_title = (attribute(element, "style-name") or "") == "Title"
                if is_title:
                    self._builder.heading(_text_of(element), level=1, page=self._page)
                else:
                    self._builder.add("text", _text_of(element), page=self._page)
                self._anchored(element, depth)
            elif tag == "list":
                self._builder.add("list", "\n".join(_list_lines(element, "", depth)), page=self._page)
                self.pictures(element)
            elif tag == "table":
                rows = drop_empty_columns([row for row in _rows(element) if any(row)])
                add_table(self._builder, rows, page=self._page, header=len(rows) > 1)
                self.pictures(element)
            elif tag not in _LEFT_OUT and tag not in ("sequence-decls", "forms", "table-of-content-source"):
                self.walk(element, depth - 1)

    def pictures(self, element: etree._Element) -> None:
        """Append the text in the pictures below an element; those that are elsewhere are not fetched."""
        for image in descendants(element, "image"):
            path = posixpath.normpath(attribute(image, "href") or "")
            self._add_picture(path, self._page)

    def _anchored(self, element: etree._Element, depth: int) -> None:
        """Text boxes, tables, notes, comments and pictures that stand within an element."""
        for inner in element.iter():
            tag = local_name(inner)
            if tag in ("text-box", "custom-shape"):
                self.walk(inner, depth - 1)
            elif tag == "table" and inner is not element:
                rows = drop_empty_columns([row for row in _rows(inner) if any(row)])
                add_table(self._builder, rows, page=self._page, header=len(rows) > 1)
            elif tag == "note":
                self._builder.add(
                    "text", _text_of(inner), page=self._page, name=attribute(inner, "note-class") or "note"
                )
            elif tag == "annotation":
                self._builder.add("text", _text_of(inner), page=self._page, name="comment")
        self.pictures(element)


def _text_of(element: etree._Element) -> str:
    """The text of an element, paragraphs on lines of their own, without what is anchored in it."""
    pieces: list[str] = [element.text or ""]
    stack = [iter(element)]
    tails = [""]
    while stack:
        inner = next(stack[-1], None)
        if inner is None:
            stack.pop()
            pieces.append(tails.pop())
            continue
        tag = local_name(inner)
        if tag in _SPACES:
            count = attribute(inner, "c") or "1"
            pieces.append(_SPACES[tag] * (int(count) if count.isdecimal() and len(count) < 4 else 1))
            pieces.append(inner.tail or "")
        elif tag in _LEFT_OUT or not tag or len(stack) > _MAX_DEPTH:
            pieces.append(inner.tail or "")
        else:
            pieces.append(inner.text or "")
            stack.append(iter(inner))
            tails.append(("\n" if tag in ("p", "h") else "") + (inner.tail or ""))
    return "\n".join(filter(None, (one_line(line) for line in "".join(pieces).split("\n"))))


def _list_lines(element: etree._Element, indent: str, depth: int) -> Iterator[str]:
    for item in element:
        for inner in item:
            tag = local_name(inner)
            if tag == "list" and depth > 0:
                yield from _list_lines(inner, indent + "  ", depth - 1)
            elif tag in ("p", "h") and (text := one_line(_text_of(inner))):
                yield f"{indent}- {text}"


def _rows(table: etree._Element) -> Iterator[Row]:
    """Rows of cells; what is repeated a million times is blank, text is repeated within bounds."""
    for element in descendants(table, "table-row"):
        if next((a for a in element.iterancestors() if local_name(a) == "table"), None) is not table:
            continue  # of a table within a cell, whose text is the cell's
        row: list[str] = []
        for cell in element:
            if local_name(cell) in ("table-cell", "covered-table-cell"):
                text = one_line(_text_of(cell))
                row.extend([text] * _repeated(cell, "number-columns-repeated"))
        while row and not row[-1]:
            row.pop()
        for _ in range(_repeated(element, "number-rows-repeated") if row else 1):
            yield row


def _repeated(element: etree._Element, name: str) -> int:
    value = attribute(element, name) or "1"
    return min(_MAX_REPEATED, int(value)) if value.isdecimal() and len(value) < 9 else 1


def _metadata(archive: DocumentArchive) -> dict[str, str]:
    root = archive.xml("meta.xml")
    names = {"title": "title", "creator": "author", "subject": "subject", "creation-date": "created"}
    elements = root.iter("{*}*") if root is not None else ()
    return {
        names[tag]: (element.text or "").strip()
        for element in elements
        if (tag := local_name(element)) in names
    }
