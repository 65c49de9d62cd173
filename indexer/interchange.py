"""The form in which an index is handed to other programs, and to other indexes: rows, each of a type.

First comes "ragserve-export", what follows and which embedder made the vectors; then each "document",
followed by its "chunk"s in order; then each "file" that has no document, with the reason. docs/cli.md
describes the fields. How rows lie in a file, `export_rows` knows.
"""

from __future__ import annotations

import base64
import binascii
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, get_args

import numpy as np

from indexer.catalog_writer import Failure, SourceFile
from indexer.chunking import ChunkDraft
from indexer.export_rows import invalid as _invalid
from indexer.export_rows import open_rows
from indexer.types import Box, ChunkKind, FileState, ParsedDocument

FORMAT_VERSION = 1
_DOCUMENT_ID = re.compile(r"[0-9a-f]{32}")
_UNIT_TOLERANCE = 1e-3


class Header(NamedTuple):
    """The first row."""

    embedder: str | None  # fingerprint; None if nothing was embedded
    dimension: int | None
    documents: int
    chunks: int
    files: int


class ImportedFile(NamedTuple):
    """A file, and what had become of it."""

    file: SourceFile
    status: FileState
    content_key: bytes | None
    conversion: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class ImportedDocument:
    """A document with its chunks and the files that hold it."""

    id: str
    content_key: bytes
    conversion: str
    document: ParsedDocument
    files: tuple[ImportedFile, ...]
    drafts: tuple[ChunkDraft, ...]
    vectors: tuple[np.ndarray | None, ...]  # (dimension,) float32, one a draft


