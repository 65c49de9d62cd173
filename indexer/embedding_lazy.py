"""A value that is computed once, when first needed or ahead of that in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Lazy(Generic[T]):
    """Computes a value once for all threads; a failure is raised to those who wait, the next one retries."""

    def __init__(self, compute: Callable[[], T]) -> None:
        self._compute = compute
        self._starting = threading.Lock()
        self._future: Future[T] | None = None

    def get(self) -> T:
        """The value, computed in this thread if no other has begun."""
        future, begun_here = self._begin()
        if begun_here:
            self._fulfil(future)
        return future.result()

    @property
    def is_begun(self) -> bool:
        """Whether anybody has asked for the value."""
        return self._future is not None

    def start(self) -> None:
        """Begin to compute in the background, unless that was done before.

        The interpreter waits for it at its end, which would abort the process amid an import of PyTorch.
        """
        future, begun_here = self._begin()
        if begun_here:
            threading.Thread(target=self._fulfil, args=(future,), name="loading").start()

    def _begin(self) -> tuple[Future[T], bool]:
        """The future of the value, and whether the caller has to fulfil it."""
        with self._starting:
            if self._future is not None and not (self._future.done() and self._future.exception()):
                return self._future, False
            self._future = Future()
            return self._future, True

    def _fulfil(self, future: Future[T]) -> None:
        try:
            value = self._compute()
        except BaseException as error:  # noqa: BLE001  (handed to whoever waits)
            future.set_exception(error)
        else:
            future.set_result(value)
