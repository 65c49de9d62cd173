"""Which entries should a full cache keep? GDSF, which it uses, beside W-TinyLFU, LRU and LFU.

    python benchmarks/cache_eviction.py [--requests N] [--quick]

No texts and no vectors: requests are numbers, an entry has bytes and the seconds that finding it again takes
(as lists, vectors and results of the retrieval cache have: some 8,000, 2,000 and 15,000 bytes at some 10, 8
and 20 ms). Three streams: Zipf, Zipf whose popular ones change all the time, and Zipf with scans of what is
asked once. The figure is the share of the seconds that hits save; the ceiling is a cache without a budget.
The last lines say how the policies do on average, and how far the shipped one is behind the best anywhere.

W-TinyLFU (Einziger, Friedman and Manes, 2017): a window of 1% by recency, a main part in two segments, and
admission by how often a newcomer and the entry to go were asked for. Its sketch is exact counts here,
halved every so often, which only helps it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from retriever.cache_eviction import EvictionLedger

_KINDS = np.array([(8_000, 0.010), (2_000, 0.008), (15_000, 0.020)])  # bytes, seconds


class Policy(Protocol):
    """A cache of keys under a budget of bytes."""

    def request(self, key: int, size: int, cost: float) -> bool:
        """Whether the key is there; if not, it comes in as far as the policy wants it."""
        ...


class Gdsf:
    """The ledger of the retrieval cache."""

    def __init__(self, budget: int) -> None:
        self._ledger: EvictionLedger[int] = EvictionLedger(budget)

    def request(self, key: int, size: int, cost: float) -> bool:
        if key in self._ledger:
            self._ledger.touch(key)
            return True
        self._ledger.admit(key, size=size, cost=cost)
        return False


class Lru:
    """The one unused for longest goes."""

    def __init__(self, budget: int) -> None:
        self._budget, self._total = budget, 0
        self._sizes: OrderedDict[int, int] = OrderedDict()

    def request(self, key: int, size: int, cost: float) -> bool:
        if key in self._sizes:
            self._sizes.move_to_end(key)
            return True
        self._sizes[key] = size
        self._total += size
        while self._total > self._budget:
            self._total -= self._sizes.popitem(last=False)[1]
        return False


class Lfu(Gdsf):
    """The one used least goes: the ledger with cost as size, so that neither counts."""

    def request(self, key: int, size: int, cost: float) -> bool:
        if key in self._ledger:
            self._ledger.touch(key)
            return True
        self._ledger.admit(key, size=size, cost=float(size))
        return False


class WTinyLfu:
    """Window, probation and protection, with admission by frequency."""

    def __init__(self, budget: int) -> None:
        self._limits = {"window": budget // 100, "protected": int(0.8 * 0.99 * budget)}
        self._main = budget - self._limits["window"]
        self._parts: dict[str, OrderedDict[int, int]] = {
            name: OrderedDict() for name in ("window", "probation", "protected")
        }
        self._bytes = Counter[str]()
        self._counts: Counter[int] = Counter()
        self._seen = 0

    def request(self, key: int, size: int, cost: float) -> bool:
        self._count(key)
        for name, part in self._parts.items():
            if key not in part:
                continue
            part.move_to_end(key)
            if name == "probation":
                self._move(key, "probation", "protected")
                while self._bytes["protected"] > self._limits["protected"]:
                    self._move(next(iter(self._parts["protected"])), "protected", "probation")
            return True
        self._put(key, "window", size)
        while self._bytes["window"] > self._limits["window"]:
            candidate, needed = next(iter(self._parts["window"].items()))
            self._take(candidate, "window")
            self._contest(candidate, needed)
        return False

    def _contest(self, candidate: int, size: int) -> None:
        """The candidate comes into the main part if all that would have to go were asked for less often."""
        free = self._main - self._bytes["probation"] - self._bytes["protected"]
        victims = []
        for name in ("probation", "protected"):
            for key, victim_size in self._parts[name].items():
                if free >= size:
                    break
                if self._counts[key] >= self._counts[candidate]:
                    return
                victims.append((key, name))
                free += victim_size
        if free < size:
            return
        for key, name in victims:
            self._take(key, name)
        self._put(candidate, "probation", size)

    def _count(self, key: int) -> None:
        self._counts[key] += 1
        self._seen += 1
        if self._seen % 50_000 == 0:
            self._counts = Counter({key: count // 2 for key, count in self._counts.items() if count > 1})

    def _move(self, key: int, source: str, target: str) -> None:
        self._put(key, target, self._take(key, source))

    def _put(self, key: int, name: str, size: int) -> None:
        self._parts[name][key] = size
        self._bytes[name] += size

    def _take(self, key: int, name: str) -> int:
        size = self._parts[name].pop(key)
        self._bytes[name] -= size
        return size


POLICIES: dict[str, Callable[[int], Policy]] = {
    "GDSF (ours)": Gdsf,
    "W-TinyLFU": WTinyLfu,
    "LRU": Lru,
    "LFU": Lfu,
}


def streams(requests: int) -> Iterator[tuple[str, np.ndarray]]:
    """Keys in the order of their being asked for."""
    rng = np.random.default_rng(0)
    keys = max(requests // 10, 10)
    weights = 1 / np.arange(1, keys + 1) ** 0.9
    ranks = rng.choice(keys, requests, p=weights / weights.sum())
    yield "zipf", ranks
    shift = (np.arange(requests) * 5 // requests) * (keys // 3)  # five times others are popular
    yield "drifting", (ranks + shift) % keys
    scans = ranks.copy()
    once = rng.random(requests) < 0.3
    scans[once] = keys + np.arange(once.sum())
    yield "with scans", scans


def saved_share(policy: Policy, keys: np.ndarray) -> float:
    """The seconds that hits saved, of the seconds that all requests would have taken."""
    saved = total = 0.0
    for key in keys.tolist():
        size, cost = _KINDS[hash((key, 1)) % len(_KINDS)]
        total += cost
        saved += cost * policy.request(key, int(size), float(cost))
    return saved / total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, nothing else")
    arguments = parser.parse_args()
    requests = 2_000 if arguments.quick else arguments.requests
    figures: dict[str, object] = {"requests": requests, "quick": arguments.quick}
    worst, means = 0.0, Counter[str]()
    for name, keys in streams(requests):
        everything = len(np.unique(keys)) * float(_KINDS[:, 0].mean())
        ceiling = saved_share(Gdsf(1 << 50), keys)
        for share in (0.02, 0.1, 0.3):
            budget = int(share * everything)
            found = {label: saved_share(make(budget), keys) for label, make in POLICIES.items()}
            best = max(found.values())
            worst = max(worst, best - found["GDSF (ours)"])
            line = ", ".join(f"{label} {value:.3f}" for label, value in found.items())
            print(f"{name:11} {share:4.0%} of all bytes: {line}; without a budget {ceiling:.3f}")
            means.update({label: value / 9 for label, value in found.items()})
            for label, value in found.items():
                policy = label.split()[0].lower().replace("-", "_")
                figures[f"{name.replace(' ', '_')}_{share:g}_{policy}_saved_share"] = round(value, 4)
    print("on average: " + ", ".join(f"{label} {mean:.3f}" for label, mean in means.most_common()))
    print(f"GDSF is at most {worst:.3f} behind the best")
    figures |= {f"mean_{label.split()[0].lower()}_saved_share": round(m, 4) for label, m in means.items()}
    figures["gdsf_behind_best"] = round(worst, 4)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
