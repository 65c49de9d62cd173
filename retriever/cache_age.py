"""How old cache entries are, whatever the clock does."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Ages(Generic[K]):
    """Which entries have reached an age. Not for several threads.

    Time is the latest that the clock has ever shown: one that goes backwards makes nothing younger.
    """

    def __init__(self, ttl_s: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s = ttl_s
        self._clock = clock
        self._latest = clock()
        self._births: dict[K, float] = {}  # oldest first

    def start(self, key: K, *, age_s: float = 0.0) -> None:
        """Enters a key, or makes it so old; keys older than the others have to come before them."""
        self._births.pop(key, None)
        self._births[key] = self._now() - age_s

    def forget(self, key: K) -> None:
        """Strikes a key off, if it is there."""
        self._births.pop(key, None)

    def age_s(self, key: K) -> float:
        """Seconds since a key was entered."""
        return self._now() - self._births[key]

    def expired(self) -> list[K]:
        """The keys that have reached the age; they stay until they are forgotten."""
        if self._ttl_s is None:
            return []
        born_until, gone = self._now() - self._ttl_s, []
        for key, birth in self._births.items():
            if birth > born_until:
                break
            gone.append(key)
        return gone

    def _now(self) -> float:
        self._latest = max(self._latest, self._clock())
        return self._latest