class ExportReader:
    """Reads an export from its start, one document at a time. Raises InvalidExport at what makes no sense."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._source = open_rows(path)

    def __iter__(self) -> Iterator[Header | ImportedDocument | ImportedFile]:
        """The header, then everything else, which has to be as much as the header says."""
        rows = self._rows()
        first = next(rows, None)
        if first is None:
            self._fail("The file is empty.")
        header = self._header(first)
        yield header
        counts = {"documents": 0, "chunks": 0, "files": 0}
        row = next(rows, None)
        while row is not None:
            kind = row.text("type")
            if kind == "document":
                document, row = self._document(row, rows, header)
                counts["documents"] += 1
                counts["chunks"] += len(document.drafts)
                counts["files"] += len(document.files)
                yield document
            elif kind == "file":
                counts["files"] += 1
                yield row.file()
                row = next(rows, None)
            else:
                row.fail("type", f"is {kind!r} where a document or a file was to come")
        for name, count in counts.items():
            if count != getattr(header, name):
                self._fail(f"The file ends after {count} of {getattr(header, name)} {name}.")

    def _rows(self) -> Iterator[_Row]:
        for values in self._source:
            yield _Row(values, self._path, self._source.place)

    def _header(self, row: _Row) -> Header:
        if row.text("type") != "ragserve-export":
            row.fail("type", "is not ragserve-export: this is no export of an index")
        if row.whole("version") != FORMAT_VERSION:
            row.fail("version", f"is not {FORMAT_VERSION}, the only one that is known here")
        return Header(
            row.text("embedder", optional=True),
            row.whole("dimension", optional=True),
            row.whole("documents"),
            row.whole("chunks"),
            row.whole("files"),
        )

    def _document(
        self, row: _Row, rows: Iterator[_Row], header: Header
    ) -> tuple[ImportedDocument, _Row | None]:
        """The document that a row begins, and the row after its chunks."""
        text, id_ = row.text("text"), row.text("id")
        if not _DOCUMENT_ID.fullmatch(id_):
            row.fail("id", "is not 32 hexadecimal digits")
        files = tuple(item.file() for item in row.rows("files"))
        if not files:
            row.fail("files", "is empty")
        drafts, vectors = [], []
        following = next(rows, None)
        while following is not None and following.text("type") == "chunk":
            if following.text("document") != id_:
                following.fail("document", f"is not {id_}, the document that it follows")
            drafts.append(following.draft(text))
            vectors.append(following.vector(header.dimension))
            following = next(rows, None)
        if not drafts:
            row.fail("type", "is document, but no chunk follows it")
        parsed = ParsedDocument(
            text=text,
            blocks=(),
            title=row.text("title"),
            format=row.text("format"),
            parser=row.text("parser"),
            metadata=row.texts_by_name("metadata"),
            warnings=tuple(row.texts("warnings")),
        )
        key = row.key("content_key")
        document = ImportedDocument(
            id_, key, row.text("conversion"), parsed, files, tuple(drafts), tuple(vectors)
        )
        return document, following

    def _fail(self, message: str) -> NoReturn:
        raise _invalid(self._path, self._source.place, message)


class _Row:
    """A row: every access checks the type, and names the place and the field where it is another."""

    def __init__(self, values: dict[str, Any], path: Path, place: str, prefix: str = "") -> None:
        self._values = values
        self._path = path
        self._place = place
        self._prefix = prefix

    def fail(self, field: str, message: str) -> NoReturn:
        raise _invalid(self._path, self._place, f"the field {self._prefix}{field} {message}.")

    def text(self, field: str, *, optional: bool = False) -> Any:
        value = self._get(field, optional)
        if optional and value is None:
            return None
        return self._checked_text(field, value)

    def texts(self, field: str) -> list[str]:
        return [self._checked_text(field, item) for item in self._list(field)]

    def texts_by_name(self, field: str) -> dict[str, str]:
        value = self._get(field)
        if not isinstance(value, dict):
            self.fail(field, "is not an object")
        return {
            self._checked_text(field, key): self._checked_text(field, item) for key, item in value.items()
        }

    def whole(self, field: str, *, optional: bool = False) -> Any:
        value = self._get(field, optional)
        if optional and value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
            self.fail(field, "is not a whole number from 0")
        return value

    def key(self, field: str, *, optional: bool = False) -> Any:
        value = self.text(field, optional=optional)
        if value is None:
            return None
        try:
            key = bytes.fromhex(value)
        except ValueError:
            key = b""
        if len(key) != 32:
            self.fail(field, "is not 64 hexadecimal digits")
        return key

    def rows(self, field: str) -> list[_Row]:
        items = self._list(field)
        if not all(isinstance(item, dict) for item in items):
            self.fail(field, "is not a list of objects")
        return [
            _Row(item, self._path, self._place, f"{self._prefix}{field}[{number}].")
            for number, item in enumerate(items)
        ]

    def file(self) -> ImportedFile:
        uri, status = self.text("uri"), self.text("status")
        if status not in get_args(FileState):
            self.fail("status", f"is none of {', '.join(get_args(FileState))}")
        path = os.fsencode(uri)
        if "path_base64" in self._values:
            try:
                path = base64.b64decode(self.text("path_base64"), validate=True)
            except binascii.Error:
                self.fail("path_base64", "is not base64")
        file = SourceFile(uri, path, self.whole("size"), self._time("mtime_ns"), self._time("checked_ns"))
        failure = Failure(*(self.text(name) for name in Failure._fields))
        return ImportedFile(
            file, status, self.key("content_key", optional=True), self.text("conversion"), failure
        )

    def draft(self, document: str) -> ChunkDraft:
        start, end = self.whole("start"), self.whole("end")
        if not start < end <= len(document):
            self.fail("end", "does not lie after start and within the document's text")
        if document[start:end] != self.text("text"):
            self.fail("text", f"is not the document's text at [{start}:{end})")
        kind = self.text("kind")
        if kind not in get_args(ChunkKind):
            self.fail("kind", f"is none of {', '.join(get_args(ChunkKind))}")
        page, boxes = (
            self.whole("page", optional=True),
            tuple(self._box(item) for item in self._list("boxes")),
        )
        return ChunkDraft(
            start, end, page, boxes, tuple(self.texts("heading_path")), kind, self.text("context")
        )

    def vector(self, dimension: int | None) -> np.ndarray | None:
        """(dimension,) float32 unit vector; None where there is none."""
        if self._values.get("vector") is None:
            return None
        items = self._list("vector")
        if len(items) != dimension or not all(_is_number(item) for item in items):
            self.fail("vector", f"is not a list of {dimension} numbers")
        vector = np.array(items, np.float64)
        if not abs(float(np.linalg.norm(vector)) - 1) <= _UNIT_TOLERANCE:
            self.fail("vector", "is not of length 1")
        return vector.astype(np.float32)

    def _box(self, item: Any) -> Box:
        if not isinstance(item, list) or len(item) != 5 or not all(_is_number(value) for value in item):
            self.fail("boxes", "is not a list of [page, x0, y0, x1, y1]")
        return Box(*item)

    def _time(self, field: str) -> int:
        value = self._get(field)
        if not isinstance(value, int) or isinstance(value, bool) or not -(1 << 63) <= value < 1 << 63:
            self.fail(field, "is not a whole number of nanoseconds")
        return value

    def _list(self, field: str) -> list[Any]:
        value = self._get(field)
        if not isinstance(value, list):
            self.fail(field, "is not a list")
        return value

    def _checked_text(self, field: str, value: Any) -> str:
        if not isinstance(value, str):
            self.fail(field, "is not a text")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                self.fail(field, "holds half a surrogate pair, which is no character")
        return value

    def _get(self, field: str, optional: bool = False) -> Any:
        if field not in self._values and not optional:
            self.fail(field, "is missing")
        return self._values.get(field)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e18 and math.isfinite(value)
