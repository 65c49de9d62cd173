"""Vectors near a question, read from disk while its answer is being generated.

The next round asks for something near. What it will compare is brought in before it is known, as TeleRAG
(arXiv 2502.20969, section 4) brings the clusters nearest to the query of now to the GPU: as many bytes as the
disk hands over in the time that generating is expected to take.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

_log = logging.getLogger("retriever.read_ahead")

_WEIGHT = 1 / 4  # of the newest measurement
_FIRST_BYTES = 1 << 20  # before anything is measured
_MAX_BYTES = 256 << 20


class Read(Protocol):
    """What reads; Retriever.read_ahead does."""

    def __call__(self, query: str, max_bytes: int, *, stopped: Callable[[], bool]) -> int:
        """Brings what is near a query into memory; how many bytes were read."""
        ...


class ReadAhead:
    """Reads ahead in the background of blocks, and learns how long they take and how fast the disk is.

    No result depends on it. Threads may share it.
    """

    def __init__(self, read: Read, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()  # guards the two below
        self._block_seconds: float | None = None
        self._bytes_per_second: float | None = None

    @property
    def budget_bytes(self) -> int:
        """How much the next block has time for: bandwidth times expected seconds."""
        if self._block_seconds is None or self._bytes_per_second is None:
            return _FIRST_BYTES
        return min(int(self._block_seconds * self._bytes_per_second), _MAX_BYTES)

    @contextmanager
    def during(self, query: str) -> Iterator[None]:
        """Reads what is near a query until the block is left, on a thread of its own."""
        done, began = threading.Event(), self._clock()
        reading = threading.Thread(
            target=self._run, args=(query, done), name="retriever-read-ahead", daemon=True
        )
        reading.start()
        try:
            yield
        finally:
            done.set()
            with self._lock:
                self._block_seconds = _average(self._block_seconds, self._clock() - began)
            reading.join()  # it is between two rows, or has not found them yet

    def _run(self, query: str, done: threading.Event) -> None:
        began = self._clock()
        try:
            num_bytes = self._read(query, self.budget_bytes, stopped=done.is_set)
        except Exception:  # noqa: BLE001  what fails here fails in the next search, which somebody waits for
            _log.warning("Reading ahead failed.", exc_info=True)
            return
        seconds = self._clock() - began
        if num_bytes and seconds > 0:
            with self._lock:
                self._bytes_per_second = _average(self._bytes_per_second, num_bytes / seconds)


def _average(old: float | None, new: float) -> float:
    return new if old is None else old + _WEIGHT * (new - old)
