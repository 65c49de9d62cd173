"""What can be asked of the catalog; every function takes a connection from `Catalog.read()`, a snapshot."""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np

from indexer.errors import UnknownChunk, UnknownDocument
from indexer.lines import LineNumbers, keeps_lines
from indexer.types import Box, Chunk, FileState, FileStatus, Filters, PartialFile

_K = TypeVar("_K", str, int)
_T = TypeVar("_T")
_ROWS_PER_BATCH = 4096
_KEYS_PER_STATEMENT = 500


class FileRecord(NamedTuple):
    """A row of the table of files."""

    uri: str
    document: int | None
    size: int
    mtime_ns: int
    content_key: bytes | None
    conversion: str
    status: FileState
    code: str
    reason: str
    hint: str
    checked_ns: int


class KnownFile(NamedTuple):
    """A file in the catalog."""

    uri: str
    searchable: bool


class Version(NamedTuple):
    """A state of the catalog that searches see."""

    generation: int  # rises with every commit that changes what a search can return
    token: str  # differs from that of any other catalog's state with this number


class NumberedVectors(NamedTuple):
    """Chunks with their vectors, in rising order of number."""

    numbers: np.ndarray  # (n,) int64
    ids: np.ndarray  # (n,) S32, the chunk ids in ASCII
    vectors: np.ndarray  # (n, dimension) float32


def meta(connection: sqlite3.Connection, key: str) -> str | None:
    """A value of the table of settings and facts."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return row[0] if row else None


def version(connection: sqlite3.Connection) -> Version:
    """The present state."""
    return Version(
        *connection.execute(
            "SELECT generation, token FROM commits ORDER BY generation DESC LIMIT 1"
        ).fetchone()
    )


def remembers(connection: sqlite3.Connection, version: Version) -> bool:
    """Whether the state is one of this catalog's, and what was removed since is still known."""
    return bool(
        connection.execute(
            "SELECT 1 FROM commits WHERE generation = ? AND token = ?", (version.generation, version.token)
        ).fetchone()
    )


def remembers_generation(connection: sqlite3.Connection, generation: int) -> bool:
    """Whether what was removed since the generation is still known."""
    return bool(connection.execute("SELECT 1 FROM commits WHERE generation = ?", (generation,)).fetchone())


def dimension(connection: sqlite3.Connection) -> int | None:
    """The length of the vectors; None until the first one is stored."""
    value = meta(connection, "dimension")
    return int(value) if value else None


def running_process(connection: sqlite3.Connection) -> int | None:
    """The process id of the last ingest that has not come to an end, unless it was killed."""
    row = connection.execute(
        "SELECT pid FROM runs WHERE outcome = 'running' ORDER BY rowid DESC LIMIT 1"
    ).fetchone()
    return row[0] if row else None


# --- files and documents


_FILE = (
    "SELECT uri, document, size, mtime_ns, content_key, conversion, status, code, reason, hint, checked_ns"
    " FROM files "
)


def file_records(connection: sqlite3.Connection, uris: Sequence[str]) -> dict[str, FileRecord]:
    """What is known about files, by uri."""
    rows = connection.execute(
        _FILE + "WHERE uri IN (SELECT value FROM json_each(?))", (json.dumps(list(uris)),)
    )
    return {row[0]: FileRecord._make(row) for row in rows}


def file_not_indexed(
    connection: sqlite3.Connection, content_key: bytes, conversion: str
) -> FileRecord | None:
    """A file with this content that failed or was skipped, if it was read the way it would be read now."""
    row = connection.execute(
        _FILE + "WHERE status <> 'indexed' AND content_key = ? AND conversion = ?", (content_key, conversion)
    ).fetchone()
    return FileRecord(*row) if row else None


def file_statuses(connection: sqlite3.Connection, *, only_not_indexed: bool = False) -> Iterator[FileStatus]:
    """What became of each file, by uri."""
    rows = connection.execute(
        "SELECT uri, status, files.size, documents.id, indexed_at, code, reason, hint, checked_ns"
        " FROM files LEFT JOIN documents ON documents.rowid = files.document"
        + (" WHERE status <> 'indexed'" if only_not_indexed else "")
        + " ORDER BY uri"
    )
    for uri, status, size, document_id, indexed_at, code, reason, hint, checked_ns in rows:
        if status == "failed" and document_id is not None:
            reason += kept_note(indexed_at)
        yield FileStatus(uri, status, size, document_id, code, reason, hint, checked_ns / 1e9)


