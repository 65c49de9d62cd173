"""How whoever asked lets the work know that nobody waits for its result any more."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Cancellation:
    """A flag for work that looks at it, and a call for work that waits. Thread-safe, and for ever."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._calls: list[Callable[[], object]] = []

    @property
    def is_cancelled(self) -> bool:
        """Whether the result is no longer wanted."""
        return self._cancelled

    def cancel(self) -> None:
        """Say so; makes the calls, on this thread."""
        with self._lock:
            self._cancelled = True
            calls, self._calls = self._calls, []
        for call in calls:
            call()

    def on_cancel(self, call: Callable[[], object]) -> None:
        """Have `call` made when it is cancelled; at once where it is already."""
        with self._lock:
            if not self._cancelled:
                self._calls.append(call)
                return
        call()
