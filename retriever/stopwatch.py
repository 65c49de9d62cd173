"""Where the time of a retrieval goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up the seconds of each stage."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._started = clock()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times the block for a stage."""
        started = self._clock()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + self._clock() - started

    def seconds(self, name: str) -> float:
        """What a stage has taken so far."""
        return self._seconds.get(name, 0.0)

    def shares(self, num_queries: int) -> dict[str, float]:
        """Seconds by stage and in total since the start, divided among the queries that went through
        together."""
        seconds = {**self._seconds, "total": self._clock() - self._started}
        return {name: value / num_queries for name, value in seconds.items()}
