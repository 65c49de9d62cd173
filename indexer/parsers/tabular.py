"""Rows of cells as Markdown that is understandable in pieces: every block of rows repeats the header."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from indexer.parsers.building import DocumentBuilder
from indexer.parsers.normalise import normalise_text, one_line

_BLOCK_CHARACTERS = 800  # about one chunk of a 256-token embedder
_WIDE_HEADER = 300  # characters; wider tables become records of "column: value" lines
_MAX_COLUMNS = 500
_MOST_CAPTIONS = 5

Row = Sequence[str]


def add_table(
    builder: DocumentBuilder,
    rows: Iterable[Row],
    *,
    title: str = "",
    page: int | None = None,
    header: bool = True,
) -> int:
    """Append table blocks; the first row names the columns if `header`. Returns how many rows had text.

    At most `options.max_table_rows` rows are kept, the rest are dropped with a warning.
    """
    bounded = _bounded(builder, rows, title)
    if header:
        captions, columns, first_rows = _take_header(bounded)
        for caption in captions:
            builder.add("text", caption, page=page)
        bounded = itertools.chain(first_rows, bounded)
    else:
        columns = []
    head = _row_line(columns)
    if len(head) > _WIDE_HEADER:
        return _add_records(builder, columns, bounded, title=title, page=page)
    rule = " | ".join(["---"] * len(columns))
    # Only the first block has the rule: what the others need of the header are its words.
    block, num_rows = [head, rule] if columns else [], 0
    size = num_head_lines = len(block)
    for row in bounded:
        line = _row_line(row)
        if size + len(line) > _BLOCK_CHARACTERS and len(block) > num_head_lines:
            builder.add("table", "\n".join(block), name=title, page=page)
            block = [head] if columns else []
            size, num_head_lines = len(head), len(block)
        block.append(line)
        size += len(line) + 1
        num_rows += 1
    builder.add("table", "\n".join(block), name=title, page=page)
    return num_rows + bool(columns)


def add_sheet(builder: DocumentBuilder, title: str, rows: Iterable[Row]) -> None:
    """Append a sheet under its title: a sheet may hold several tables with blank rows between them."""
    heading_at = len(builder.blocks)
    builder.heading(title or "Sheet", level=1)
    for is_blank, group in itertools.groupby(rows, key=lambda row: not any(cell.strip() for cell in row)):
        if not is_blank:
            add_table(builder, _from_first_column(group), title=title)
    if len(builder.blocks) == heading_at + 1:
        builder.drop_last()


def _from_first_column(rows: Iterator[Row]) -> Iterator[Row]:
    """Rows without the columns that are blank at the left of the first row."""
    first = next(rows, [])
    offset = next((i for i, cell in enumerate(first) if cell.strip()), 0)
    for row in itertools.chain([first], rows):
        left = next((i for i, cell in enumerate(row) if cell.strip()), 0)
        yield row[min(offset, left) :]


def _take_header(rows: Iterator[Row]) -> tuple[list[str], Row, list[Row]]:
    """Captions (single cells above a wider table), the row that names the columns, and rows taken in vain."""
    taken: list[Row] = []
    for row in rows:
        taken.append(row)
        if len(row) > 1 or len(taken) > _MOST_CAPTIONS:
            break
    captions, last = taken[:-1], taken[-1] if taken else []
    if len(last) < 2:
        return [], [], taken  # one column: nothing to name
    texts = [_row_line(row) for row in captions]
    return (texts, last, []) if names_columns(last) else (texts, [], [last])


def names_columns(row: Row) -> bool:
    """Whether a table's first row is its header: more than one cell, and not mostly numbers."""
    return len(row) > 1 and sum(map(_is_number, row)) * 2 <= len(row)


def _is_number(cell: str) -> bool:
    digits = sum(character.isdecimal() for character in cell)
    return digits > 0 and digits * 2 >= len(cell.replace(" ", ""))


def _add_records(
    builder: DocumentBuilder, columns: Row, rows: Iterator[Row], *, title: str, page: int | None
) -> int:
    """A block a row, with the column's name before each value."""
    num_rows = 1
    for row in rows:
        pairs = ((columns[i] if i < len(columns) else "", cell) for i, cell in enumerate(row))
        lines = [f"{column}: {cell}" if column else cell for column, cell in pairs if cell]
        builder.add("table", "\n".join(lines), name=title, page=page)
        num_rows += 1
    if num_rows == 1:
        builder.add("table", _row_line(columns), name=title, page=page)
    return num_rows


def _bounded(builder: DocumentBuilder, rows: Iterable[Row], title: str) -> Iterator[Row]:
    """Cleaned rows that have text, up to the limits."""
    num_rows, limit = 0, builder.options.max_table_rows
    what = f"Table {title!r}" if title else "A table"
    for row in rows:
        cells = [clean_cell(cell) for cell in row[:_MAX_COLUMNS]]
        if any(cell.strip() for cell in row[_MAX_COLUMNS:]):
            builder.warn(f"{what} was cut after {_MAX_COLUMNS} columns.")
        while cells and not cells[-1]:
            cells.pop()
        if not cells:
            continue
        if num_rows == limit:
            builder.warn(f"{what} was cut after {limit:,} rows; raise parsing.max_table_rows to keep more.")
            return
        num_rows += 1
        yield cells


def clean_cell(cell: str) -> str:
    """A cell's text on one line, with the mark that separates cells escaped."""
    return one_line(normalise_text(cell)).replace("|", "\\|")


def _row_line(cells: Row) -> str:
    return " | ".join(cells)


def drop_empty_columns(rows: Sequence[Row]) -> list[list[str]]:
    """The rows without the columns in which no row has text."""
    width = max(map(len, rows), default=0)
    used = [any(i < len(row) and row[i].strip() for row in rows) for i in range(width)]
    return [[cell for cell, keep in zip(row, used, strict=False) if keep] for row in rows]
