"""Changes to the catalog, one transaction at a time, in which nothing can be half done."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from indexer import catalog_reader, image_vectors
from indexer.identity import chunk_ids, document_id
from indexer.types import ParsedDocument

if TYPE_CHECKING:
    from indexer.chunking import ChunkDraft
    from indexer.image_vectors import ImageVector

# A reader that is further behind starts anew, and so the list of removed chunks does not grow for ever.
HISTORY_GENERATIONS = 1000
HISTORY_RUNS = 1000
_COMPRESSION_LEVEL = 1  # of texts; the default takes three times as long and saves a fifth


class SourceFile(NamedTuple):
    """A file as it was found: what has to be the same next time for it to count as unchanged."""

    uri: str
    path: bytes  # as the file system has it
    size: int
    mtime_ns: int
    checked_ns: int  # when size and mtime_ns were read


class Failure(NamedTuple):
    """Why a file is not indexed."""

    code: str
    reason: str
    hint: str


class Conversion(NamedTuple):
    """A file's content made into a document and chunks, ready to be stored."""

    content_key: bytes
    conversion: str
    document: ParsedDocument
    drafts: Sequence[ChunkDraft]
    embedding_keys: Sequence[bytes]  # one a draft; their vectors are stored already
    image: ImageVector | None = None  # of a picture, where an image embedder was given


class _ChunkRow(NamedTuple):
    """The columns of a chunk that may change while its number stays."""

    ordinal: int
    start: int
    end: int
    page: int | None
    boxes: str
    context: str


