"""From a blocking iterator on a thread to the event loop, with a brake."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

from generator.cancellation import Cancellation

T = TypeVar("T")
Make = Callable[[Cancellation], Iterator[T]]


class Relay(Generic[T]):
    """An async context manager that runs `make(cancellation)`'s iterator on `executor`; leaving cancels it.

    An iterator that is still waiting for a thread never starts, one that heeds the cancellation stops at
    once, any other at its next item. Items are kept until they are taken and then all taken together: a slow
    reader does not hold up the thread, and what is kept for it is at most what the iterator yields in all.
    """

    def __init__(self, make: Make[T], executor: Executor) -> None:
        self._make: Make[T] | None = make
        self._executor = executor
        self._cancellation = Cancellation()
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._running: Future[None] | None = None
        self._lock = threading.Lock()  # guards the two below
        self._items: list[T] = []
        self._end: _End | None = None

    async def __aenter__(self) -> Relay[T]:
        self._running = self._executor.submit(self._run)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._running is not None and self._running.cancel():
            self._make = None  # the executor keeps the rest until it has a free thread to find it cancelled
        self._cancellation.cancel()

    @property
    def num_pending(self) -> int:
        """Items that came and were not taken."""
        return len(self._items)

    async def batches(self, *, idle_seconds: float) -> AsyncIterator[list[T]]:
        """Yields what has come since the last time, nothing whenever nothing has for so long.

        Raises what the iterator raises, after what it gave.
        """
        while True:
            try:
                async with asyncio.timeout(idle_seconds):
                    await self._arrived.wait()
            except TimeoutError:
                yield []
                continue
            self._arrived.clear()
            with self._lock:
                items, self._items = self._items, []
                end = self._end
            if items:
                yield items
            if end is not None:
                if end.error is not None:
                    raise end.error
                return

    def _run(self) -> None:
        make, self._make = self._make, None
        error: Exception | None = None
        try:
            if make is None or self._cancellation.is_cancelled:
                return
            iterator = make(self._cancellation)
            for item in iterator:
                if self._cancellation.is_cancelled:
                    close = getattr(iterator, "close", None)
                    if close is not None:
                        close()
                    return
                with self._lock:
                    self._items.append(item)
                    is_first = len(self._items) == 1
                if is_first:  # else the loop has been told and has not looked yet
                    self._tell()
        except Exception as caught:  # noqa: BLE001  it is raised where the items are taken
            error = caught
        with self._lock:
            self._end = _End(error)
        self._tell()

    def _tell(self) -> None:
        if not self._cancellation.is_cancelled:
            self._loop.call_soon_threadsafe(self._arrived.set)


class _End:
    """The iterator is exhausted, or it raised."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
