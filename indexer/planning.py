"""What to do with a file that was found: nothing, note something down, or read it."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from indexer import catalog_reader, image_vectors
from indexer.catalog import Catalog
from indexer.catalog_reader import FileRecord
from indexer.catalog_writer import SourceFile
from indexer.discovery import FoundFile, UnreadableFile
from indexer.identity import content_key
from indexer.parsers.errors import NoExtractableText, NotARegularFile, OcrUnavailable
from indexer.parsers.formats import IMAGE_FORMATS, format_by_name

# A file may be written to twice within one tick of the file system's clock. One that was this young when it
# was read is not trusted to be unchanged by its time and size alone; its bytes are compared (as git does).
RACY_NS = 2_000_000_000
MAX_WAITING_COPIES = 10_000
CHANGED_WHILE_READ = "changed-while-read"
# Why a file failed that may be over by the next run though its size and time are the same: permissions were
# mended, models for OCR installed, a pipe had stood in its place.
_PASSING = frozenset({CHANGED_WHILE_READ, UnreadableFile.code, NotARegularFile.code, OcrUnavailable.code})


class Unchanged(NamedTuple):
    """Files that are indexed as they are."""

    uris: Sequence[str]  # most files of most ingests: nothing else is made of them


class Linked(NamedTuple):
    """A file whose content is indexed already, under this path or another."""

    file: SourceFile
    document: int
    content_key: bytes
    touched: bool  # it was this document before, only its time has changed


class Skipped(NamedTuple):
    """A file that is deliberately not a document."""

    file: SourceFile
    code: str
    reason: str
    hint: str
    content_key: bytes | None = None
    known: bool = False  # noted down already
    claim: bytes | None = None  # the content that was to be read, which other files may be waiting for


class Failed(NamedTuple):
    """A file that could not be indexed."""

    file: SourceFile
    code: str
    reason: str
    hint: str
    content_key: bytes | None = None
    known: bool = False
    claim: bytes | None = None


class ToRead(NamedTuple):
    """A file that has to be parsed."""

    file: SourceFile
    path: Path
    content_key: bytes | None  # None: too large to be read at all


Decision = Unchanged | Linked | Skipped | Failed | ToRead


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """What counts as unchanged."""

    conversion: str  # fingerprint of how files become chunks
    max_bytes: int  # larger files are not even hashed
    retry_failed: bool = False
    have_password: bool = False  # then encrypted files are tried again
    embed_pictures: bool = False  # then pictures that have no vector are read again


class _Known(NamedTuple):
    """What is known about a file that was found."""

    record: FileRecord
    is_current: bool  # reading the same bytes again would end the same


class Planner:
    """Decides about the files that are found. Runs in one thread, while another commits."""

    def __init__(self, catalog: Catalog, settings: PlanSettings) -> None:
        self._catalog = catalog
        self._settings = settings

    def decide(self, files: Sequence[FoundFile]) -> Iterator[Decision]:
        """Compare files with what is known about them; reads the bytes of those whose size or time differ.

        All are looked up at once, and those that are indexed as they are come first, together. The others
        come one by one, and none is read before it is asked for.
        """
        unchanged: list[str] = []
        others: list[tuple[FoundFile, _Known | None]] = []
        with self._catalog.read() as connection:
            records = catalog_reader.file_records(connection, [found.uri for found in files])
            for found in files:
                record = records.get(found.uri)
                known = None if record is None else _Known(record, self._is_current(connection, record))
                if known is not None and _is_indexed_as_it_is(known, found):
                    unchanged.append(found.uri)
                else:
                    others.append((found, known))
        if unchanged:
            yield Unchanged(unchanged)
        for found, known in others:
            yield self._decide(found, known)

    def _decide(self, found: FoundFile, known: _Known | None) -> Decision:
        path = os.fsencode(found.real_path)
        file = SourceFile(found.uri, path, found.size, found.mtime_ns, checked_ns=time.time_ns())
        if found.problem is not None:
            problem = found.problem
            return Failed(file, problem.code, problem.message, problem.hint)
        if found.ignored:
            noted = known is not None and (known.record.status, known.record.reason)
            return Skipped(file, "ignored", found.reason, "", known=noted == ("skipped", found.reason))
        if known is not None and known.is_current and _looks_unchanged(known.record, found):
            return _as_before(known.record, file)
        return self._compare_content(known, file, found.path)

    def _compare_content(self, known: _Known | None, file: SourceFile, path: Path) -> Decision:
        if file.size > self._settings.max_bytes:
            return ToRead(file, path, None)
        try:
            key = content_key(_sha256(path), path.name)
        except OSError as error:
            return Failed(
                file,
                UnreadableFile.code,
                f"{file.uri} cannot be read ({error.strerror or error}).",
                "Check that it still exists and that you may read it.",
            )
        record = known.record if known is not None else None
        if known is not None and known.is_current and known.record.content_key == key:
            if known.record.status == "indexed" and known.record.document is not None:
                return Linked(file, known.record.document, key, touched=True)
            return _as_before(known.record, file, known=False)  # noted again, with the new time
        conversion = self._settings.conversion
        with self._catalog.read() as connection:
            document = catalog_reader.document_with_content(connection, key, conversion)
            if document is not None:
                if self._lacks_vector(connection, document):
                    return ToRead(file, path, key)
                touched = record is not None and record.document == document and record.status == "indexed"
                return Linked(file, document, key, touched=touched)
            copy = catalog_reader.file_not_indexed(connection, key, conversion)
            if copy is not None and self._is_current(connection, copy):
                return _as_before(copy, file, known=False)
        return ToRead(file, path, key)

    def _is_current(self, connection: sqlite3.Connection, record: FileRecord) -> bool:
        """Whether reading the same bytes again would end the same."""
        if record.status == "failed":
            settings = self._settings
            if (
                settings.retry_failed
                or record.code in _PASSING
                or (settings.have_password and record.code.startswith("encrypted"))
                or (settings.embed_pictures and _is_textless_picture(record))
            ):
                return False
        elif record.document is not None and self._lacks_vector(connection, record.document):
            return False
        return record.conversion == self._settings.conversion

    def _lacks_vector(self, connection: sqlite3.Connection, document: int) -> bool:
        """Whether it is a picture that was indexed without an image embedder, or imported."""
        return self._settings.embed_pictures and image_vectors.is_missing(connection, document)


def _is_indexed_as_it_is(known: _Known, found: FoundFile) -> bool:
    return (
        known.is_current
        and known.record.status == "indexed"
        and _looks_unchanged(known.record, found)
        and found.problem is None
        and not found.ignored
    )


def _looks_unchanged(record: FileRecord, found: FoundFile) -> bool:
    settled = record.checked_ns - record.mtime_ns > RACY_NS
    return settled and (record.size, record.mtime_ns) == (found.size, found.mtime_ns)


def _is_textless_picture(record: FileRecord) -> bool:
    """Whether the file failed for a reason that none is with an image embedder."""
    return record.code == NoExtractableText.code and format_by_name(record.uri) in IMAGE_FORMATS


def _as_before(record: FileRecord, file: SourceFile, *, known: bool = True) -> Decision:
    match record.status:
        case "failed":
            return Failed(file, record.code, record.reason, record.hint, record.content_key, known)
        case "skipped":
            return Skipped(file, record.code, record.reason, record.hint, record.content_key, known)
    return Unchanged([file.uri])


def _sha256(path: Path) -> bytes:
    # Not blocking: should a pipe have taken the file's place, reading it ends at once instead of never.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        return hashlib.file_digest(file, "sha256").digest()


class InFlight:
    """The contents that are being read: a second file with one of them waits instead of being read too.

    At most `MAX_WAITING_COPIES` of a content do. Reading more of them again costs time, and no embedding.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[bytes, tuple[str, list[SourceFile]]] = {}  # uri of what is read, and who waits

    def claim(self, key: bytes, file: SourceFile) -> bool:
        """True if the file is the caller's to read; else it waits for the one that has the same content."""
        with self._lock:
            reading, waiting = self._waiting.setdefault(key, (file.uri, []))
            if reading == file.uri or len(waiting) >= MAX_WAITING_COPIES:
                return True
            waiting.append(file)
            return False

    def release(self, key: bytes, file: SourceFile) -> list[SourceFile]:
        """The file was read and committed, or failed; returns the files that waited for it."""
        with self._lock:
            if key in self._waiting and self._waiting[key][0] == file.uri:
                return self._waiting.pop(key)[1]
            return []
