"""True searches in the background, for answers that were served without proof."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

_log = logging.getLogger(__name__)


class BackgroundAudits:
    """Runs audits one after the other on a thread that exists only while there are some.

    At most `max_pending` wait. Closing drops those and waits for the one that runs.
    """

    def __init__(self, *, max_pending: int = 16) -> None:
        self._max_pending = max_pending
        self._lock = threading.Lock()
        self._pending: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None  # the present one, or the last
        self._running = False
        self._closed = False

    def submit(self, audit: Callable[[], None]) -> bool:
        """Whether the audit will run; if not, because too many wait, the caller has to see to it."""
        with self._lock:
            if self._closed or len(self._pending) >= self._max_pending:
                return False
            self._pending.append(audit)
            if not self._running:
                self._running = True
                self._thread = threading.Thread(target=self._run, name="ragserve-audit", daemon=True)
                self._thread.start()
            return True

    def join(self) -> None:
        """Waits until nothing is left to do."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def close(self) -> None:
        """Drops what waits, waits for what runs, and takes nothing more. Closing twice does nothing."""
        with self._lock:
            self._closed = True
            self._pending.clear()
        self.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._pending:
                    self._running = False
                    return
                audit = self._pending.popleft()
            try:
                audit()
            except Exception:  # noqa: BLE001  nobody waits for it; what fails here fails in the next search
                _log.warning("An audit of the retrieval cache failed.", exc_info=True)