def partial_files(connection: sqlite3.Connection) -> Iterator[PartialFile]:
    """The files that are indexed, but not whole, by uri."""
    rows = connection.execute(
        "SELECT uri, warnings FROM files JOIN documents ON documents.rowid = files.document"
        " WHERE status = 'indexed' AND warnings <> '[]' ORDER BY uri"
    )
    for uri, warnings in rows:
        yield PartialFile(uri, tuple(json.loads(warnings)))


def is_partial(connection: sqlite3.Connection, document: int) -> bool:
    """Whether something of a document's file is missing in it."""
    return bool(
        connection.execute(
            "SELECT 1 FROM documents WHERE rowid = ? AND warnings <> '[]'", (document,)
        ).fetchone()
    )


def files_below(
    connection: sqlite3.Connection, root: str, *, after: str = "", limit: int = 1000
) -> list[KnownFile]:
    """The next files, in order of uri, that are a root or below it."""
    folder = root.rstrip("/") + "/"
    rows = connection.execute(
        "SELECT uri, document IS NOT NULL FROM files"
        " WHERE (uri = ?1 OR (uri > ?2 AND uri < ?3)) AND uri > ?4 ORDER BY uri LIMIT ?5",
        (root, folder, folder[:-1] + chr(ord("/") + 1), after, limit),
    )
    return [KnownFile(uri, bool(searchable)) for uri, searchable in rows]


def chunks_of_document(connection: sqlite3.Connection, document: int) -> int:
    """How many chunks a document has."""
    return connection.execute("SELECT count(*) FROM chunks WHERE document = ?", (document,)).fetchone()[0]


def kept_note(indexed_at: float) -> str:
    """What to add to the reason of a failure whose file is still found in its last good version."""
    return f" The version indexed at {time.strftime('%Y-%m-%d %H:%M', time.localtime(indexed_at))} is kept."


def kept_since(connection: sqlite3.Connection, uri: str) -> float | None:
    """When the document that a file has was indexed."""
    row = connection.execute(
        "SELECT indexed_at FROM files JOIN documents ON documents.rowid = files.document WHERE uri = ?",
        (uri,),
    ).fetchone()
    return row[0] if row else None


def document_with_content(connection: sqlite3.Connection, content_key: bytes, conversion: str) -> int | None:
    """The row of the document with this content, if it was made the way it would be made now."""
    row = connection.execute(
        "SELECT rowid FROM documents WHERE content_key = ? AND conversion = ?", (content_key, conversion)
    ).fetchone()
    return row[0] if row else None


def document_text(connection: sqlite3.Connection, document_id: str) -> str:
    """A document's normalised text, which the chunks' offsets count in."""
    row = connection.execute("SELECT text FROM documents WHERE id = ?", (document_id,)).fetchone()
    if row is None:
        raise UnknownDocument(f"There is no document {document_id}.", hint="It may have been removed since.")
    return zlib.decompress(row[0]).decode()


def outline(connection: sqlite3.Connection, document_id: str) -> list[tuple[str, ...]]:
    """The heading paths of a document's chunks, in the order in which they first come; [] if it is gone."""
    rows = connection.execute(
        "SELECT heading_path FROM chunks WHERE document = (SELECT rowid FROM documents WHERE id = ?)"
        " GROUP BY heading_path ORDER BY min(ordinal)",
        (document_id,),
    )
    return [tuple(json.loads(path)) for (path,) in rows]


# --- chunks

_CHUNK = """
SELECT chunks.id, documents.id,
       (SELECT json_group_array(json_array(uri GLOB ?1 OR uri GLOB ?2, uri)) FROM files
        WHERE files.document = chunks.document),
       chunks.text, start, "end", page, boxes, heading_path, kind,
       parser, content_key, conversion
FROM chunks JOIN documents ON documents.rowid = chunks.document
"""


def load_chunks(
    connection: sqlite3.Connection,
    chunk_ids: Sequence[str],
    *,
    filters: Filters | None = None,
    lines: LineNumbers | None = None,
) -> list[Chunk]:
    """Chunks by id, in the order asked for.

    Of the paths that hold a chunk the best comes first: one that passes the filters, then the one in the
    fewest folders, then by name. `lines` remembers from call to call where the lines of documents are.
    """
    lines = lines or LineNumbers()
    glob = filters.path_glob if filters is not None else None
    rows = connection.execute(
        _CHUNK + "WHERE chunks.id IN (SELECT value FROM json_each(?3))",
        (*_globs(glob if glob is not None else "*"), json.dumps(list(chunk_ids))),
    )
    chunks = {row[0]: _chunk(connection, row, lines) for row in rows}
    return [_known(chunks, chunk_id) for chunk_id in chunk_ids]


