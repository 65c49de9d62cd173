"""Whether everything in an index agrees with everything else."""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexer import catalog_reader, checkpoint, image_vectors, lexical_segments
from indexer.catalog import Catalog
from indexer.errors import IndexerError
from indexer.lexical import Snapshot
from indexer.types import Finding, VerifyReport
from indexer.verification_samples import Sampled

if TYPE_CHECKING:
    from indexer.embedding import Embedder

MAX_FINDINGS = 20  # of one check
_UNIT_TOLERANCE = 1e-3
_REBUILT = "The next ingest makes it anew from the catalog; nothing is lost."
_INGEST_AGAIN = "Ingest into a new index folder, or restore this one from a copy."

_Problems = Iterator[tuple[str, str]]  # message and hint
_Check = Callable[[sqlite3.Connection, Path], _Problems]


def verify(
    catalog: Catalog, folder: Path, *, embedder: Embedder | None = None, reembed: int = 0
) -> VerifyReport:
    """Run every check on one snapshot. What is wrong becomes a finding, whatever it is.

    With an embedder, the texts of `reembed` chunks are embedded again and compared with what is stored.
    """
    started = time.perf_counter()
    sampled = Sampled()
    checks: dict[str, _Check] = {
        "database": _database,
        "links": _links,
        "offsets": _offsets,
        "embeddings": _embeddings,
        "checkpoint": _checkpoint,
        "vectors": _vectors,
        "recall": sampled.recall_of_searches,
        "lexical": _lexical,
    }
    if embedder is not None and reembed > 0:
        checks["embedder"] = partial(sampled.embed_again, embedder=embedder, count=reembed)
    findings: list[Finding] = []
    chunks = 0
    try:
        with catalog.read() as connection:
            for name, check in checks.items():
                findings += _run(name, check, connection, folder)
            (chunks,) = connection.execute("SELECT count(*) FROM chunks").fetchone()
    except IndexerError as error:
        findings.append(Finding("database", error.message, error.hint))
    return VerifyReport(
        tuple(findings),
        tuple(checks),
        chunks,
        time.perf_counter() - started,
        recall=sampled.recall,
        reembedded=sampled.num_embedded,
    )


def _run(name: str, check: _Check, connection: sqlite3.Connection, folder: Path) -> Iterator[Finding]:
    try:
        for message, hint in islice(check(connection, folder), MAX_FINDINGS):
            yield Finding(name, message, hint)
    except IndexerError as error:
        yield Finding(name, error.message, error.hint)
    except Exception as error:  # noqa: BLE001 - what is damaged in any way is read here
        cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        yield Finding(name, f"The check could not be finished ({cause}).", _INGEST_AGAIN)


def _database(connection: sqlite3.Connection, folder: Path) -> _Problems:
    for (message,) in connection.execute(f"PRAGMA integrity_check({MAX_FINDINGS})"):
        if message != "ok":
            yield f"SQLite says: {message}.", _INGEST_AGAIN
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield f"Row {row} of {table} refers to a row of {parent} that does not exist.", _INGEST_AGAIN


def _links(connection: sqlite3.Connection, folder: Path) -> _Problems:
    """Files have documents, documents have files and chunks."""
    queries = {
        "The file {} is listed as indexed and has no document.": (
            "SELECT uri FROM files WHERE status = 'indexed' AND document IS NULL"
        ),
        "No file holds the document {}.": (
            "SELECT id FROM documents WHERE rowid NOT IN"
            " (SELECT document FROM files WHERE document IS NOT NULL)"
        ),
        "The document {} has no chunks.": (
            "SELECT id FROM documents WHERE rowid NOT IN (SELECT document FROM chunks)"
        ),
    }
    for message, query in queries.items():
        for (name,) in connection.execute(query):
            yield message.format(name), _INGEST_AGAIN


