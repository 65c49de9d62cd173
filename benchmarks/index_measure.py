"""How one vector index is measured, ours or a peer's, in a process of its own. Needs nothing but NumPy.

A task comes as JSON on standard input, one JSON line goes to standard output. "build" makes the index from
a .npy file; "search" opens it, finds the first of the index's settings that reaches the recall asked for, and
measures that one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np

WARM_UP = 20


class VectorStore(Protocol):
    """An index under test. Ids are the positions of the vectors in their file."""

    version: str

    def build(self, vectors: np.ndarray, folder: Path) -> None:
        """Make it from (n, dimension) unit vectors, and have it on disk."""
        ...

    def open(self, folder: Path) -> None:
        """Make it ready to be searched."""
        ...

    def settings(self) -> Iterable[Any]:
        """What it can be searched with, cheapest first."""
        ...

    def search(self, query: np.ndarray, k: int, setting: Any) -> list[int]:
        """The k nearest to a (dimension,) unit vector by inner product."""
        ...


def main(stores: Mapping[str, Callable[[], VectorStore]]) -> None:
    """Do the task on standard input."""
    task = json.load(sys.stdin)
    store = stores[task["store"]]()
    if task["action"] == "build":
        figures = build(store, task)
    else:
        figures = search(store, task)
    print(json.dumps({"version": store.version, **figures}))


def build(store: VectorStore, task: Mapping[str, Any]) -> dict[str, Any]:
    """How long it takes and what it leaves on disk."""
    folder = Path(task["folder"])
    vectors = np.load(task["vectors"], mmap_mode="r")
    started = time.perf_counter()
    store.build(vectors, folder)
    seconds = time.perf_counter() - started
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"build_seconds": round(seconds, 2), "disk_bytes": size}


def search(store: VectorStore, task: Mapping[str, Any]) -> dict[str, Any]:
    """Opening, resident memory, recall, latency, and queries a second on several threads."""
    queries, truth, k = np.load(task["queries"]), np.load(task["truth"]), task["k"]
    started = time.perf_counter()
    store.open(Path(task["folder"]))
    opened = time.perf_counter() - started
    store.search(queries[0], k, next(iter(store.settings())))
    first = time.perf_counter() - started
    setting, recall = chosen(store, queries, truth, k, task["recall"])
    for query in queries[:WARM_UP]:
        store.search(query, k, setting)
    taken = [seconds(lambda query=query: store.search(query, k, setting)) for query in queries]
    p50, p95 = np.quantile(taken, [0.5, 0.95]) * 1e3
    started = time.perf_counter()
    with ThreadPoolExecutor(task["threads"]) as pool:
        list(pool.map(lambda query: store.search(query, k, setting), queries))
    rate = len(queries) / (time.perf_counter() - started)
    return {
        "open_seconds": round(opened, 4),
        "first_result_seconds": round(first, 4),
        "setting": str(setting),
        "recall": round(recall, 4),
        "p50_ms": round(float(p50), 4),
        "p95_ms": round(float(p95), 4),
        "queries_per_second": round(rate, 1),
        **resident(),
    }


def chosen(
    store: VectorStore, queries: np.ndarray, truth: np.ndarray, k: int, wanted: float
) -> tuple[Any, float]:
    """The first setting that reaches the recall, or else the last, and its recall."""
    setting, recall = None, 0.0
    for setting in store.settings():
        found = [store.search(query, k, setting) for query in queries]
        recall = float(
            np.mean([len({*ids} & {*best}) / k for ids, best in zip(found, truth.tolist(), strict=True)])
        )
        if recall >= wanted:
            break
    return setting, recall


def resident() -> dict[str, int]:
    """Bytes of memory of this process, and those of them that are not merely mapped files."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # not Linux
        return {}
    found = {
        name: int(rest.split()[0]) << 10
        for name, rest in (line.split(":", 1) for line in lines if "kB" in line)
    }
    return {"resident_bytes": found["VmRSS"], "anonymous_bytes": found["RssAnon"]}


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
