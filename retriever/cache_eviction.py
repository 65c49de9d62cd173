"""Which cache entry goes when there is no room: GreedyDual-Size with Frequency.

Cherkasova, "Improving WWW proxies performance with Greedy-Dual-Size-Frequency caching policy", HP Labs
1998. An entry's priority is  L + uses * cost / size,  with L the priority of the last entry that had to go:
what saves the most time for its bytes stays, and what was good once ages as L rises.

Unlike there, an entry that went and comes back is not new: its uses go on counting. So what is asked for
again and again stays even where little fits at a time; benchmarks/cache_eviction.py compares.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_PAST_PER_ENTRY = 2  # entries that went whose uses are remembered, as numbers, for each that is there


@dataclass(slots=True)
class _Account:
    size: int  # bytes
    cost: float  # seconds that a hit saves
    uses: int
    priority: float


class EvictionLedger(Generic[K]):
    """Keeps account of entries under a budget of bytes and says which have to go. Not for several threads."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.total_bytes = 0
        self._accounts: dict[K, _Account] = {}
        self._heap: list[tuple[float, int, K]] = []  # outdated pairs stay in until they surface
        self._inflation = 0.0
        self._past: OrderedDict[int, int] = OrderedDict()  # uses of evicted keys, by hash, oldest first
        self._ticket = 0  # orders equal priorities by age, so that keys need not be comparable

    def __len__(self) -> int:
        return len(self._accounts)

    def __contains__(self, key: K) -> bool:
        return key in self._accounts

    def __iter__(self) -> Iterator[K]:
        return iter(self._accounts)

    def admit(self, key: K, *, size: int, cost: float, uses: int = 1) -> list[K] | None:
        """Enters or re-enters a key; the keys that have to go for it, or None if it cannot fit at all.

        A key that is there, or was until it was evicted, goes on with its uses and one more.
        """
        if size > self.max_bytes:
            return None
        before = self._accounts[key].uses if key in self._accounts else self._past.pop(hash(key), 0)
        uses = max(uses, before + 1)
        self.discard(key)
        self._accounts[key] = _Account(size, cost, uses, 0.0)
        self.total_bytes += size
        self._rate(key)
        evicted = []
        while self.total_bytes > self.max_bytes:
            evicted.append(self._pop(spare=key))
        return evicted

    def cost_and_uses(self, key: K) -> tuple[float, int]:
        """The seconds that a hit saves, and how often there was one."""
        account = self._accounts[key]
        return account.cost, account.uses

    def touch(self, key: K) -> None:
        """Counts a use."""
        self._accounts[key].uses += 1
        self._rate(key)

    def resize(self, key: K, size: int) -> None:
        """Notes that an entry has grown or shrunk; it may put the total over the budget until the next
        one."""
        account = self._accounts[key]
        self.total_bytes += size - account.size
        account.size = size
        self._rate(key)

    def discard(self, key: K) -> None:
        """Strikes a key off, if it is there."""
        account = self._accounts.pop(key, None)
        if account is not None:
            self.total_bytes -= account.size

    def forget_past(self) -> None:
        """Treats every key that is not there as new."""
        self._past.clear()

    def _rate(self, key: K) -> None:
        account = self._accounts[key]
        account.priority = self._inflation + account.uses * account.cost / max(account.size, 1)
        self._ticket += 1
        heapq.heappush(self._heap, (account.priority, self._ticket, key))
        if len(self._heap) > 2 * len(self._accounts) + 64:
            self._heap = [(a.priority, i, k) for i, (k, a) in enumerate(self._accounts.items())]
            self._ticket = len(self._heap)
            heapq.heapify(self._heap)

    def _pop(self, *, spare: K) -> K:
        """Strikes off the entry with the lowest priority, other than the one that is just coming in."""
        spared = None
        while True:
            priority, ticket, key = heapq.heappop(self._heap)
            account = self._accounts.get(key)
            if account is None or account.priority != priority:
                continue
            if key == spare:
                spared = (priority, ticket, key)
                continue
            if spared is not None:
                heapq.heappush(self._heap, spared)
            self._inflation = priority
            self._remember(key, account.uses)
            self.discard(key)
            return key

    def _remember(self, key: K, uses: int) -> None:
        self._past[hash(key)] = uses
        self._past.move_to_end(hash(key))
        while len(self._past) > _PAST_PER_ENTRY * len(self._accounts) + 64:
            self._past.popitem(last=False)
