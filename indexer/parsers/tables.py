"""Tables that are files: delimited text with its dialect found out, and Excel workbooks sheet by sheet."""

from __future__ import annotations

import csv
import datetime
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from indexer.parsers.archives import DocumentArchive
from indexer.parsers.building import DocumentBuilder
from indexer.parsers.comments import people_of, sheet_comments
from indexer.parsers.errors import ParseError
from indexer.parsers.failures import malformed
from indexer.parsers.ooxml import (
    attribute,
    core_properties,
    descendants,
    main_part,
    picture_relations,
)
from indexer.parsers.options import ParseOptions
from indexer.parsers.pictures import DocumentPictures, PictureText
from indexer.parsers.source import read_source
from indexer.parsers.tabular import Row, add_sheet, add_table
from indexer.types import ParsedDocument

_DELIMITERS = ",;\t|"
_SAMPLE_LINES = 60
_LONGEST_FIELD = 10_000_000  # characters
_MAX_EMPTY_ROWS = 10_000  # in a row, after which a sheet is over: some claim a million


def parse_delimited(data: bytes, *, name: str, options: ParseOptions, format: str) -> ParsedDocument:
    """Read values parted by commas, semicolons, tabs or bars; the first row names the columns if it can."""
    text, warnings = read_source(data, name=name, options=options)
    builder = DocumentBuilder(name=name, options=options)
    for warning in warnings:
        builder.warn(warning)
    delimiter = find_delimiter(text, default="\t" if format == "tsv" else ",")
    previous = csv.field_size_limit(_LONGEST_FIELD)
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        add_table(builder, rows, header=True)
    except csv.Error as error:
        raise malformed(name, "a table", str(error)) from error
    finally:
        csv.field_size_limit(previous)
    return builder.build(format=format, parser="csv")


def find_delimiter(text: str, *, default: str) -> str:
    """The character that cuts most of the first lines into the same number of fields, at least two."""
    sample = "\n".join(text.split("\n", _SAMPLE_LINES)[:_SAMPLE_LINES])[:100_000]
    best, best_score = default, (0.0, 0)
    for delimiter in _DELIMITERS:
        try:
            widths = [len(row) for row in csv.reader(io.StringIO(sample), delimiter=delimiter) if any(row)]
        except csv.Error:
            continue
        (width, count), *_ = Counter(widths).most_common(1) or [(0, 0)]
        score = (count / max(1, len(widths)), width)
        if width > 1 and (score > best_score or (delimiter == default and score[0] >= best_score[0])):
            best, best_score = delimiter, score
    return best


def parse_workbook(
    data: bytes,
    *,
    name: str,
    options: ParseOptions,
    format: str,
    before_ocr_page: Callable[[], None] | None = None,
) -> ParsedDocument:
    """Read an Excel workbook: values as last calculated, or formulas where there are none.

    What is written on a sheet's pictures follows its cells.
    """
    archive = DocumentArchive(data, name=name, options=options)  # checks what it would unpack to
    builder = DocumentBuilder(name=name, options=options)
    sheets = _sheet_members(archive, builder)
    beside = _BesideCells(
        _comments(archive, sheets, builder),
        _drawn(archive, sheets, builder),
        archive,
        DocumentPictures(builder, before_ocr_page),
    )
    _add_sheets(builder, data, beside, values=True)
    if builder.is_empty:
        _add_sheets(builder, data, beside, values=False)
    metadata = core_properties(archive)
    return builder.build(
        format="xlsx",
        parser="openpyxl",
        title=metadata.pop("title", ""),
        metadata=metadata,
    )


