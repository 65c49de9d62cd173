"""What goes into the pool of parse workers and what comes out of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from indexer.chunking.values import ChunkDraft
from indexer.errors import IndexerError
from indexer.parsers.errors import error_from_code
from indexer.parsers.options import ParseOptions
from indexer.types import ParsedDocument
from indexer.worker_wire import Message, document_from_json, drafts_from_json

_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseLimits:
    """What one file may take."""

    seconds: float = 120.0
    seconds_per_ocr_page: float = 60.0  # added to `seconds` for every page that is read by OCR
    max_memory_bytes: int = 2048 * _MIB  # that it may ask the system for
    max_total_memory_bytes: int | None = None  # that all files in work may hold; None: see worker_memory
    max_output_bytes: int = 512 * _MIB  # of the document and its chunks as JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSettings:
    """How workers chunk."""

    tokenizer_path: Path
    max_tokens: int


@dataclass(frozen=True, slots=True)
class ParseTask:
    """A file to parse. `tag` is the caller's, and comes back with the result."""

    path: Path
    tag: Any = None


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """What became of a file: exactly one of `document`, `error` and `skipped` says so.

    `sha256`, `size` and `mtime_ns` are those of the bytes that were parsed; empty when none could be read.
    """

    task: ParseTask
    document: ParsedDocument | None = None
    chunks: tuple[ChunkDraft, ...] = ()
    error: IndexerError | None = None
    skipped: str = ""  # why the file is deliberately not a document
    sha256: str = ""
    size: int = 0
    mtime_ns: int = 0
    seconds: float = 0.0  # in the worker


def settings_message(limits: ParseLimits, options: ParseOptions, chunking: ChunkSettings | None) -> Message:
    """What a worker is told first."""
    chunks = None
    if chunking is not None:
        chunks = {"tokenizer_path": str(chunking.tokenizer_path), "max_tokens": chunking.max_tokens}
    return {**asdict(limits), "options": asdict(options), "chunking": chunks}


def result_from_message(task: ParseTask, message: Message) -> ParsedFile:
    """A worker's last word on a file."""
    facts = {key: message[key] for key in ("sha256", "size", "mtime_ns", "seconds") if key in message}
    if message["kind"] == "parsed":
        document, chunks = document_from_json(message["document"]), drafts_from_json(message["chunks"])
        return ParsedFile(task, document=document, chunks=chunks, **facts)
    if message["kind"] == "skipped":
        return ParsedFile(task, skipped=message["reason"], **facts)
    return ParsedFile(
        task, error=error_from_code(message["code"], message["message"], message["hint"]), **facts
    )