def chunks_around(
    connection: sqlite3.Connection,
    chunk_id: str,
    before: int,
    after: int,
    *,
    lines: LineNumbers | None = None,
) -> list[Chunk]:
    """A chunk with up to so many chunks of its document before and after it, in order; [] if it is gone."""
    lines = lines or LineNumbers()
    place = connection.execute("SELECT document, ordinal FROM chunks WHERE id = ?", (chunk_id,)).fetchone()
    if place is None:
        return []
    document, ordinal = place
    rows = connection.execute(
        _CHUNK + "WHERE chunks.document = ?3 AND ordinal BETWEEN ?4 AND ?5 ORDER BY ordinal",
        (*_globs("*"), document, ordinal - before, ordinal + after),
    )
    return [_chunk(connection, row, lines) for row in rows]


def load_vectors(connection: sqlite3.Connection, chunk_ids: Sequence[str]) -> np.ndarray:
    """(n, dimension) float32 vectors of chunks by id, in the order asked for."""
    rows = connection.execute(
        "SELECT chunks.id, vector FROM chunks JOIN embeddings ON embeddings.rowid = chunks.embedding"
        " WHERE chunks.id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(chunk_ids)),),
    )
    vectors = dict(rows.fetchall())
    return _matrix([_known(vectors, chunk_id) for chunk_id in chunk_ids], dimension(connection) or 0)


def chunk_numbers(connection: sqlite3.Connection, chunk_ids: Sequence[str]) -> list[int]:
    """The numbers of chunks by id, in the order asked for."""
    rows = connection.execute(
        "SELECT id, rowid FROM chunks WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(chunk_ids)),),
    )
    numbers = dict(rows.fetchall())
    return [_known(numbers, chunk_id) for chunk_id in chunk_ids]


