"""How one system ingests files, ours or a peer's, in a process of its own. Needs nothing but Python.

A task comes as JSON on standard input; the last line on standard output is JSON. "index" makes a searchable
index on disk and asks it the task's questions; "chunk" only parses and chunks; "split" only chunks texts
that are in memory. What happens once however much is ingested (imports, the model) is done before the clock
starts, and timed apart.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import statistics
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

K = 5
_SAMPLES_PER_SECOND = 10
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(slots=True)
class Chunked:
    """What files became."""

    names: set[str] = field(default_factory=set)  # of the files that gave any chunk
    chunks: int = 0
    characters: int = 0
    details: dict[str, Any] = field(default_factory=dict)  # further figures

    def add(self, name: str, text: str) -> None:
        self.names.add(name)
        self.chunks += 1
        self.characters += len(text)

    @classmethod
    def of(cls, chunks: Iterable[tuple[str, str]]) -> Chunked:
        """From (name of the file, text of the chunk)."""
        chunked = cls()
        for name, text in chunks:
            chunked.add(name, text)
        return chunked


class System(ABC):
    """One that ingests. `task` has the model's folder, the number of cores, and the dtype that peers use."""

    version = ""

    def __init__(self, task: Mapping[str, Any]) -> None:
        self.task = task

    @abstractmethod
    def load(self, *, embedding: bool) -> None:
        """Import what is needed, and have the embedding model loaded and warm if it will be."""

    @abstractmethod
    def index(self, files: Sequence[Path], folder: Path) -> Chunked:
        """Parse, chunk and embed the files, and leave an index on disk in the folder."""

    @abstractmethod
    def search(self, question: str) -> list[str]:
        """The names of the files that the K nearest chunks come from."""

    @abstractmethod
    def chunk(self, files: Sequence[Path]) -> Chunked:
        """Parse and chunk the files, and throw the chunks away."""


class Splitter(ABC):
    """One that only chunks."""

    version = ""

    def __init__(self, task: Mapping[str, Any]) -> None:
        self.task = task

    @abstractmethod
    def load(self, texts: Sequence[str]) -> None:
        """Import what is needed, and make ready whatever is not chunking."""

    @abstractmethod
    def prepare(self) -> None:
        """Have a chunker ready that remembers nothing of an earlier round."""

    @abstractmethod
    def split(self) -> int:
        """Chunk the texts; how many chunks there were."""


def main(systems: Mapping[str, Callable[[Mapping[str, Any]], System | Splitter]]) -> None:
    """Do the task on standard input."""
    task = json.load(sys.stdin)
    adopt_orphans()
    system = systems[task["system"]](task)
    figures = split(system, task) if isinstance(system, Splitter) else ingest(system, task)
    print()  # whatever was printed before had perhaps no end of line
    print(json.dumps({"version": system.version, **figures}), flush=True)
    end_children()


def ingest(system: System, task: Mapping[str, Any]) -> dict[str, Any]:
    """What indexing files, or only chunking them, came to."""
    embedding = task["action"] == "index"
    started = time.perf_counter()
    system.load(embedding=embedding)
    loaded = time.perf_counter()
    files = [Path(name) for name in task["files"]]
    done = system.index(files, Path(task["folder"])) if embedding else system.chunk(files)
    ended = time.perf_counter()
    figures: dict[str, Any] = {
        "load_seconds": round(loaded - started, 2),
        "seconds": round(ended - loaded, 3),
        "files": len(done.names),
        "files_by_format": dict(sorted(Counter(Path(name).suffix[1:] for name in done.names).items())),
        "chunks": done.chunks,
        "characters": done.characters,
        **done.details,
    }
    if embedding:
        found = [name in system.search(question) for question, name in task["questions"]]
        figures["found"] = round(sum(found) / max(1, len(found)), 3)
    return figures


def split(splitter: Splitter, task: Mapping[str, Any]) -> dict[str, Any]:
    """How fast texts are chunked, the median of the rounds."""
    texts = json.loads(Path(task["texts"]).read_text(encoding="utf-8"))
    splitter.load(texts)
    seconds, chunks = [], 0
    for _ in range(task["rounds"]):
        splitter.prepare()
        started = time.perf_counter()
        chunks = splitter.split()
        seconds.append(time.perf_counter() - started)
    size = sum(len(text.encode()) for text in texts)
    return {
        "chunks": chunks,
        "bytes": size,
        "megabytes_per_second": round(size / 1e6 / statistics.median(seconds), 3),
    }


class PeakMemory:
    """The most resident memory of a process and all that it started, by looking ten times a second.

    Pages that processes share count in each of them, so the sum errs on the high side. A context manager
    around the process's life. The tests' harness has its like; this file runs where nothing of ours is.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(1 / _SAMPLES_PER_SECOND):
            self.bytes = max(self.bytes, resident_bytes(self._pid))


def resident_bytes(pid: int) -> int:
    """Bytes of memory that a process and its descendants hold now."""
    total = 0
    for member in [pid, *descendants(pid)]:
        with suppress(OSError):  # it has just ended
            total += int(Path(f"/proc/{member}/statm").read_text().split()[1]) * _PAGE
    return total


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have started."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                stat = Path(entry.path, "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:  # it has just ended
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = children.get(pid, [])
    for member in found:  # grows as it goes
        found += children.get(member, [])
    return found


def adopt_orphans() -> None:
    """Let processes whose parents end become children of this one: a peer may start a server with a shell
    that is gone at once, and its memory counts."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_children() -> None:
    """End what was started and is still running."""
    for member in descendants(os.getpid()):
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
