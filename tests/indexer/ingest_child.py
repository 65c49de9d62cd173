"""Ingests folders, each in a process of its own that kills itself without warning at a given moment.

Reads one JSON object a line from stdin: index, corpus, moment, readers. Answers each with the process id and
the exit status of its process, forked from here, where everything is imported and nothing was used yet.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import faiss  # noqa: F401 - so that the processes need not
import filelock  # noqa: F401
from store_fakes import HashingEmbedder, InProcessReader

from indexer import checkpoint, ingest, reading
from indexer.catalog_writer import CatalogWriter
from indexer.index import Index


def kill_at(call: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """The function, but at its n-th call the process is gone."""
    calls = 0

    def run(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)

    return run


def arm(moment: str, embedder: HashingEmbedder) -> None:
    """Moments are named `where:call`."""
    where, _, call = moment.partition(":")
    places = {
        "embedding": (embedder, "embed_documents"),
        "adding chunks": (CatalogWriter, "_add_chunk"),
        "removing chunks": (CatalogWriter, "_remove_chunks"),
        "before a commit": (CatalogWriter, "finish"),
        "after a commit": (ingest._Run, "_count"),
        "pruning": (CatalogWriter, "remove_file"),
        "writing a checkpoint": (checkpoint, "_write_index"),
        "syncing a file": (checkpoint.os, "fsync"),  # the vectors, the folder, the stamp, the folder
        "clearing up": (Path, "unlink"),
        "the end": (CatalogWriter, "finish_run"),
    }
    if where:
        owner, name = places[where]
        setattr(owner, name, kill_at(int(call), getattr(owner, name)))


def ingest_once(index: str, corpus: str, moment: str, readers: str) -> None:
    embedder = HashingEmbedder()
    if readers == "in process":
        reading.open_reader = lambda settings, embedder: InProcessReader(settings, embedder, [])
        ingest.WINDOW_FILES = 5
    arm(moment, embedder)
    with Index.open(index, embedder=embedder) as opened:
        opened.ingest([corpus], prune=True)


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                ingest_once(**json.loads(line))
                status = 0
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
