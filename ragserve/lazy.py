"""A value that is made once, by whoever needs it first, or ahead of time in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Lazy(Generic[T]):
    """Thread-safe: however many ask, `make` runs once and all get its value, or all get its exception."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._value: Future[T] = Future()
        self._claim = threading.Lock()
        self._claimed = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to make the value in a background thread, unless that has begun already."""
        if self._take():
            self._thread = threading.Thread(target=self._run, name="ragserve-load")
            self._thread.start()

    def get(self) -> T:
        """Returns the value; makes it here, or waits for the thread that does."""
        if self._take():
            self._run()
        return self._value.result()

    def peek(self) -> T | None:
        """Returns the value if it is there; makes nothing, waits for nothing."""
        done = self._value.done() and self._value.exception() is None
        return self._value.result() if done else None

    def join(self) -> None:
        """Waits for the background thread; the interpreter must not end while it imports a library."""
        if self._thread is not None:
            self._thread.join()

    def _take(self) -> bool:
        with self._claim:
            first, self._claimed = not self._claimed, True
        return first

    def _run(self) -> None:
        try:
            self._value.set_result(self._make())
        except BaseException as error:  # noqa: BLE001  whoever asks gets it, Ctrl-C included
            self._value.set_exception(error)
