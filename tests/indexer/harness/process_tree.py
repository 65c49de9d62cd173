"""How much memory a process and all that it started hold, sampled while they work."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Self

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class MemorySampler:
    """Samples the resident memory of a process (this one) and its descendants in a thread; Linux only.

    Pages that processes share are counted in each of them, so the sum errs on the high side.
    """

    def __init__(self, *, root: int | None = None, interval_s: float = 0.1) -> None:
        self._root = os.getpid() if root is None else root
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.peak_bytes = max(self.peak_bytes, tree_bytes(self._root))
            self._stopping.wait(self._interval_s)


def tree_bytes(root: int) -> int:
    """Resident bytes of a process and its descendants, now."""
    children: dict[int, list[int]] = defaultdict(list)
    resident: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        children[int(fields[1])].append(int(entry.name))
        resident[int(entry.name)] = int(fields[21]) * _PAGE_BYTES
    total, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        total += resident.get(process, 0)
        waiting += children[process]
    return total