def chunk_ids(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[str]:
    """The ids of chunks by number, in the order asked for."""
    rows = connection.execute(
        "SELECT rowid, id FROM chunks WHERE rowid IN (SELECT value FROM json_each(?))",
        (json.dumps(list(numbers)),),
    )
    ids = dict(rows.fetchall())
    return [_known(ids, number) for number in numbers]


def matching_numbers(connection: sqlite3.Connection, filters: Filters) -> np.ndarray | None:
    """(n,) int64 numbers of the chunks that pass the filters, rising; None if all of them do."""
    conditions, parameters = [], []
    if filters.kinds is not None:
        conditions.append("kind IN (SELECT value FROM json_each(?))")
        parameters.append(json.dumps(sorted(filters.kinds)))
    if filters.document_ids is not None:
        conditions.append(
            "document IN (SELECT rowid FROM documents WHERE id IN (SELECT value FROM json_each(?)))"
        )
        parameters.append(json.dumps(sorted(filters.document_ids)))
    if filters.path_glob is not None:
        conditions.append("document IN (SELECT document FROM files WHERE uri GLOB ? OR uri GLOB ?)")
        parameters += _globs(filters.path_glob)
    if not conditions:
        return None
    rows = connection.execute(
        f"SELECT rowid FROM chunks WHERE {' AND '.join(conditions)} ORDER BY rowid", parameters
    )
    return np.fromiter((number for (number,) in rows), np.int64)


def _globs(glob: str) -> tuple[str, str]:
    """Globs over whole uris: for what is named, and for all that is in it if it is a folder.

    One that does not say where it begins may begin at any folder.
    """
    rooted = glob if glob.startswith(("/", "*")) else f"*/{glob}"
    return rooted, f"{rooted.rstrip('/')}/*"


# --- vectors


def num_chunks(connection: sqlite3.Connection) -> int:
    """How many chunks there are."""
    return connection.execute("SELECT count(*) FROM chunks").fetchone()[0]


def stored_embeddings(connection: sqlite3.Connection, keys: Iterable[bytes]) -> set[bytes]:
    """Those of the keys that have a vector already."""
    found: set[bytes] = set()
    remaining = iter(keys)
    while batch := list(islice(remaining, _KEYS_PER_STATEMENT)):
        marks = ", ".join("?" * len(batch))
        rows = connection.execute(f"SELECT key FROM embeddings WHERE key IN ({marks})", batch)
        found.update(key for (key,) in rows)
    return found


def numbered_vectors(connection: sqlite3.Connection, *, since: int = 0) -> Iterator[NumberedVectors]:
    """The vectors of all chunks added after a generation, in rising order of number, in bounded batches."""
    size = dimension(connection) or 0
    rows = connection.execute(
        "SELECT chunks.rowid, chunks.id, vector FROM chunks"
        " JOIN embeddings ON embeddings.rowid = chunks.embedding"
        " WHERE added_generation > ? ORDER BY chunks.rowid",
        (since,),
    )
    while batch := rows.fetchmany(_ROWS_PER_BATCH):
        numbers, ids, blobs = zip(*batch, strict=True)
        yield NumberedVectors(np.array(numbers, np.int64), np.array(ids, "S32"), _matrix(blobs, size))


def numbered_ids(connection: sqlite3.Connection) -> tuple[np.ndarray, np.ndarray]:
    """(n,) int64 numbers of all chunks, rising, and (n,) S32 their ids."""
    rows = connection.execute("SELECT rowid, id FROM chunks ORDER BY rowid").fetchall()
    return np.array([number for number, _ in rows], np.int64), np.array([id_ for _, id_ in rows], "S32")


def removed_since(connection: sqlite3.Connection, since: int) -> list[tuple[int, str]]:
    """Number and id of the chunks removed or changed after a generation that the catalog remembers."""
    return connection.execute(
        "SELECT DISTINCT chunk, id FROM removed_chunks WHERE generation > ?", (since,)
    ).fetchall()


def gone_since(connection: sqlite3.Connection, since: int) -> np.ndarray:
    """(n,) int64 numbers of the chunks that there were at a generation and are not any more."""
    rows = connection.execute(
        "SELECT DISTINCT chunk FROM removed_chunks WHERE generation > ?"
        " AND chunk NOT IN (SELECT rowid FROM chunks)",
        (since,),
    )
    return np.fromiter((number for (number,) in rows), np.int64)


def num_changes_since(connection: sqlite3.Connection, since: int) -> int:
    """How many chunks came or went after a generation that the catalog remembers, those that are gone again
    included."""
    (removed,) = connection.execute(
        "SELECT count(*) FROM removed_chunks WHERE generation > ?", (since,)
    ).fetchone()
    (added,) = connection.execute(
        "SELECT count(*) FROM chunks WHERE added_generation > ?", (since,)
    ).fetchone()
    return removed + added


def added_since(connection: sqlite3.Connection, since: int) -> list[str]:
    """The ids of the chunks added or changed after a generation."""
    rows = connection.execute("SELECT id FROM chunks WHERE added_generation > ? ORDER BY rowid", (since,))
    return [chunk_id for (chunk_id,) in rows]


def _matrix(blobs: Sequence[bytes], size: int) -> np.ndarray:
    return np.frombuffer(b"".join(blobs), "<f4").astype(np.float32).reshape(len(blobs), size)


def _chunk(connection: sqlite3.Connection, row: tuple, lines: LineNumbers) -> Chunk:
    chunk_id, document_id, paths, text, start, end, page, boxes, heading_path, kind, *facts = row
    parser, content_key, conversion = facts
    found = None
    if page is None and keeps_lines(parser):
        # These two decide what the text is, so what is remembered never is that of another version.
        key = content_key, conversion
        found = lines.find(key, start, end, lambda: document_text(connection, document_id))
    best_first = sorted(json.loads(paths), key=lambda path: (not path[0], path[1].count("/"), path[1]))
    uri, *other_uris = [uri for _, uri in best_first] or [""]
    return Chunk(
        id=chunk_id,
        document_id=document_id,
        uri=uri,
        text=text,
        start=start,
        end=end,
        page=page,
        boxes=tuple(Box(*box) for box in json.loads(boxes)),
        heading_path=tuple(json.loads(heading_path)),
        kind=kind,
        other_uris=tuple(other_uris),
        lines=found,
    )


def _known(values: dict[_K, _T], chunk: _K) -> _T:
    try:
        return values[chunk]
    except KeyError:
        raise UnknownChunk(f"There is no chunk {chunk}.", hint="It may have been removed since.") from None