class CatalogWriter:
    """What can be done inside `Catalog.write()`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.generation = (
            catalog_reader.version(connection).generation + 1
        )  # what a change in here is committed as
        self._added: set[int] = set()
        self._removed: set[int] = set()
        self._documents: set[int] = set()
        self._loose_documents: set[int] = set()  # rows that may have lost their last file
        self._loose_embeddings: set[int] = set()  # rows that may have lost their last chunk
        self._changed = False

    # --- files

    def store(self, file: SourceFile, conversion: Conversion, *, new_id: str | None = None) -> str:
        """Make the file's document this one, in place of whatever it was; returns the document's id.

        Chunks that are the same as before keep their id and vector. A document that is new here gets
        `new_id`, if that is given and free.
        """
        previous = self._document_of(file.uri)
        row = self.connection.execute(
            "SELECT rowid FROM documents WHERE content_key = ?", (conversion.content_key,)
        ).fetchone()
        if row is not None:
            document = row[0]
        elif previous is not None and self._files_of(previous) == 1:
            document = previous
            self._changed |= image_vectors.forget(self.connection, document)  # its content is another now
        else:
            document = self._new_document(conversion.content_key, new_id)
        id_ = self._write_document(document, file, conversion)
        self._write_chunks(document, id_, conversion)
        if conversion.image is not None:
            self._changed |= image_vectors.put(self.connection, document, conversion.image)
        self._record(file, "indexed", conversion.content_key, conversion.conversion, document=document)
        self._relink(previous, document)
        return id_

    def link(self, file: SourceFile, content_key: bytes, conversion: str) -> int | None:
        """Make the file another path of the document with its content, or note that it still is one.

        Returns the document. None if there is no such document (any more); then nothing is done.
        """
        document = catalog_reader.document_with_content(self.connection, content_key, conversion)
        if document is not None:
            previous = self._document_of(file.uri)
            self._record(file, "indexed", content_key, conversion, document=document)
            self._relink(previous, document)
        return document

    def fail(self, file: SourceFile, failure: Failure, *, content_key: bytes | None, conversion: str) -> None:
        """Note why the file could not be indexed. Its last good version, if any, stays searchable."""
        document = self._document_of(file.uri)
        self._record(file, "failed", content_key, conversion, document=document, failure=failure)

    def skip(self, file: SourceFile, failure: Failure, *, content_key: bytes | None, conversion: str) -> None:
        """Note why the file is deliberately not a document. If it was one before, it is no more."""
        previous = self._document_of(file.uri)
        self._record(file, "skipped", content_key, conversion, document=None, failure=failure)
        self._relink(previous, None)

    def remove_file(self, uri: str) -> bool:
        """Forget a file, and its document if no other file holds it; False if the file is not known."""
        previous = self._document_of(uri)
        known = self.connection.execute("DELETE FROM files WHERE uri = ?", (uri,)).rowcount > 0
        self._relink(previous, None)
        return known

    # --- embeddings and facts

    def add_embeddings(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        """Store vectors, (dimension,) float32 each, under their keys."""
        self.connection.executemany(
            "INSERT INTO embeddings (key, vector) VALUES (?, ?) ON CONFLICT (key) DO NOTHING",
            ((key, vector.astype("<f4").tobytes()) for key, vector in vectors.items()),
        )

    def set_meta(self, key: str, value: str) -> None:
        """Set one of the facts about the whole index."""
        self.connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    # --- the journal

    def start_run(
        self, roots: Sequence[str], *, command: str, settings: Mapping[str, Any]
    ) -> tuple[int, bool]:
        """Note that an ingest or an import begins, and with which settings.

        Returns its row, and whether the one before it was cut off. The oldest are forgotten: an index that is
        watched has a run for every change.
        """
        self.connection.execute("UPDATE runs SET outcome = 'interrupted' WHERE outcome = 'running'")
        last = self.connection.execute("SELECT outcome FROM runs ORDER BY rowid DESC LIMIT 1").fetchone()
        cursor = self.connection.execute(
            "INSERT INTO runs (started_at, pid, roots, outcome, report) VALUES (?, ?, ?, 'running', ?)",
            (
                time.time(),
                os.getpid(),
                _json_of_paths(roots),
                _json({"command": command, "settings": settings}),
            ),
        )
        self.connection.execute("DELETE FROM runs WHERE rowid <= ?", (cursor.lastrowid - HISTORY_RUNS,))
        return cursor.lastrowid, last not in (None, ("finished",))

    def finish_run(self, run: int, outcome: str, report: Mapping[str, Any]) -> None:
        """Note how a run ended, beside the settings that it began with."""
        self.connection.execute(
            "UPDATE runs SET finished_at = ?, outcome = ?, report = json_patch(report, ?) WHERE rowid = ?",
            (time.time(), outcome, _json(report), run),
        )

    def drop_unused_embeddings(self) -> None:
        """Forget the vectors that an ingest stored ahead of a document which then did not come."""
        self.connection.execute("DELETE FROM embeddings WHERE rowid NOT IN (SELECT embedding FROM chunks)")

    # --- the end

    @property
    def documents(self) -> tuple[int, ...]:
        """The rows of the documents that were written so far; they may have been removed again."""
        return tuple(sorted(self._documents))

    def finish(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Drop what nothing refers to and raise the generation if a search could tell.

        Returns the numbers of the chunks that were added and of those that were removed.
        """
        for document in sorted(self._loose_documents):
            if not self._files_of(document):
                self._remove_document(document)
        self.connection.executemany(
            "DELETE FROM embeddings WHERE rowid = ?1"
            " AND NOT EXISTS (SELECT 1 FROM chunks WHERE embedding = ?1)",
            ((row,) for row in self._loose_embeddings),
        )
        if self._changed:
            self.connection.execute(
                "INSERT INTO commits VALUES (?, ?, ?)", (self.generation, secrets.token_hex(16), time.time())
            )
            self._trim_history()
        return tuple(sorted(self._added)), tuple(sorted(self._removed))

    def _trim_history(self) -> None:
        start = self.generation - HISTORY_GENERATIONS
        if start > 0:
            self.connection.execute("DELETE FROM removed_chunks WHERE generation <= ?", (start,))
            self.connection.execute("DELETE FROM commits WHERE generation < ?", (start,))

    # --- documents

    def _document_of(self, uri: str) -> int | None:
        row = self.connection.execute("SELECT document FROM files WHERE uri = ?", (uri,)).fetchone()
        return row[0] if row else None

    def _files_of(self, document: int) -> int:
        return self.connection.execute(
            "SELECT count(*) FROM files WHERE document = ?", (document,)
        ).fetchone()[0]

    def _new_document(self, content_key: bytes, preferred_id: str | None) -> int:
        ids = (document_id(content_key, attempt) for attempt in count())
        id_ = next(
            candidate
            for candidate in chain([preferred_id] if preferred_id else [], ids)
            if not self.connection.execute("SELECT 1 FROM documents WHERE id = ?", (candidate,)).fetchone()
        )
        cursor = self.connection.execute(
            "INSERT INTO documents (id, content_key, conversion, size, title, format, parser, metadata,"
            " warnings, text, text_characters, indexed_at)"
            " VALUES (?, ?, '', 0, '', '', '', '', '', x'', 0, 0)",
            (id_, content_key),
        )
        return cursor.lastrowid

    def _write_document(self, document: int, file: SourceFile, conversion: Conversion) -> str:
        self._documents.add(document)
        parsed = conversion.document
        (id_,) = self.connection.execute(
            "UPDATE documents SET content_key = ?, conversion = ?, size = ?, title = ?, format = ?,"
            " parser = ?, metadata = ?, warnings = ?, text = ?, text_characters = ?, indexed_at = ?"
            " WHERE rowid = ? RETURNING id",
            (
                conversion.content_key,
                conversion.conversion,
                file.size,
                parsed.title,
                parsed.format,
                parsed.parser,
                _json(dict(parsed.metadata)),
                _json(parsed.warnings),
                zlib.compress(parsed.text.encode(), _COMPRESSION_LEVEL),
                len(parsed.text),
                time.time(),
                document,
            ),
        ).fetchall()[0]
        return id_

    def _relink(self, previous: int | None, document: int | None) -> None:
        """A file went from one document to another: both are found under other paths now, or not at all."""
        if previous == document:
            return
        if document is not None:
            self._relocate(document)
        if previous is not None:
            if self._files_of(previous):
                self._relocate(previous)
            else:
                self._loose_documents.add(previous)  # another file may be about to take it over

    def _relocate(self, document: int) -> None:
        """List the chunks as removed and added, so that whoever filters by path takes a fresh look."""
        known = "document = ? AND added_generation < ?"
        self.connection.execute(
            f"INSERT OR IGNORE INTO removed_chunks SELECT ?, rowid, id FROM chunks WHERE {known}",
            (self.generation, document, self.generation),
        )
        self.connection.execute(
            f"UPDATE chunks SET added_generation = ? WHERE {known}",
            (self.generation, document, self.generation),
        )
        self._changed = True

    def _remove_document(self, document: int) -> None:
        rows = self.connection.execute(
            "SELECT rowid, id, embedding FROM chunks WHERE document = ?", (document,)
        ).fetchall()
        self._remove_chunks(rows)
        self.connection.execute("DELETE FROM documents WHERE rowid = ?", (document,))

    # --- chunks

    def _write_chunks(self, document: int, id_: str, conversion: Conversion) -> None:
        """Bring the document's chunks to what the conversion says, touching only what differs."""
        old = self._chunks_of(document)
        embeddings = self._embedding_rows(conversion.embedding_keys)
        ids = chunk_ids(id_, conversion.document.text, conversion.drafts)
        new, moved, kept = [], [], set()
        for ordinal, (chunk, draft, key) in enumerate(
            zip(ids, conversion.drafts, conversion.embedding_keys, strict=True)
        ):
            row = _ChunkRow(ordinal, draft.start, draft.end, draft.page, _json(draft.boxes), draft.context)
            number, embedding, before = old.get(chunk, (None, None, None))
            if number is None or embedding != embeddings[key]:
                new.append((chunk, draft, row, embeddings[key]))
                continue
            kept.add(chunk)
            if row != before:
                moved.append((*row, number))
        self._remove_chunks([(old[c][0], c, old[c][1]) for c in old if c not in kept])
        self.connection.executemany(
            'UPDATE chunks SET ordinal = ?, start = ?, "end" = ?, page = ?, boxes = ?, context = ?'
            " WHERE rowid = ?",
            moved,
        )
        for chunk, draft, row, embedding in new:
            self._add_chunk(document, conversion.document.text, chunk, draft, row, embedding)
        self._changed = self._changed or bool(moved)

    def _chunks_of(self, document: int) -> dict[str, tuple[int, int, _ChunkRow]]:
        rows = self.connection.execute(
            'SELECT id, rowid, embedding, ordinal, start, "end", page, boxes, context FROM chunks'
            " WHERE document = ?",
            (document,),
        )
        return {id_: (number, embedding, _ChunkRow(*rest)) for id_, number, embedding, *rest in rows}

    def _embedding_rows(self, keys: Iterable[bytes]) -> dict[bytes, int]:
        find = "SELECT rowid FROM embeddings WHERE key = ?"
        return {key: self.connection.execute(find, (key,)).fetchone()[0] for key in set(keys)}

    def _add_chunk(
        self, document: int, text: str, chunk: str, draft: ChunkDraft, row: _ChunkRow, embedding: int
    ) -> None:
        cursor = self.connection.execute(
            "INSERT INTO chunks (id, document, heading_path, kind, text, embedding, added_generation,"
            ' ordinal, start, "end", page, boxes, context) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
            (
                chunk,
                document,
                _json(draft.heading_path),
                draft.kind,
                text[draft.start : draft.end],
                embedding,
                self.generation,
                *row,
            ),
        )
        self._added.add(cursor.lastrowid)
        self._changed = True

    def _remove_chunks(self, rows: Sequence[tuple[int, str, int]]) -> None:
        """Remove chunks, given as number, id and embedding row."""
        if not rows:
            return
        self.connection.executemany(
            "INSERT OR IGNORE INTO removed_chunks VALUES (?, ?, ?)",
            ((self.generation, number, chunk) for number, chunk, _ in rows),
        )
        self.connection.executemany(
            "DELETE FROM chunks WHERE rowid = ?", ((number,) for number, _, _ in rows)
        )
        numbers = {number for number, _, _ in rows}
        self._removed |= numbers - self._added
        self._added -= numbers
        self._loose_embeddings |= {embedding for _, _, embedding in rows}
        self._changed = True

    # --- rows of the table of files

    def _record(
        self,
        file: SourceFile,
        status: str,
        content_key: bytes | None,
        conversion: str,
        *,
        document: int | None,
        failure: Failure = Failure("", "", ""),  # noqa: B008 - immutable
    ) -> None:
        self.connection.execute(
            "INSERT OR REPLACE INTO files (uri, path, document, size, mtime_ns, content_key, conversion,"
            " status, code, reason, hint, checked_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                file.uri,
                file.path,
                document,
                file.size,
                file.mtime_ns,
                content_key,
                conversion,
                status,
                *failure,
                file.checked_ns,
            ),
        )


def _json_of_paths(paths: Sequence[str]) -> str:
    """In ASCII: a name that is not UTF-8 has surrogates, which SQLite's text cannot hold."""
    return json.dumps(paths, separators=(",", ":"))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
