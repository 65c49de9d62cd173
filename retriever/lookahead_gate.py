"""Whether retrieving ahead pays: a cost model that learns from what became of the last results."""

from __future__ import annotations

import threading

_WEIGHT = 1 / 8  # of the newest outcome: about the last sixteen count
_FIRST_CHANCE = 0.75  # hopeful: at equal stakes, four failures in a row close the gate


class PrefetchGate:
    """Admits prefetches unless their expected gain is negative, and then a rare probe.

    gain = p * saved - (1 - p) * wasted * (1 + load), in seconds a prefetch. `p` is how often a result was
    used, `saved` is what a used one spared its caller, `wasted` is what an unused one cost; each is an
    exponential average. `load` is how many others want the processor now: so many wait longer for every
    second wasted. Threads may share it.
    """

    def __init__(self, *, probe_every: int = 32) -> None:
        """While closed, one in `probe_every` chances is taken, so that better times are noticed."""
        self._probe_every = probe_every
        self._lock = threading.Lock()  # held while anything below changes
        self._chance = _FIRST_CHANCE
        self._saved: float | None = None  # seconds; None until there was one
        self._wasted: float | None = None
        self._passed_up = 0

    def used(self, seconds_saved: float) -> None:
        """A result was asked for."""
        with self._lock:
            self._chance += _WEIGHT * (1 - self._chance)
            self._saved = _average(self._saved, seconds_saved)

    def unused(self, seconds_wasted: float) -> None:
        """A result was given up."""
        with self._lock:
            self._chance -= _WEIGHT * self._chance
            self._wasted = _average(self._wasted, seconds_wasted)

    def gain(self, load: float = 0.0) -> float:
        """Expected seconds gained by a prefetch. What was never seen is taken to be like the other side."""
        saved = self._saved if self._saved is not None else self._wasted
        wasted = self._wasted if self._wasted is not None else self._saved
        if saved is None or wasted is None:
            return 0.0
        return self._chance * saved - (1 - self._chance) * wasted * (1 + load)

    def is_open(self, load: float = 0.0) -> bool:
        """Whether prefetching is expected to do no harm; yes while nothing is known."""
        return self.gain(load) >= 0

    def admit(self, wanted: int, load: float = 0.0) -> int:
        """How many of so many prefetches may go ahead."""
        if wanted <= 0:
            return 0
        is_open = self.is_open(load)
        with self._lock:
            self._passed_up = 0 if is_open else self._passed_up + 1
            if is_open:
                return wanted
            if self._passed_up < self._probe_every:
                return 0
            self._passed_up = 0
            return 1


def _average(old: float | None, new: float) -> float:
    return new if old is None else old + _WEIGHT * (new - old)
