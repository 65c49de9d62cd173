"""Files to documents and chunks, in worker processes that may die without harm."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from indexer.catalog_writer import SourceFile
from indexer.chunking import ChunkDraft
from indexer.identity import content_key
from indexer.parsers.errors import NoExtractableText, UndecodableText
from indexer.planning import Failed, Skipped, ToRead
from indexer.types import ParsedDocument
from indexer.workers import ChunkSettings, ParsedFile, ParsePool, ParseTask

if TYPE_CHECKING:
    from indexer.embedding import Embedder
    from indexer.ingest_report import IngestSettings

_BYTES_PER_CHUNK = 500  # about, of a draft in memory


class Converted(NamedTuple):
    """A file that was read."""

    file: SourceFile
    content_key: bytes
    document: ParsedDocument
    drafts: Sequence[ChunkDraft]
    seconds: float  # that a worker process spent on it
    claim: bytes | None  # the content that the file was taken to have, which others may be waiting for

    @property
    def weight(self) -> int:
        """About how many bytes it takes while it waits to be embedded."""
        pixels = self.document.thumbnail.rgb if self.document.thumbnail else b""
        return len(self.document.text) + len(pixels) + _BYTES_PER_CHUNK * len(self.drafts)


def accept(
    asked: ToRead,
    file: SourceFile,
    key: bytes,
    document: ParsedDocument,
    drafts: Sequence[ChunkDraft],
    seconds: float,
) -> Converted | Failed:
    """A file that was read, unless what came out cannot be searched or stored."""
    if not drafts:
        return Failed(
            file,
            NoExtractableText.code,
            "The file was read and holds no text that could be searched.",
            "If it should hold some, open it in its own program and save it again.",
            key,
            claim=asked.content_key,
        )
    strings = [document.text, document.title, *document.metadata.values(), *document.warnings]
    for draft in drafts:
        strings += [draft.context, *draft.heading_path]
    try:
        for string in strings:
            string.encode()
    except UnicodeEncodeError:
        return Failed(
            file,
            UndecodableText.code,
            "The file's text holds characters that no encoding can represent.",
            "Save it as UTF-8.",
            key,
            claim=asked.content_key,
        )
    return Converted(file, key, document, drafts, seconds, claim=asked.content_key)


class Reader(Protocol):
    """Reads files, in whatever order they are done."""

    def __enter__(self) -> Self:
        """Be ready to read."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop at once."""

    def read(self, files: Iterable[ToRead]) -> Iterator[Converted | Failed | Skipped]:
        """What became of each file. Takes the next ones as it goes, a bounded number ahead."""

    def stop(self) -> None:
        """Make `read` end soon. Called from another thread."""


def open_reader(settings: IngestSettings, embedder: Embedder) -> Reader:
    """What reads the files of an ingest: worker processes, started when there are files to read."""
    return _WorkerReader(
        ParsePool(
            settings.jobs or _num_cores(),
            options=settings.options,
            limits=settings.limits,
            chunking=ChunkSettings(tokenizer_path=embedder.tokenizer_path, max_tokens=embedder.max_tokens),
        )
    )


class _WorkerReader:
    """Reads through a pool of processes."""

    def __init__(self, pool: ParsePool) -> None:
        self._pool = pool

    def __enter__(self) -> Self:
        self._pool.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.__exit__(kind, error, traceback)

    def read(self, files: Iterable[ToRead]) -> Iterator[Converted | Failed | Skipped]:
        tasks = (ParseTask(file.path, tag=file) for file in files)
        for parsed in self._pool.map_unordered(tasks):
            yield _outcome(parsed)

    def stop(self) -> None:
        with suppress(OSError):  # it was closed in this very moment
            self._pool.stop()


def _outcome(parsed: ParsedFile) -> Converted | Failed | Skipped:
    """What a worker found, noted down for the bytes that it saw; the file may have changed meanwhile."""
    asked: ToRead = parsed.task.tag
    file, key = asked.file, asked.content_key
    if parsed.sha256:
        key = content_key(bytes.fromhex(parsed.sha256), asked.path.name)
        file = file._replace(size=parsed.size, mtime_ns=parsed.mtime_ns)
    if parsed.skipped:
        return Skipped(file, "binary", parsed.skipped, "", key, claim=asked.content_key)
    if parsed.error is not None:
        error = parsed.error
        return Failed(file, error.code, error.message, error.hint, key, claim=asked.content_key)
    return accept(asked, file, key, parsed.document, parsed.chunks, parsed.seconds)


def _num_cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
