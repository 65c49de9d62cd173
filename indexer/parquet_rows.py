"""The rows of an export as a Parquet file, for pandas, DuckDB, Spark and whatever else reads tables.

There is a row for every document, chunk and file, with the columns that the fields of JSON Lines have; what a
type of row does not have is null. The header is metadata of the file. Vectors are float32, of one length.

A file to import may have been made to do harm. Parquet allows a few bytes to stand for gigabytes: what is
packed, and what is repeated. So the sizes that the file declares are bounded before anything is unpacked, and
encodings that repeat values, which an export does not use, are refused. Pages that are not what the file
declares are beyond what can be seen from here: their lists may take much memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from indexer.errors import ParquetMissing
from indexer.export_rows import Row, invalid
from indexer.storage_errors import from_os

if TYPE_CHECKING:
    import pyarrow

MAGIC = b"PAR1"
_HEADER_KEY = b"ragserve"
_GROUP_ROWS = 1024
_GROUP_CHARACTERS = 16_000_000  # of texts, after which a group of rows is closed
_MAX_GROUP_ROWS = 65_536
_MAX_GROUP_BYTES = 1 << 30  # unpacked; a document's text is limited, and a group holds few large ones
_MAX_COLUMN_VALUES = 1 << 26  # of a column in a group, those in lists counted one by one
_MAX_FOOTER_BYTES = 64 << 20
_MAX_DIMENSION = 65_536
_BATCH_ROWS = 64
_ENCODINGS = frozenset({"PLAIN", "RLE", "BIT_PACKED"})  # RLE is how nulls and lists are told, never values
_BOX = ("page", "x0", "y0", "x1", "y1")


def write_parquet(file: BinaryIO, header: Row, rows: Iterable[Row], *, dimension: int | None) -> None:
    """Write the rows in groups of bounded size. With a dimension there is a column of vectors.

    Raises ParquetMissing.
    """
    arrow, parquet = _libraries()
    schema = _schema(arrow, dimension).with_metadata({_HEADER_KEY: json.dumps(header)})
    with parquet.ParquetWriter(file, schema, compression="zstd", use_dictionary=False) as writer:
        for group in _groups(rows):
            writer.write_batch(arrow.RecordBatch.from_pylist(list(map(_as_column_values, group)), schema))


class ParquetRows:
    """A Parquet file as rows. Raises InvalidExport at what no export is, ParquetMissing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = 0

    @property
    def place(self) -> str:
        """The row that was read last; 0 is the header."""
        return f"row {self._number}"

    def __iter__(self) -> Iterator[Row]:
        """The header, then the rows, from the start."""
        arrow, parquet = _libraries()
        self._number = 0
        with self._errors_translated(arrow), self._path.open("rb") as file:
            self._check_footer(file)
            opened = parquet.ParquetFile(
                file, thrift_string_size_limit=_MAX_FOOTER_BYTES, thrift_container_size_limit=1 << 20
            )
            header = self._header(opened.schema_arrow.metadata or {})
            self._check_columns(arrow, opened.schema_arrow, header)
            for number in range(opened.metadata.num_row_groups):
                self._check_group(opened.metadata.row_group(number))
            yield header
            for batch in opened.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
                for values in batch.to_pylist():
                    self._number += 1
                    yield _from_column_values(values)

    def _check_footer(self, file: BinaryIO) -> None:
        size = file.seek(0, 2)
        if size < 12:
            self._fail("The file is too short for Parquet.")
        file.seek(size - 8)
        if int.from_bytes(file.read(4), "little") > min(size, _MAX_FOOTER_BYTES):
            self._fail("The footer is longer than the file, or than one of an export can be.")
        file.seek(0)

    def _header(self, metadata: dict[bytes, bytes]) -> Row:
        try:
            header = json.loads(metadata[_HEADER_KEY])
        except KeyError:
            self._fail("The file has no header: this is no export of an index.")
        except (ValueError, RecursionError) as error:
            self._fail(f"The header is not JSON ({error}).")
        if not isinstance(header, dict):
            self._fail("The header is not a JSON object.")
        return header

    def _check_columns(self, arrow: Any, schema: pyarrow.Schema, header: Row) -> None:
        dimension = header.get("dimension")
        known = [_schema(arrow, None)]
        if isinstance(dimension, int) and 0 < dimension <= _MAX_DIMENSION:
            known.append(_schema(arrow, dimension))
        if not any(schema.equals(one) for one in known):
            self._fail("The columns are not those of an export.")

    def _check_group(self, group: Any) -> None:
        columns = [group.column(number) for number in range(group.num_columns)]
        if (
            group.num_rows > _MAX_GROUP_ROWS
            or sum(column.total_uncompressed_size for column in columns) > _MAX_GROUP_BYTES
            or any(column.num_values > _MAX_COLUMN_VALUES for column in columns)
        ):
            self._fail("A group of rows is larger than an export writes them.")
        if any(
            column.has_dictionary_page or not _ENCODINGS.issuperset(column.encodings) for column in columns
        ):
            self._fail("A column is encoded in a way in which no export is.")

    @contextmanager
    def _errors_translated(self, arrow: Any) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno is not None:
                raise from_os(error, self._path) from error
            self._fail_for(error)
        except (arrow.ArrowException, ValueError) as error:
            self._fail_for(error)
        except MemoryError as error:
            raise invalid(self._path, self.place, "The rows take more memory than there is.") from error

    def _fail_for(self, error: Exception) -> NoReturn:
        reason = str(error).strip().partition("\n")[0][:200]
        raise invalid(self._path, self.place, f"The file cannot be read as Parquet ({reason}).") from error

    def _fail(self, message: str) -> NoReturn:
        raise invalid(self._path, self.place, message)


