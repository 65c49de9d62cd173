"""How much the server has taken on: admits requests up to a bound, and none once it drains."""

from __future__ import annotations

import threading
import time

from ragserve.errors import ServerBusy, ServerDraining


class Traffic:
    """Counts the requests between their first byte and their last. Thread-safe."""

    def __init__(self, max_requests: int) -> None:
        self._max_requests = max_requests
        self._lock = threading.Lock()
        self._in_flight = 0
        self._drain_deadline: float | None = None

    @property
    def num_in_flight(self) -> int:
        """Requests that have a place now."""
        return self._in_flight

    @property
    def draining(self) -> bool:
        """Whether shutdown has begun."""
        return self._drain_deadline is not None

    @property
    def drained(self) -> bool:
        """Whether shutdown has begun and nothing is left to wait for, or no time left to wait."""
        deadline = self._drain_deadline
        return deadline is not None and (self._in_flight == 0 or time.monotonic() >= deadline)

    def drain(self, seconds: float) -> None:
        """Refuses new requests from now on, and waits for those in flight for at most so long."""
        # A plain store and no lock: this is called from a signal handler, which may interrupt enter().
        self._drain_deadline = time.monotonic() + seconds

    def enter(self) -> None:
        """Takes a place for a request, given back with `leave`. Raises ServerBusy and ServerDraining."""
        with self._lock:
            if self.draining:
                raise draining()
            if self._in_flight >= self._max_requests:
                raise ServerBusy(
                    f"All {self._max_requests} places of this server are taken.",
                    hint="Send the request again in a moment.",
                )
            self._in_flight += 1

    def leave(self) -> None:
        """Gives a place back."""
        with self._lock:
            self._in_flight -= 1


def draining() -> ServerDraining:
    """Returns the error for a request that the server cannot serve any more."""
    return ServerDraining("The server is shutting down.", hint="Send the request again in a moment.")
