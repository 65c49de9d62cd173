"""A bound on the memory of all parse workers together: beyond it, the largest is killed."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

_INTERVAL_SECONDS = 0.05  # in which a worker may take a hundred megabytes more
_BYTES_PER_WORKER = 448 << 20  # that a usual document, or a page in OCR, is well within
# Of the memory that one file may ask for: 1.37 GB of 2 GiB for the workers and their parent, so that they are
# within 1.5 GB with what is taken between two looks.
_HELD = 0.6375


class Budget(NamedTuple):
    """What parse workers may hold."""

    least_bytes: int  # the workers alone: so much in any case
    all_bytes: int  # with the process that they work for, which holds an index and perhaps a model


def default_budget(num_workers: int, max_memory_bytes: int) -> Budget:
    """That of so many workers together: far from what each may ask for, times their number."""
    return Budget(num_workers * _BYTES_PER_WORKER, int(_HELD * max_memory_bytes))


class MemoryGuard:
    """Watches processes from a thread of its own, as the pool's may be waiting for somebody.

    The pool takes a worker that is killed here for one that died of its file, which is then tried once more
    alone: two files that are large together cost a second try, one that is too large for itself is reported.
    """

    def __init__(self, budget: Budget, processes: Callable[[], Sequence[subprocess.Popen[bytes]]]) -> None:
        self._budget = budget
        self._processes = processes
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch, unless it has begun."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ragserve-memory-guard", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop watching, for good."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_INTERVAL_SECONDS):
            sizes = {process: resident_bytes(process.pid) for process in self._processes()}
            own = resident_bytes(os.getpid())
            if sum(sizes.values()) > max(self._budget.least_bytes, self._budget.all_bytes - own):
                max(sizes, key=lambda process: sizes[process]).kill()


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 where the system does not say."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
