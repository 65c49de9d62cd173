"""A value that is made once, by whoever needs it first, or ahead of time in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

T = TypeVar("T")


class Lazy(Generic[T]):
    """However many threads ask, `make` runs once and all get its value.

    If it fails, everyone who waits for it gets the exception, and whoever asks next has it run again: a file
    may be there by then.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._starting = threading.Lock()
        self._future: Future[T] | None = None

    def get(self) -> T:
        """The value; made in this thread if no other has begun."""
        future, begun_here = self._begin()
        if begun_here:
            self._fulfil(future)
        return future.result()

    def peek(self) -> T | None:
        """The value if it is there; makes nothing, waits for nothing."""
        future = self._future
        return future.result() if future is not None and _has_value(future) else None

    def start(self) -> None:
        """Begin to make the value in the background, unless that was done before.

        The interpreter waits for it at its end, which would abort the process amid an import of PyTorch.
        """
        future, begun_here = self._begin()
        if begun_here:
            threading.Thread(target=self._fulfil, args=(future,), name="ragserve-load").start()

    def join(self) -> None:
        """Wait until the value that is being made, if one is, is there or has failed."""
        if self._future is not None:
            wait([self._future])

    def _begin(self) -> tuple[Future[T], bool]:
        """The future of the value, and whether the caller has to fulfil it."""
        with self._starting:
            if self._future is not None and (_has_value(self._future) or not self._future.done()):
                return self._future, False
            self._future = Future()
            return self._future, True

    def _fulfil(self, future: Future[T]) -> None:
        try:
            value = self._make()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits, Ctrl-C included
            future.set_exception(error)
        else:
            future.set_result(value)


def _has_value(future: Future[T]) -> bool:
    return future.done() and future.exception() is None
