"""Presentations slide by slide: title, text, tables, diagrams, the text in pictures by OCR, and the speaker's
notes; a slide is a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from indexer.parsers.archives import DocumentArchive
from indexer.parsers.building import DocumentBuilder
from indexer.parsers.comments import people_of, slide_comments
from indexer.parsers.errors import ParseError
from indexer.parsers.normalise import one_line
from indexer.parsers.ooxml import (
    attribute,
    child,
    core_properties,
    descendants,
    main_part,
    picture_relations,
)
from indexer.parsers.options import ParseOptions
from indexer.parsers.pictures import DocumentPictures
from indexer.parsers.tabular import Row, add_table, drop_empty_columns
from indexer.parsers.xml import local_name
from indexer.types import ParsedDocument

if TYPE_CHECKING:
    from lxml import etree

_TITLES = frozenset({"title", "ctrTitle"})
_FURNITURE = frozenset({"sldNum", "dt", "ftr", "hdr", "sldImg"})
_MAX_DEPTH = 50  # groups within groups


def parse_pptx(
    data: bytes,
    *,
    name: str,
    options: ParseOptions,
    format: str,
    before_ocr_page: Callable[[], None] | None = None,
) -> ParsedDocument:
    """Read a presentation; every slide's heading is its title, or "Slide n"."""
    archive = DocumentArchive(data, name=name, options=options)
    part = main_part(archive, "ppt/presentation.xml")
    builder = DocumentBuilder(name=name, options=options)
    pictures = DocumentPictures(builder, before_ocr_page)
    for number, slide in enumerate(_slides(archive, part), start=1):
        _Slide(builder, archive, slide, number, pictures).add()
        _add_comments(builder, archive, part, slide, number)
    metadata = core_properties(archive)
    title = metadata.pop("title", "")
    return builder.build(
        format="pptx",
        parser="lxml",
        title="" if title.lower() in ("powerpoint presentation", "presentation") else title,
        metadata=metadata,
    )


def _slides(archive: DocumentArchive, part: str) -> Iterator[str]:
    """The members that hold slides, in the order of the show."""
    root, relations = archive.xml(part), archive.relations(part)
    for entry in descendants(root, "sldId") if root is not None else ():
        for key, value in entry.attrib.items():
            if key.endswith("}id") and value in relations and relations[value][1] in archive:
                yield relations[value][1]


def _add_comments(
    builder: DocumentBuilder, archive: DocumentArchive, part: str, slide: str, number: int
) -> None:
    try:
        lines = [comment.line for comment in slide_comments(archive, slide, people_of(archive, part))]
    except ParseError:
        builder.warn(f"The comments on slide {number} could not be read.")
    else:
        builder.add("text", "\n".join(lines), page=number, name=f"Comments on slide {number}")