class _BesideCells(NamedTuple):
    """What belongs to sheets, by their titles, and is not in their cells.

    openpyxl gives none of it where it reads row by row.
    """

    comments: Mapping[str, list[str]]  # lines
    drawn: Mapping[str, list[str]]  # members that are pictures
    archive: DocumentArchive
    pictures: DocumentPictures

    def add(self, builder: DocumentBuilder, title: str, *, has_cells: bool) -> None:
        """Append it; comments only below cells, pictures also on a sheet that has nothing else."""
        if has_cells:
            lines = self.comments.get(title, ())
            builder.add("text", "\n".join(lines), name=f"Comments on {title}")
        said = [text for member in self.drawn.get(title, ()) for text in self._read(member)]
        if said and not has_cells:
            builder.heading(title or "Sheet", level=1)
        for kind, text in said:
            builder.add(kind, text, name=title)

    def _read(self, member: str) -> list[PictureText]:
        return self.pictures.read(self.archive.read, member)


def _sheet_members(archive: DocumentArchive, builder: DocumentBuilder) -> dict[str, str]:
    """The members that hold the sheets, by their titles."""
    try:
        part = main_part(archive, "xl/workbook.xml")
        root, relations = archive.xml(part), archive.relations(part)
    except ParseError:
        builder.warn("The comments and pictures on its sheets could not be read.")
        return {}
    return {
        attribute(sheet, "name") or "": relations.get(attribute(sheet, "id") or "", ("", ""))[1]
        for sheet in (descendants(root, "sheet") if root is not None else ())
    }


def _comments(
    archive: DocumentArchive, sheets: Mapping[str, str], builder: DocumentBuilder
) -> dict[str, list[str]]:
    """Lines of comments by the title of the sheet."""
    try:
        people = people_of(archive, main_part(archive, "xl/workbook.xml"))
        return {
            title: [comment.line for comment in sheet_comments(archive, member, people)] if member else []
            for title, member in sheets.items()
        }
    except ParseError:
        builder.warn("The comments on its cells could not be read.")
        return {}


def _drawn(
    archive: DocumentArchive, sheets: Mapping[str, str], builder: DocumentBuilder
) -> dict[str, list[str]]:
    """The members that are the pictures on a sheet, by its title."""
    try:
        return {title: list(_pictures_on(archive, member)) for title, member in sheets.items() if member}
    except ParseError:
        builder.warn("The pictures on its sheets could not be read.")
        return {}


def _pictures_on(archive: DocumentArchive, sheet: str) -> Iterator[str]:
    for kind, drawing in archive.relations(sheet).values():
        root = archive.xml(drawing) if kind == "drawing" else None
        if root is not None:
            relations = archive.relations(drawing)
            yield from (relations.get(each, ("", ""))[1] for each in picture_relations(root))


def _add_sheets(builder: DocumentBuilder, data: bytes, beside: _BesideCells, *, values: bool) -> None:
    import warnings
    from zipfile import BadZipFile

    from openpyxl import load_workbook

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about features that would be lost on saving
        try:
            workbook = load_workbook(io.BytesIO(data), read_only=True, data_only=values, keep_links=False)
            try:
                for sheet in workbook.worksheets:
                    sheet.reset_dimensions()  # what the file claims about them is often wrong
                    before = len(builder.blocks)
                    add_sheet(
                        builder, sheet.title, _cells(builder, sheet.title, sheet.iter_rows(values_only=True))
                    )
                    beside.add(builder, sheet.title, has_cells=len(builder.blocks) > before)
            finally:
                workbook.close()
        except (
            BadZipFile,
            KeyError,
            ValueError,
            TypeError,
            AttributeError,
            IndexError,
            OSError,
            SyntaxError,
        ) as error:
            raise malformed(builder.name, "a workbook", str(error)[:100]) from error


def _cells(builder: DocumentBuilder, title: str, rows: Iterable[tuple[object, ...]]) -> Iterator[Row]:
    num_empty = 0
    for row in rows:
        cells = [_cell_text(value) for value in row]
        num_empty = 0 if any(cells) else num_empty + 1
        if num_empty > _MAX_EMPTY_ROWS:
            builder.warn(f"What stands on sheet {title!r} below {_MAX_EMPTY_ROWS:,} blank rows was not read.")
            return
        yield cells


def _cell_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, datetime.datetime):
        return (
            value.date().isoformat()
            if value.time() == datetime.time()
            else value.isoformat(sep=" ", timespec="seconds")
        )
    return str(value)
