"""Vectors near a question, read from disk while its answer is being generated.

The next round asks for something near, and the nearer the longer the answer gets. What it will compare is
brought in before it is known, as TeleRAG (arXiv 2502.20969, section 4) brings the clusters nearest to the
query of now to the GPU: as many bytes as the disk hands over in the time that generating is expected to take.
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
_TRY_EVERY = 32  # blocks, where there was nothing to read: the index may have grown since


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
        self._lock = threading.Lock()  # guards all below
        self._blocks_to_skip = 0
        self._block_seconds: float | None = None
        self._bytes_per_second: float | None = None

    @property
    def budget_bytes(self) -> int:
        """How much the next block has time for: bandwidth times expected seconds."""
        if self._block_seconds is None or self._bytes_per_second is None:
            return _FIRST_BYTES
        return min(int(self._block_seconds * self._bytes_per_second), _MAX_BYTES)

    @contextmanager
    def during(self, query: str) -> Iterator[Callable[[str], None]]:
        """Reads what is near a query until the block is left, on a thread of its own.

        The block gets a function to call with a query that is nearer to what will be asked: from then on,
        what is near that one is read. Where there was nothing on disk to read, it is tried again for one
        block in 32 only.
        """
        if self._skips():
            yield lambda _: None
            return
        aim, began = _Aim(query), self._clock()
        reading = threading.Thread(target=self._run, args=(aim,), name="retriever-read-ahead", daemon=True)
        reading.start()
        try:
            yield aim.move
        finally:
            aim.end()
            with self._lock:
                self._block_seconds = _average(self._block_seconds, self._clock() - began)
            reading.join()  # it is between two rows, or has not found them yet

    def _skips(self) -> bool:
        with self._lock:
            if self._blocks_to_skip == 0:
                return False
            self._blocks_to_skip -= 1
            return True

    def _run(self, aim: _Aim) -> None:
        is_first = True  # of the rows near a later query, many are in memory: that says little of the disk
        while (query := aim.next()) is not None:
            began = self._clock()
            try:
                num_bytes = self._read(query, self.budget_bytes, stopped=aim.has_moved)
            except Exception:  # noqa: BLE001  what fails here fails in the next search, which somebody waits for
                _log.warning("Reading ahead failed.", exc_info=True)
                return
            seconds = self._clock() - began
            with self._lock:
                if not num_bytes and not aim.has_moved():
                    self._blocks_to_skip = _TRY_EVERY - 1
                    return
                if is_first and num_bytes and seconds > 0:
                    self._bytes_per_second = _average(self._bytes_per_second, num_bytes / seconds)
            is_first = False


class _Aim:
    """Near which query to read: one thread moves it, another follows."""

    def __init__(self, query: str) -> None:
        self._changed = threading.Condition()
        self._next: str | None = query
        self._last = query
        self._ended = False

    def move(self, query: str) -> None:
        with self._changed:
            if query != self._last:
                self._next = self._last = query
                self._changed.notify()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()

    def has_moved(self) -> bool:
        return self._ended or self._next is not None

    def next(self) -> str | None:
        """Waits for the next query; None is the end."""
        with self._changed:
            self._changed.wait_for(self.has_moved)
            if self._ended:
                return None
            query, self._next = self._next, None
            return query


def _average(old: float | None, new: float) -> float:
    return new if old is None else old + _WEIGHT * (new - old)
