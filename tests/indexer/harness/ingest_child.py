"""Ingests folders, each in a process of its own that kills itself without warning at a given moment.

Reads one JSON object a line from stdin (the fields of `Call`). Answers each with the process id and the exit
status of its process, forked from here, where everything is imported and nothing was used yet.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import faiss  # noqa: F401 - so that the processes need not
import filelock  # noqa: F401
from store_fakes import HashingEmbedder, InProcessReader, WideEmbedder

from harness import disk_faults
from indexer import checkpoint, ingest, reading
from indexer.catalog_writer import CatalogWriter
from indexer.errors import IndexerError
from indexer.index import Index
from indexer.types import IngestProgress

TYPED_ERROR = 7  # exit status of an ingest that ended with an IndexerError


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What to do. Moments are named `where:call`; see `places`, and `python` and `disk` in `arm`."""

    index: str
    corpus: str
    moment: str = ""
    readers: str = "in process"  # or "workers"
    wide: bool = False  # vectors as long as those of real embedders
    prune: bool = True
    journal: str = ""  # a file that gets a line for all that was committed, and for how it ended
    disk_error: int = 0  # errno: at a moment of the disk, fail with it instead of dying
    file_size_limit: int = 0  # bytes; larger files cannot be written
    keeps_checkpoint: bool = False  # however much changes: it falls behind the catalog, as a large one may


def places(embedder: HashingEmbedder) -> dict[str, tuple[Any, str]]:
    """The functions whose calls are moments."""
    return {
        "embedding": (embedder, "embed_documents"),
        "adding chunks": (CatalogWriter, "_add_chunk"),
        "removing chunks": (CatalogWriter, "_remove_chunks"),
        "before a commit": (CatalogWriter, "finish"),
        "after a commit": (ingest._Run, "_count"),
        "pruning": (CatalogWriter, "remove_file"),
        "writing a checkpoint": (checkpoint, "_write_index"),
        "syncing a file": (os, "fsync"),  # the vectors, the folder, the stamp, the folder
        "clearing up": (Path, "unlink"),
        "the end": (CatalogWriter, "finish_run"),
    }


class Journal:
    """Says what has happened, in a file that survives whoever writes it."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if path else None

    def write(self, what: str, value: object) -> None:
        if self._descriptor is not None:
            os.write(self._descriptor, f"{json.dumps([what, value])}\n".encode())

    def progress(self, progress: IngestProgress) -> None:
        """Called after every commit of a window."""
        if progress.stage == "index":
            self.write("files done", progress.files_done)


def kill_at(call: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """The function, but at its n-th call the process is gone."""
    counter = itertools.count(1)

    def run(*arguments: Any, **options: Any) -> Any:
        if next(counter) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)

    return run


class PythonCalls:
    """Counts the calls of Python functions and of C functions from Python, in all threads; may die at one."""

    def __init__(self, fatal_call: int) -> None:
        self.count = 0
        self._fatal_call = fatal_call

    def start(self) -> None:
        threading.setprofile(self._observe)
        sys.setprofile(self._observe)

    def stop(self) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _observe(self, frame: object, event: str, argument: object) -> None:
        if event in ("call", "c_call"):
            self.count += 1
            if self.count == self._fatal_call:
                os.kill(os.getpid(), signal.SIGKILL)


def ingest_once(call: Call) -> None:
    embedder = WideEmbedder() if call.wide else HashingEmbedder()
    if call.readers == "in process":
        reading.open_reader = lambda settings, embedder: InProcessReader(settings, embedder, [])
        ingest.WINDOW_FILES = 5
    if call.keeps_checkpoint:
        checkpoint._REWRITTEN_UP_TO_BYTES, checkpoint._MAX_SHARE_BEHIND = 0, 1.0
    if call.file_size_limit:
        limit_file_size(call.file_size_limit)
    where, _, number = call.moment.partition(":")
    journal = Journal(call.journal)
    python_calls = PythonCalls(int(number)) if where == "python" else None
    if where in ("disk", "syncs", "writes"):
        which = {"syncs": disk_faults.Calls.SYNCS, "writes": disk_faults.Calls.WRITES}
        every = disk_faults.Calls.WRITES | disk_faults.Calls.SYNCS
        disk_faults.arm(Path(call.index), int(number), error=call.disk_error, calls=which.get(where, every))
    elif where and python_calls is None:
        owner, name = places(embedder)[where]
        setattr(owner, name, kill_at(int(number), getattr(owner, name)))
    if python_calls is not None:
        python_calls.start()
    with Index.open(call.index, embedder=embedder) as opened:
        report = opened.ingest([call.corpus], prune=call.prune, progress=journal.progress)
    if python_calls is not None:
        python_calls.stop()
        journal.write("calls", python_calls.count)
    elif where in ("disk", "syncs", "writes"):
        journal.write("calls", disk_faults.num_calls())
    journal.write("indexed", report.indexed)
    journal.write("unchanged", report.unchanged)


def limit_file_size(num_bytes: int) -> None:
    """Let writing beyond that fail, as on a disk that is full for the larger files."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            status = 1
            call = Call(**json.loads(line))
            try:
                ingest_once(call)
                status = 0
            except IndexerError as error:
                Journal(call.journal).write("error", error.code)
                status = TYPED_ERROR
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        print(f"pid {pid}", flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
