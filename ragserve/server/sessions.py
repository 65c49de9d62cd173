"""Sessions by the names that clients chose for them: a few, the latest used ones."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from ragserve.session import Session


class Sessions:
    """Opens a session when its name is first used, and closes the least lately used one beyond a number.

    Threads may share it. Of a session that was closed under a caller, its methods raise RetrieverClosed.
    """

    def __init__(self, open_session: Callable[[], Session], *, max_sessions: int) -> None:
        self._open_session = open_session
        self._max_sessions = max_sessions
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, Session] = OrderedDict()  # the latest used last
        self._closed = False

    def __len__(self) -> int:
        with self._lock:
            return len(self._sessions)

    def named(self, name: str) -> Session:
        """The session of this name. May wait for a search in the background of the one that it closes."""
        gone: Session | None = None
        with self._lock:
            session = self._sessions.pop(name, None) or self._open_session()
            self._sessions[name] = session
            if self._closed:
                gone = self._sessions.pop(name)  # for this caller alone, who finds it closed
            elif len(self._sessions) > self._max_sessions:
                _, gone = self._sessions.popitem(last=False)
        if gone is not None:
            gone.close()
        return session

    def find(self, name: str) -> Session | None:
        """The session of this name if it is open; opens and closes none, and is no use of it."""
        with self._lock:
            return self._sessions.get(name)

    def close(self) -> None:
        """Closes them all; one that is opened later is closed at once."""
        with self._lock:
            self._closed = True
            sessions, self._sessions = list(self._sessions.values()), OrderedDict()
        for session in sessions:
            session.close()
