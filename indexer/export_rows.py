"""The rows of an export as they lie in a file: here as JSON Lines, in parquet_rows.py as Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Protocol

from indexer.errors import InvalidExport
from indexer.storage_errors import os_errors_translated

# Longer than any line of an export: the text of a document is limited, and so are its lines.
MAX_LINE_BYTES = 256 << 20
ASK_FOR_ANOTHER = "Nothing was imported. Export the index again, or correct the line."

Row = dict[str, Any]


class RowSource(Protocol):
    """A file whose rows can be read again and again. Raises InvalidExport at what is not one."""

    @property
    def place(self) -> str:
        """The row that was read last, in words: "line 3"."""
        ...

    def __iter__(self) -> Iterator[Row]:
        """The header, then all other rows, from the start."""
        ...


def invalid(path: Path, place: str, message: str) -> InvalidExport:
    """The error that says where a file is wrong."""
    return InvalidExport(f"{path}, {place}: {message}", hint=ASK_FOR_ANOTHER)


def open_rows(path: Path) -> RowSource:
    """The rows of a file in either form, which it says in its first bytes."""
    from indexer.parquet_rows import MAGIC, ParquetRows

    with os_errors_translated(path), path.open("rb") as file:
        is_parquet = file.read(len(MAGIC)) == MAGIC
    return ParquetRows(path) if is_parquet else JsonLines(path)


def write_json_lines(file: BinaryIO, header: Row, rows: Iterable[Row]) -> None:
    """One object a line, in UTF-8."""
    file.write(_line(header))
    for row in rows:
        file.write(_line(row))


class JsonLines:
    """A file of JSON Lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = 0

    @property
    def place(self) -> str:
        """The line that was read last."""
        return f"line {self._number}"

    def __iter__(self) -> Iterator[Row]:
        """The lines, from the start."""
        self._number = 0
        with os_errors_translated(self._path), self._path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                self._number += 1
                if len(line) > MAX_LINE_BYTES:
                    self._fail(f"The line is longer than {MAX_LINE_BYTES:,} bytes.")
                try:
                    values = json.loads(line, parse_constant=_no_number)
                except (ValueError, RecursionError) as error:
                    self._fail(f"The line is not JSON ({error}).")
                if not isinstance(values, dict):
                    self._fail("The line is not a JSON object.")
                yield values

    def _fail(self, message: str) -> NoReturn:
        raise invalid(self._path, self.place, message)


def _line(row: Row) -> bytes:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
