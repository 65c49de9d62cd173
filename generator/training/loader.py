"""Batches prepared ahead of time by a background thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

from generator.training.errors import DataLoadingFailed

T = TypeVar("T")


class PrefetchDataLoader(Generic[T]):
    """Iterates over `make(step)` for steps `first` to `last` - 1, at most `depth` of them ready ahead.

    `make` runs in one background thread and is a pure function of the step, so that a resumed run sees the
    batches that an uninterrupted one would have. An exception in it surfaces in the consumer. Leaving the
    `with` block (or `close`) stops the thread and waits for it.
    """

    def __init__(self, make: Callable[[int], T], *, first: int, last: int, depth: int = 4) -> None:
        if depth < 1:
            raise ValueError("depth must be at least 1")
        self._make = make
        self._steps = range(first, last)
        self._ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=depth)
        self._stop = threading.Event()
        self._started = time.perf_counter()
        self._waited = 0.0
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    @property
    def waited_seconds(self) -> float:
        """How long the consumer has waited for data so far."""
        return self._waited

    @property
    def waiting_share(self) -> float:
        """Share of the consumer's time so far that it spent waiting for data, 0 to 1."""
        return self._waited / max(time.perf_counter() - self._started, 1e-9)

    def __iter__(self) -> Iterator[T]:
        for _ in self._steps:
            began = time.perf_counter()
            item, error = self._ready.get()
            self._waited += time.perf_counter() - began
            if error is not None:
                self.close()
                raise DataLoadingFailed(
                    f"Preparing a batch failed: {type(error).__name__}: {error}."
                ) from error
            yield item  # type: ignore[misc]

    def __enter__(self) -> PrefetchDataLoader[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the thread and wait for it; safe to call twice."""
        self._stop.set()
        while self._thread.is_alive():
            # The thread may be blocked on a full queue: make room until it notices the stop.
            try:
                self._ready.get(timeout=0.05)
            except queue.Empty:
                continue

    def _run(self) -> None:
        for step in self._steps:
            if self._stop.is_set():
                return
            try:
                item = (self._make(step), None)
            except Exception as error:  # noqa: BLE001 - handed to the consumer, which raises it
                self._ready.put((None, error))
                return
            self._ready.put(item)