class _Slide:
    """One slide, appended shape by shape."""

    def __init__(
        self,
        builder: DocumentBuilder,
        archive: DocumentArchive,
        part: str,
        number: int,
        pictures: DocumentPictures,
    ) -> None:
        self._builder = builder
        self._pictures = pictures
        self._archive = archive
        self._root = archive.xml(part)
        self._relations = archive.relations(part)
        self._number = number

    def add(self) -> None:
        tree = child(self._root, "cSld", "spTree")
        if tree is None:
            return
        shapes = list(_shapes(tree, _MAX_DEPTH))
        titles = [shape for shape in shapes if _placeholder(shape) in _TITLES and _text_of(shape)]
        title = " ".join(_text_of(shape) for shape in titles) or f"Slide {self._number}"
        before = len(self._builder.blocks)
        self._builder.heading(title, level=1, page=self._number)
        for shape in shapes:
            if shape not in titles and _placeholder(shape) not in _FURNITURE:
                self._shape(shape)
        self._notes()
        if len(self._builder.blocks) == before + 1 and not titles:
            self._builder.drop_last()  # a slide of pictures without text: its number is none

    def _shape(self, shape: etree._Element) -> None:
        table = next(descendants(shape, "tbl"), None)
        if table is not None:
            self._table(table)
        elif local_name(shape) == "graphicFrame":
            self._diagram(shape)
        else:
            self._paragraphs(child(shape, "txBody"))
        for relation in picture_relations(shape):
            _, member = self._relations.get(relation, ("", ""))
            self._pictures.add(self._archive.read, member, page=self._number)

    def _paragraphs(self, body: etree._Element | None) -> None:
        lines = list(_lines(body)) if body is not None else []
        is_list = len(lines) > 1
        text = "\n".join(f"{indent}- {line}" if is_list else line for indent, line in lines)
        self._builder.add("list" if is_list else "text", text, page=self._number)

    def _table(self, table: etree._Element) -> None:
        rows: list[Row] = []
        for tr in descendants(table, "tr"):
            cells = (cell for cell in tr if local_name(cell) == "tc")
            rows.append([" ".join(one_line(_run_text(p)) for p in descendants(cell, "p")) for cell in cells])
        add_table(self._builder, drop_empty_columns(rows), page=self._number, header=len(rows) > 1)

    def _diagram(self, shape: etree._Element) -> None:
        """SmartArt keeps its text in a part of its own, charts their titles and categories."""
        for element in shape.iter():
            for key, value in element.attrib.items():
                kind, target = self._relations.get(value, ("", ""))
                if key.endswith(("}dm", "}id")) and kind in ("diagramData", "chart"):
                    root = self._archive.xml(target)
                    texts = (
                        [one_line(_run_text(p)) for p in descendants(root, "p")] if root is not None else []
                    )
                    if root is not None and kind == "chart":
                        texts += [_value(cache) for cache in descendants(root, "strCache")]
                    texts = list(dict.fromkeys(filter(None, texts)))
                    self._builder.add("list", "\n".join(f"- {text}" for text in texts), page=self._number)

    def _notes(self) -> None:
        for kind, target in self._relations.values():
            root = self._archive.xml(target) if kind == "notesSlide" else None
            for shape in descendants(root, "sp") if root is not None else ():
                if _placeholder(shape) not in _FURNITURE:
                    text = "\n".join(line for _, line in _lines(shape))
                    self._builder.add("text", text, page=self._number, name=f"Notes of slide {self._number}")


def _shapes(parent: etree._Element, depth: int) -> Iterator[etree._Element]:
    """Shapes in drawing order, groups opened."""
    for element in parent:
        tag = local_name(element)
        if tag in ("grpSp", "AlternateContent", "Choice") and depth > 0:
            yield from _shapes(element, depth - 1)
        elif tag in ("sp", "pic", "graphicFrame"):
            yield element


def _placeholder(shape: etree._Element) -> str:
    mark = next(descendants(shape, "ph"), None)
    return (attribute(mark, "type") or "body") if mark is not None else ""


def _text_of(shape: etree._Element) -> str:
    return one_line(" ".join(_run_text(p) for p in descendants(shape, "p")))


def _lines(body: etree._Element) -> Iterator[tuple[str, str]]:
    """(indentation, text) of each paragraph that has text."""
    for paragraph in descendants(body, "p"):
        text = one_line(_run_text(paragraph))
        level = attribute(child(paragraph, "pPr"), "lvl") or "0"
        if text:
            yield "  " * (int(level) if level.isdecimal() and len(level) == 1 else 0), text


def _run_text(paragraph: etree._Element) -> str:
    pieces = []
    for element in paragraph.iter():
        tag = local_name(element)
        pieces.append((element.text or "") if tag == "t" else "\n" if tag == "br" else "")
    return "".join(pieces)


def _value(cache: etree._Element) -> str:
    return ", ".join(filter(None, (one_line(value.text or "") for value in descendants(cache, "v"))))
