"""An index into a file that other programs can read. What its rows are is described in `interchange`."""

from __future__ import annotations

import base64
import json
import os
import secrets
import sqlite3
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from indexer import catalog_reader
from indexer.catalog import Catalog
from indexer.errors import ExportExists, UnknownExportFormat
from indexer.export_rows import write_json_lines
from indexer.interchange import FORMAT_VERSION
from indexer.storage_errors import os_errors_translated
from indexer.stored_files import sync_folder
from indexer.types import ExportReport

_FILES = (
    "SELECT uri, path, size, mtime_ns, checked_ns, content_key, conversion, status, code, reason, hint"
    " FROM files WHERE document {} ORDER BY uri"
)
_DOCUMENTS = (
    "SELECT rowid, id, format, title, parser, metadata, warnings, content_key, conversion, text"
    " FROM documents ORDER BY rowid"
)
_CHUNKS = (
    'SELECT chunks.id, start, "end", page, boxes, heading_path, kind, context, text, vector'
    " FROM chunks JOIN embeddings ON embeddings.rowid = chunks.embedding WHERE document = ? ORDER BY ordinal"
)


ExportFormat = Literal["jsonl", "parquet"]


def export(
    catalog: Catalog,
    path: Path,
    *,
    format: str | None = None,
    vectors: bool = False,
    replace: bool = False,
) -> ExportReport:
    """Write one state of the catalog to a file, which is there when it is complete and not before.

    Ingests go on meanwhile. Memory holds a document at a time, or in Parquet a bounded group of rows. Without
    a `format` the name of the file decides: what ends in ".parquet" is Parquet, all else is JSON Lines.
    Raises ExportExists unless `replace`, and ParquetMissing.
    """
    started = time.perf_counter()
    chosen = _chosen(format, path)
    if not replace and os.path.lexists(path):
        raise _exists(path)  # now, before all the work
    # A name of its own: others may write to the same path, and a name longer than that may be too long.
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    with os_errors_translated(path):
        try:
            with temporary.open("xb") as file, catalog.read() as connection:
                header = _header(connection)
                rows = _parts(connection, vectors=vectors)
                if chosen == "parquet":
                    from indexer.parquet_rows import write_parquet

                    write_parquet(file, header, rows, dimension=header["dimension"] if vectors else None)
                else:
                    write_json_lines(file, header, rows)
                size = file.tell()
                file.flush()
                os.fsync(file.fileno())
            _publish(temporary, path, replace=replace)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    return ExportReport(
        documents=header["documents"],
        chunks=header["chunks"],
        files=header["files"],
        bytes=size,
        seconds=time.perf_counter() - started,
    )


def _publish(temporary: Path, path: Path, *, replace: bool) -> None:
    """Give a whole file its name, which somebody else may have given to another one meanwhile."""
    if replace:
        temporary.replace(path)
        return
    try:
        os.link(temporary, path)  # unlike a renaming, it never takes the place of a file
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError:  # a file system without links: the moment between the look and the renaming remains
        if os.path.lexists(path):
            raise _exists(path) from None
        temporary.rename(path)


def _exists(path: Path) -> ExportExists:
    return ExportExists(f"{path} exists already.", hint="Name another file, or replace it with --force.")


def _chosen(format_: str | None, path: Path) -> ExportFormat:
    if format_ is None:
        return "parquet" if path.suffix.lower() == ".parquet" else "jsonl"
    if format_ not in get_args(ExportFormat):
        raise UnknownExportFormat(
            f"{format_!r} is no form of an export.", hint=f"Use one of {', '.join(get_args(ExportFormat))}."
        )
    return "parquet" if format_ == "parquet" else "jsonl"


def _header(connection: sqlite3.Connection) -> dict[str, Any]:
    def count(table: str) -> int:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    return {
        "type": "ragserve-export",
        "version": FORMAT_VERSION,
        "embedder": catalog_reader.meta(connection, "embedder"),
        "embedder_label": catalog_reader.meta(connection, "embedder_label"),
        "dimension": catalog_reader.dimension(connection),
        "documents": count("documents"),
        "chunks": count("chunks"),
        "files": count("files"),
    }


def _parts(connection: sqlite3.Connection, *, vectors: bool) -> Iterator[dict[str, Any]]:
    """Everything below the header."""
    for number, id_, format_, title, parser, metadata, warnings, key, conversion, text in connection.execute(
        _DOCUMENTS
    ):
        files = [_file(row) for row in connection.execute(_FILES.format("= ?"), (number,))]
        yield {
            "type": "document",
            "id": id_,
            "uri": files[0]["uri"],
            "format": format_,
            "title": title,
            "parser": parser,
            "metadata": json.loads(metadata),
            "warnings": json.loads(warnings),
            "content_key": key.hex(),
            "conversion": conversion,
            "files": files,
            "text": zlib.decompress(text).decode(),
        }
        for row in connection.execute(_CHUNKS, (number,)):
            yield _chunk(id_, row, vectors=vectors)
    for row in connection.execute(_FILES.format("IS NULL")):
        yield {"type": "file", **_file(row)}


def _file(row: tuple[Any, ...]) -> dict[str, Any]:
    uri, path, size, mtime_ns, checked_ns, key, conversion, status, code, reason, hint = row
    # The name in the file system need not be text; where the uri does not give it, its bytes follow.
    other_name = {} if os.fsencode(uri) == path else {"path_base64": base64.b64encode(path).decode()}
    return {
        "uri": uri,
        **other_name,
        "size": size,
        "mtime_ns": mtime_ns,
        "checked_ns": checked_ns,
        "content_key": None if key is None else key.hex(),
        "conversion": conversion,
        "status": status,
        "code": code,
        "reason": reason,
        "hint": hint,
    }


def _chunk(document: str, row: tuple[Any, ...], *, vectors: bool) -> dict[str, Any]:
    id_, start, end, page, boxes, heading_path, kind, context, text, vector = row
    chunk = {
        "type": "chunk",
        "id": id_,
        "document": document,
        "start": start,
        "end": end,
        "page": page,
        "boxes": json.loads(boxes),
        "heading_path": json.loads(heading_path),
        "kind": kind,
        "context": context,
        "text": text,
    }
    if vectors:
        chunk["vector"] = np.frombuffer(vector, "<f4").tolist()  # as float64: exact
    return chunk
