"""Work that runs ahead in a thread, but not too far: its results wait in a queue of bounded weight."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """Raised inside the producer when nobody wants its results any more."""


class Producer(Generic[T]):
    """Runs `produce(put)` in a thread; `put(item, weight)` waits while what is not taken is heavy.

    A context manager: leaving it stops the thread, which finds out at its next `put`. As it may be waiting
    for something else by then, `interrupt` is called to end that.
    """

    def __init__(
        self,
        produce: Callable[[Callable[[T, int], None]], None],
        *,
        max_weight: int,
        interrupt: Callable[[], None] = lambda: None,
    ) -> None:
        self._produce = produce
        self._max_weight = max_weight
        self._interrupt = interrupt
        self._condition = threading.Condition()
        self._items: deque[tuple[T, int]] = deque()
        self._weight = 0
        self._stopping = False
        self._finished = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ragserve-producer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._condition:
            self._stopping = True
            self._items.clear()
            self._condition.notify_all()
            running = not self._finished
        if running:
            self._interrupt()
        self._thread.join()

    def take(self, *, seconds: float | None = None) -> T | None:
        """The next item, waited for; None at the end, or if none comes within the seconds given.

        Raises here what was raised in the producer, once the items before it are taken.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._items or self._finished, timeout=seconds)
            if self._items:
                item, weight = self._items.popleft()
                self._weight -= weight
                self._condition.notify_all()
                return item
            if self._error is not None:
                raise self._error
            return None

    def _put(self, item: T, weight: int) -> None:
        with self._condition:
            # An item heavier than the limit passes when it is alone.
            self._condition.wait_for(
                lambda: self._stopping or not self._items or self._weight + weight <= self._max_weight
            )
            if self._stopping:
                raise Stopped
            self._items.append((item, weight))
            self._weight += weight
            self._condition.notify_all()

    def _run(self) -> None:
        try:
            self._produce(self._put)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the consumer's to handle
            self._error = error
        finally:
            with self._condition:
                self._finished = True
                self._condition.notify_all()
