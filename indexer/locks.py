"""A lock for threads: many readers, or one writer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ReadWriteLock:
    """Readers share it, a writer has it alone; a waiting writer goes first, so readers cannot starve it."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._num_readers = 0
        self._num_waiting_writers = 0
        self._writing = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold it together with other readers. Not reentrant: a waiting writer blocks a second entry."""
        with self._condition:
            self._condition.wait_for(lambda: not self._writing and not self._num_waiting_writers)
            self._num_readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._num_readers -= 1
                self._condition.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold it alone."""
        with self._condition:
            self._num_waiting_writers += 1
            try:
                self._condition.wait_for(lambda: not self._writing and not self._num_readers)
                self._writing = True
            finally:
                self._num_waiting_writers -= 1
        try:
            yield
        finally:
            with self._condition:
                self._writing = False
                self._condition.notify_all()
