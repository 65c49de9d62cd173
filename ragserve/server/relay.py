"""From a blocking iterator on a thread to the event loop, with a brake."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Relay(Generic[T]):
    """An async context manager that runs `make()`'s iterator on `executor`; leaving it stops the iterator.

    The iterator stops at its next item, and one that is still waiting for a thread never starts. Items are
    kept until they are taken, so a slow reader does not hold up the thread.
    """

    def __init__(self, make: Callable[[], Iterator[T]], executor: Executor) -> None:
        self._make = make
        self._executor = executor
        self._items: asyncio.Queue[T | _End] = asyncio.Queue()
        self._stop = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._running: Future[None] | None = None

    async def __aenter__(self) -> Relay[T]:
        self._running = self._executor.submit(self._run)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        if self._running is not None:
            self._running.cancel()

    async def items(self, *, idle_seconds: float) -> AsyncIterator[T | None]:
        """Yields the items, and None whenever none has come for so long. Raises what the iterator raises."""
        while True:
            try:
                item = await asyncio.wait_for(self._items.get(), idle_seconds)
            except TimeoutError:
                yield None
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    def _run(self) -> None:
        error: Exception | None = None
        try:
            iterator = self._make()
            for item in iterator:
                if self._stop.is_set():
                    close = getattr(iterator, "close", None)
                    if close is not None:
                        close()
                    return
                self._hand_over(item)
        except Exception as caught:  # noqa: BLE001  it is raised where the items are taken
            error = caught
        self._hand_over(_End(error))

    def _hand_over(self, item: T | _End) -> None:
        if not self._stop.is_set():
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)


class _End:
    """After the last item: the iterator is exhausted, or it raised."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