def _schema(arrow: Any, dimension: int | None) -> pyarrow.Schema:
    """The columns, all of them nullable; null where a row of this type has no such field."""
    text, whole = arrow.string(), arrow.int64()
    texts = arrow.list_(text)
    key_and_times = [("size", whole), ("mtime_ns", whole), ("checked_ns", whole), ("content_key", text)]
    outcome = [("conversion", text), ("status", text), ("code", text), ("reason", text), ("hint", text)]
    file = [("uri", text), ("path_base64", text), *key_and_times, *outcome]
    box = [(name, whole if name == "page" else arrow.float64()) for name in _BOX]
    columns = [
        *(("type", text), ("id", text), ("document", text)),
        *(("title", text), ("format", text), ("parser", text)),
        *(("metadata", arrow.map_(text, text)), ("warnings", texts)),
        *(("start", whole), ("end", whole), ("page", whole), ("boxes", arrow.list_(arrow.struct(box)))),
        *(("heading_path", texts), ("kind", text), ("context", text), ("text", text)),
        *file,
        ("files", arrow.list_(arrow.struct(file))),
    ]
    if dimension is not None:
        columns.append(("vector", arrow.list_(arrow.float32(), dimension)))
    return arrow.schema(columns)


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    group: list[Row] = []
    num_characters = 0
    for row in rows:
        group.append(row)
        num_characters += len(row.get("text", ""))
        if len(group) >= _GROUP_ROWS or num_characters >= _GROUP_CHARACTERS:
            yield group
            group, num_characters = [], 0
    if group:
        yield group


def _as_column_values(row: Row) -> Row:
    changed: Row = {}
    if "boxes" in row:
        changed["boxes"] = [dict(zip(_BOX, box, strict=True)) for box in row["boxes"]]
    if "metadata" in row:
        changed["metadata"] = list(row["metadata"].items())
    return row | changed


def _from_column_values(values: Row) -> Row:
    """A row as it would be in JSON Lines: without the fields that its type does not have."""
    row = {name: value for name, value in values.items() if value is not None}
    if "boxes" in row:
        row["boxes"] = [[box[name] for name in _BOX] if box else box for box in row["boxes"]]
    if "metadata" in row:
        row["metadata"] = dict(row["metadata"])
    if "files" in row:
        row["files"] = [file and {k: v for k, v in file.items() if v is not None} for file in row["files"]]
    return row


def _libraries() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ParquetMissing(
            "Parquet files need pyarrow, which is not installed.",
            hint="Run `pip install 'ragserve[parquet]'`, or use JSON Lines: a name that ends in .jsonl.",
        ) from error
    return pyarrow, parquet
