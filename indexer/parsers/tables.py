"""Tables that are files: delimited text with its dialect found out, and Excel workbooks sheet by sheet."""

from __future__ import annotations

import csv
import datetime
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from indexer.parsers.archives import DocumentArchive
from indexer.parsers.building import DocumentBuilder
from indexer.parsers.comments import people_of, sheet_comments
from indexer.parsers.errors import ParseError
from indexer.parsers.failures import malformed
from indexer.parsers.ooxml import attribute, core_properties, descendants, main_part
from indexer.parsers.options import ParseOptions
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


def parse_workbook(data: bytes, *, name: str, options: ParseOptions, format: str) -> ParsedDocument:
    """Read an Excel workbook: values as last calculated, or formulas where there are none."""
    archive = DocumentArchive(data, name=name, options=options)  # checks what it would unpack to
    builder = DocumentBuilder(name=name, options=options)
    comments = _comments(archive, builder)
    _add_sheets(builder, data, comments, values=True)
    if builder.is_empty:
        _add_sheets(builder, data, comments, values=False)
    metadata = core_properties(archive)
    return builder.build(
        format="xlsx",
        parser="openpyxl",
        title=metadata.pop("title", ""),
        metadata=metadata,
    )


def _comments(archive: DocumentArchive, builder: DocumentBuilder) -> dict[str, list[str]]:
    """Lines of comments by the name of the sheet: openpyxl gives none where it reads row by row."""
    try:
        part = main_part(archive, "xl/workbook.xml")
        root, relations = archive.xml(part), archive.relations(part)
        people = people_of(archive, part)
        found: dict[str, list[str]] = {}
        for sheet in descendants(root, "sheet") if root is not None else ():
            _, member = relations.get(attribute(sheet, "id") or "", ("", ""))
            comments = sheet_comments(archive, member, people) if member else ()
            found[attribute(sheet, "name") or ""] = [comment.line for comment in comments]
    except ParseError:
        builder.warn("The comments on its cells could not be read.")
        return {}
    return found


def _add_sheets(
    builder: DocumentBuilder, data: bytes, comments: Mapping[str, list[str]], *, values: bool
) -> None:
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
                    add_sheet(builder, sheet.title, _cells(sheet.iter_rows(values_only=True)))
                    if len(builder.blocks) > before:
                        lines = comments.get(sheet.title, ())
                        builder.add("text", "\n".join(lines), name=f"Comments on {sheet.title}")
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


def _cells(rows: Iterable[tuple[object, ...]]) -> Iterator[Row]:
    num_empty = 0
    for row in rows:
        cells = [_cell_text(value) for value in row]
        num_empty = 0 if any(cells) else num_empty + 1
        if num_empty > _MAX_EMPTY_ROWS:
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
