"""What to do with a file that was found: nothing, note something down, or read it."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from indexer import catalog_reader, image_vectors
from indexer.catalog import Catalog
from indexer.catalog_reader import FileRecord
from indexer.catalog_writer import SourceFile
from indexer.discovery import FoundFile
from indexer.identity import content_key
from indexer.parsers.errors import NoExtractableText
from indexer.parsers.formats import IMAGE_FORMATS, format_by_name

# A file may be written to twice within one tick of the file system's clock. One that was this young when it
# was read is not trusted to be unchanged by its time and size alone; its bytes are compared (as git does).
RACY_NS = 2_000_000_000
MAX_WAITING_COPIES = 10_000
CHANGED_WHILE_READ = "changed-while-read"


class Unchanged(NamedTuple):
    """A file that is indexed as it is."""

    file: SourceFile


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


class Planner:
    """Decides for one found file after another. Runs in one thread, while another commits."""

    def __init__(self, catalog: Catalog, settings: PlanSettings) -> None:
        self._catalog = catalog
        self._settings = settings

    def decide(self, found: FoundFile) -> Decision:
        """Compare a file with what is known about it; reads its bytes only if its size or time differ."""
        file = SourceFile(
            found.uri, os.fsencode(found.path), found.size, found.mtime_ns, checked_ns=time.time_ns()
        )
        with self._catalog.read() as connection:
            record = catalog_reader.file_record(connection, found.uri)
        if found.problem is not None:
            problem = found.problem
            return Failed(file, problem.code, problem.message, problem.hint)
        if found.ignored:
            known = record is not None and (record.status, record.reason) == ("skipped", found.reason)
            return Skipped(file, "ignored", found.reason, "", known=known)
        if record is not None and self._current(record) and _looks_unchanged(record, file):
            return _as_before(record, file)
        return self._compare_content(record, file, found.path)

    def _compare_content(self, record: FileRecord | None, file: SourceFile, path: Path) -> Decision:
        if file.size > self._settings.max_bytes:
            return ToRead(file, path, None)
        try:
            key = content_key(_sha256(path), path.name)
        except OSError as error:
            return Failed(
                file,
                "unreadable-file",
                f"{file.uri} cannot be read ({error.strerror or error}).",
                "Check that it still exists and that you may read it.",
            )
        if record is not None and self._current(record) and record.content_key == key:
            if record.status == "indexed" and record.document is not None:
                return Linked(file, record.document, key, touched=True)
            return _as_before(record, file, known=False)  # noted again, with the new time
        conversion = self._settings.conversion
        with self._catalog.read() as connection:
            document = catalog_reader.document_with_content(connection, key, conversion)
            copy = catalog_reader.file_not_indexed(connection, key, conversion)
        if document is not None and self._lacks_vector(document):
            return ToRead(file, path, key)
        if document is not None:
            touched = record is not None and record.document == document and record.status == "indexed"
            return Linked(file, document, key, touched=touched)
        if copy is not None and self._current(copy):
            return _as_before(copy, file, known=False)
        return ToRead(file, path, key)

    def _current(self, record: FileRecord) -> bool:
        """Whether reading the same bytes again would end the same."""
        if record.status == "failed":
            settings = self._settings
            if (
                settings.retry_failed
                or record.code == CHANGED_WHILE_READ
                or (settings.have_password and record.code.startswith("encrypted"))
                or (settings.embed_pictures and _is_textless_picture(record))
            ):
                return False
        elif record.document is not None and self._lacks_vector(record.document):
            return False
        return record.conversion == self._settings.conversion

    def _lacks_vector(self, document: int) -> bool:
        """Whether it is a picture that was indexed without an image embedder, or imported."""
        if not self._settings.embed_pictures:
            return False
        with self._catalog.read() as connection:
            return image_vectors.is_missing(connection, document)


def _looks_unchanged(record: FileRecord, file: SourceFile) -> bool:
    settled = record.checked_ns - record.mtime_ns > RACY_NS
    return settled and (record.size, record.mtime_ns) == (file.size, file.mtime_ns)


def _is_textless_picture(record: FileRecord) -> bool:
    """Whether the file failed for a reason that none is with an image embedder."""
    return record.code == NoExtractableText.code and format_by_name(record.uri) in IMAGE_FORMATS


def _as_before(record: FileRecord, file: SourceFile, *, known: bool = True) -> Decision:
    match record.status:
        case "failed":
            return Failed(file, record.code, record.reason, record.hint, record.content_key, known)
        case "skipped":
            return Skipped(file, record.code, record.reason, record.hint, record.content_key, known)
    return Unchanged(file)


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