def _offsets(connection: sqlite3.Connection, folder: Path) -> _Problems:
    """A chunk's text is its document's text between its offsets."""
    rows = connection.execute(
        'SELECT document, id, start, "end", text FROM chunks ORDER BY document, ordinal'
    )
    for document, chunks in groupby(rows, key=itemgetter(0)):
        row = connection.execute("SELECT text FROM documents WHERE rowid = ?", (document,)).fetchone()
        if row is None:
            yield f"The document of chunk {next(chunks)[1]} does not exist.", _INGEST_AGAIN
            continue
        text = zlib.decompress(row[0]).decode()
        for _, chunk, start, end, body in chunks:
            if text[start:end] != body:
                yield (
                    f"The text of chunk {chunk} is not its document's text at [{start}:{end}).",
                    _INGEST_AGAIN,
                )


def _embeddings(connection: sqlite3.Connection, folder: Path) -> _Problems:
    """Every chunk, and every picture that was embedded, has a vector of the right length, of norm 1."""
    size = catalog_reader.dimension(connection) or 0
    rows = connection.execute("SELECT rowid, vector FROM embeddings")
    for row, blob in rows:
        vector = np.frombuffer(blob, "<f4") if len(blob) == 4 * size else None
        if vector is None:
            yield f"Embedding {row} has {len(blob)} bytes instead of {4 * size}.", _INGEST_AGAIN
        elif not abs(float(np.linalg.norm(vector)) - 1) <= _UNIT_TOLERANCE:  # also true of NaN
            yield f"Embedding {row} is not a unit vector.", _INGEST_AGAIN
    for message in image_vectors.problems(connection):
        yield message, _INGEST_AGAIN


def _checkpoint(connection: sqlite3.Connection, folder: Path) -> _Problems:
    """The checkpoint, where there is one, is what was written. Having none is no fault: it is rebuilt."""
    stamp = checkpoint.read_stamp(folder)
    if stamp is None:
        # It may have been written just now.
        if (folder / checkpoint.STAMP_NAME).exists() and checkpoint.read_stamp(folder) is None:
            yield f"{checkpoint.STAMP_NAME} cannot be read.", _REBUILT
        return
    for file in (stamp, *(stamp.base.files if stamp.base else ())):
        if not checkpoint.file_matches(folder, file) and checkpoint.read_stamp(folder) == stamp:
            yield f"{file.file} is missing or is not the file that was written.", _REBUILT


def _vectors(connection: sqlite3.Connection, folder: Path) -> _Problems:
    """What a search would load holds exactly the live chunks, with the vectors of the catalog."""
    size = catalog_reader.dimension(connection)
    if size is None:
        return
    vectors = checkpoint.open_vectors(folder, connection, size)
    numbers, seen = vectors.numbers, 0
    for batch in catalog_reader.numbered_vectors(connection):
        held = numbers[seen : seen + len(batch.numbers)]
        seen += len(batch.numbers)
        if not np.array_equal(held, batch.numbers):
            yield "The vector index does not hold exactly the chunks of the catalog.", _REBUILT
            return
        for row in np.flatnonzero((vectors.vectors_of(batch.numbers) != batch.vectors).any(axis=1)):
            yield f"The vector index holds another vector for chunk {batch.ids[row].decode()}.", _REBUILT
    if seen != len(vectors):
        yield f"The vector index holds {len(vectors) - seen} chunks that are not in the catalog.", _REBUILT


def _lexical(connection: sqlite3.Connection, folder: Path) -> _Problems:
    """The lexical index holds exactly the live chunks."""
    live, _ = catalog_reader.numbered_ids(connection)
    if not len(live):
        return
    if connection.execute("SELECT 1 FROM lexical_state").fetchone() is None:
        yield "Text search fails, for it has lost the note of which version its index is.", _REBUILT
    held = Snapshot(0, tuple(lexical_segments.read_segments(connection))).chunks
    missing, ghosts = np.setdiff1d(live, held), np.setdiff1d(held[held >= 0], live)
    if len(missing):
        yield f"Text search cannot find {len(missing)} chunks.", _REBUILT
    if len(ghosts):
        yield f"Text search finds {len(ghosts)} chunks that do not exist any more.", _REBUILT
