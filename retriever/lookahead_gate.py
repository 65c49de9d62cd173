"""Whether retrieving ahead pays: a cost model that learns from what became of the last results."""

from __future__ import annotations

import threading

_WEIGHT = 1 / 8  # of the newest outcome: about the last sixteen count
_FIRST_CHANCE = 0.75  # hopeful: at equal stakes, four failures in a row close the gate
_HANDING_OVER = 1e-3  # seconds, about, that giving a search to a thread and taking its result costs


class PrefetchGate:
    """Admits prefetches unless their expected gain is negative, and then a rare probe.

    gain = p * (saved - load * taken) - (1 - p) * wasted * (1 + load) - 0.001, in seconds a prefetch. `p` is
    how often a result was used, `saved` is what a used one spared its caller and `taken` how long it was
    searched for, `wasted` is what an unused one cost; each is an exponential average. `load` is how many
    others want the processor now: so many wait longer for every second of searching, of use or not. The last
    term is what handing a search to a thread and back costs in any case. Threads may share it.
    """

    def __init__(
        self, *, probe_every: int = 32, first_chance: float = _FIRST_CHANCE, max_untried: int = 4
    ) -> None:
        """While closed, one in `probe_every` chances is taken, so that better times are noticed.

        `first_chance` is what `p` is taken to be at first; until something has become of one, there are at
        most `max_untried` prefetches.
        """
        self._probe_every = probe_every
        self._lock = threading.Lock()  # held while anything below changes
        self._chance = first_chance
        self._untried_left = max_untried
        self._saved: float | None = None  # seconds; None until there was one
        self._taken = 0.0  # by those that saved so much
        self._wasted: float | None = None
        self._passed_up = 0

    def used(self, seconds_saved: float, seconds_taken: float) -> None:
        """A result was asked for."""
        with self._lock:
            self._chance += _WEIGHT * (1 - self._chance)
            self._taken = _average(None if self._saved is None else self._taken, seconds_taken)
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
        lost = (1 - self._chance) * wasted * (1 + load) + _HANDING_OVER
        return self._chance * (saved - load * self._taken) - lost

    @property
    def is_tried(self) -> bool:
        """Whether anything has become of a prefetch yet."""
        return self._saved is not None or self._wasted is not None

    def is_open(self, load: float = 0.0) -> bool:
        """Whether prefetching is expected to do no harm; yes while nothing is known."""
        return self.gain(load) >= 0

    def may_admit(self, load: float = 0.0) -> bool:
        """Whether `admit` would let one through now; a no is a chance that was passed up.

        For callers to whom merely asking what to prefetch is a cost.
        """
        if self.is_open(load):
            return True
        with self._lock:
            self._passed_up = min(self._passed_up + 1, self._probe_every)
            return self._passed_up == self._probe_every

    def admit(self, wanted: int, load: float = 0.0) -> int:
        """How many of so many prefetches may go ahead."""
        if wanted <= 0:
            return 0
        is_open = self.is_open(load)
        with self._lock:
            trials = wanted if self.is_tried else min(wanted, self._untried_left)
            if is_open and trials:
                self._untried_left -= trials  # counts no more once it is tried
                self._passed_up = 0
                return trials
            self._passed_up += 1
            if self._passed_up < self._probe_every:
                return 0
            self._passed_up = 0
            return 1


def _average(old: float | None, new: float) -> float:
    return new if old is None else old + _WEIGHT * (new - old)
