"""The other end of `indexer.workers`: a process that reads, parses and chunks one file at a time.

It limits itself, so that it stays limited while nobody watches: the kernel's alarm clock kills it at the
deadline, whatever it is doing; a resource limit bounds its memory; it dies with its parent. What a document
makes a library do in here can neither open a connection nor start a program nor write a file.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import resource
import signal
import stat
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from indexer.errors import IndexerError
from indexer.parsers.detect import detect_format
from indexer.parsers.errors import (
    DocumentTooLarge,
    NotARegularFile,
    ParseError,
    ParserOutOfMemory,
    UnreadableFile,
)
from indexer.parsers.failures import file_title, too_large
from indexer.parsers.options import ParseOptions
from indexer.parsers.registry import parse
from indexer.worker_wire import Message, decode, document_to_json, drafts_to_json, encode

if TYPE_CHECKING:
    from indexer.chunking import ChunkDraft
    from indexer.types import ParsedDocument

_PR_SET_PDEATHSIG = 1
_LARGEST_REQUEST = 1 << 20  # bytes: settings, or one path
_LARGEST_WRITTEN_FILE = 64 << 20  # bytes: only Python's caches are written, and what libraries say on stderr
_FORBIDDEN = frozenset(
    {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg"}
    | {"subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"}
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

Chunker = Callable[["ParsedDocument"], "list[ChunkDraft]"]


def main(descriptor: int, parent: int) -> None:
    """Serve the parent process until it closes the pipe."""
    connection = Connection(descriptor)
    _die_with(parent)
    try:
        settings = decode(connection.recv_bytes(_LARGEST_REQUEST))
        worker = _Worker(connection, settings)
        _harden(settings["max_memory_bytes"])
        connection.send_bytes(encode({"kind": "ready"}))
        while True:
            request = decode(connection.recv_bytes(_LARGEST_REQUEST))
            worker.serve(os.fsdecode(bytes.fromhex(request["path"])))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # nobody is waiting for an answer any more


class _Worker:
    """Answers requests to parse a path."""

    def __init__(self, connection: Connection, settings: Message) -> None:
        self._connection = connection
        self._options = ParseOptions(**settings["options"])
        self._seconds = float(settings["seconds"])
        self._seconds_per_ocr_page = float(settings["seconds_per_ocr_page"])
        self._max_output_bytes = int(settings["max_output_bytes"])
        self._chunk = _load_chunker(settings["chunking"])
        self._deadline = 0.0

    def serve(self, path: str) -> None:
        """Parse the file and send what became of it."""
        started = time.monotonic()
        self._deadline = started + self._seconds
        _set_alarm(self._seconds)
        answer = encode(self._answer(path))
        if len(answer) > self._max_output_bytes:
            error = DocumentTooLarge(
                f"{file_title(path)} gives more text than the limit of {self._max_output_bytes >> 20} MiB.",
                hint="Split it, or raise max_output_bytes.",
            )
            answer = encode(_failure(error))
        _set_alarm(0)
        self._connection.send_bytes(answer)

    def _answer(self, path: str) -> Message:
        started = time.monotonic()
        try:
            answer = self._parse(path)
        except IndexerError as error:
            answer = _failure(error)
        except MemoryError:
            answer = _failure(
                ParserOutOfMemory(
                    f"{file_title(path)} needs more memory to read than allowed.",
                    hint="Split it, or raise max_memory_bytes.",
                )
            )
        except Exception as error:  # noqa: BLE001 - a library met a file that its authors did not think of
            answer = _failure(
                ParseError(
                    f"{file_title(path)} could not be read ({type(error).__name__}: {str(error)[:200]}).",
                    hint="Open it in its own program and save it again; if it is intact, report a bug.",
                )
            )
        return answer | {"seconds": time.monotonic() - started}

    def _parse(self, path: str) -> Message:
        data, status = _read_file(path, self._options)
        facts = {
            "sha256": hashlib.sha256(data).hexdigest(),
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
        }
        if detect_format(data, path) is None:
            reason = "It is empty on purpose." if not data else "It is a binary of no known kind."
            return {"kind": "skipped", "reason": reason, **facts}
        try:
            document = parse(data, name=path, options=self._options, before_ocr_page=self._before_ocr_page)
        except IndexerError as error:
            return _failure(error) | facts
        del data
        drafts = self._chunk(document)
        return {
            "kind": "parsed",
            "document": document_to_json(document),
            "chunks": drafts_to_json(drafts),
            **facts,
        }

    def _before_ocr_page(self) -> None:
        """A page of OCR takes seconds and there may be many: each puts the deadline off."""
        self._deadline += self._seconds_per_ocr_page
        _set_alarm(max(1.0, self._deadline - time.monotonic()))
        self._connection.send_bytes(encode({"kind": "ocr-page"}))


def _read_file(path: str, options: ParseOptions) -> tuple[bytes, os.stat_result]:
    """The bytes of a regular file; never waits for a pipe or a device, never reads more than the limit."""
    try:
        # Without O_NONBLOCK, opening a named pipe waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotARegularFile(
                f"{file_title(path)} is not a regular file.", hint="Point at a file or a folder."
            )
        if status.st_size > options.max_bytes:
            raise too_large(path, status.st_size, options)
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(options.max_bytes + 1)
        if len(data) > options.max_bytes:  # it grew, or is a file of /proc
            raise too_large(path, len(data), options)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)
    return data, status


def _unreadable(path: str, error: OSError) -> UnreadableFile:
    return UnreadableFile(
        f"{file_title(path)} cannot be read ({error.strerror or error}).",
        hint="Check that it still exists and that you may read it.",
    )


def _failure(error: IndexerError) -> Message:
    return {"kind": "failed", "code": error.code, "message": error.message, "hint": error.hint}


def _load_chunker(settings: Message | None) -> Chunker:
    """The function that chunks a document; without settings, documents are not chunked."""
    if settings is None:
        return lambda document: []
    from indexer.chunking import chunk_document
    from indexer.tokenization import ChunkTokenizer

    tokenizer = ChunkTokenizer(settings["tokenizer_path"])
    return lambda document: chunk_document(document, tokenizer, max_tokens=settings["max_tokens"])


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; elsewhere than on Linux the pipe's end does."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _set_alarm(seconds: float) -> None:
    """Have the kernel kill this process after that time, even amid native code; 0 calls it off."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _harden(max_memory_bytes: int) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower_limit(resource.RLIMIT_FSIZE, _LARGEST_WRITTEN_FILE)
    # The data segment counts memory that can be written to; the address space, what is reserved.
    _lower_limit(resource.RLIMIT_DATA, max_memory_bytes)
    sys.addaudithook(_forbid)


def _lower_limit(kind: int, limit: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _forbid(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook. PermissionError is what libraries expect of a system that says no."""
    if event == "open":
        path, mode, flags = arguments
        if (
            isinstance(flags, int)
            and flags & _WRITING
            and "__pycache__" not in str(path)
            and path != os.devnull
        ):
            raise PermissionError(f"a parse worker does not write files ({mode})")
    elif event in _FORBIDDEN:
        raise PermissionError(f"a parse worker does not use {event}")
