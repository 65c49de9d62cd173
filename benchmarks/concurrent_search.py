"""What does searching together bring: 32 clients at once beside one after another, through the same batcher?

    python benchmarks/concurrent_search.py [--sizes N ...] [--clients N] [--queries N] [--quick]

Synthetic corpora (see synthetic_index.py) with the real embedder; for each size the exact index and the
approximate one. All queries are different, nothing comes from the cache, and every search goes through a
BatchPrefetcher: one client who asks when it has its answer, then so many clients who do the same at the same
time, in batches of up to 8 or 32, one or two of them at a time. The sides take turns, and the hits are
compared before the times.

What a batch shares is the pass of the embedder and the search of the vectors; matching words, fusing and
loading are done query by query, on one core for each batch. The bound is for one batch at a time, if the
vectors were searched for nothing: the embedder alone in batches of 32, which is arithmetic, and what is done
query by query. The last figure is what the batcher costs a lone client over asking the retriever itself.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from retrieval_latency import make_queries
from serving import median, percentile
from synthetic_index import build

from indexer import Index, SentenceTransformerEmbedder
from indexer.vector_settings import VectorSettings
from retriever import BatchPrefetcher, Retriever, SearchResult
from retriever.settings import RetrievalSettings

K = 5
_BATCH_SIZES = (8, 32)
_WORKERS = (1, 2)  # batches at the same time
_SHARED_STAGES = ("embed", "dense")
_ROUNDING = 1e-4  # of scores


class Taken(NamedTuple):
    """What one side came to."""

    results: dict[str, SearchResult]
    latencies: list[float]  # seconds
    queries_per_second: float
    batch_size: float  # mean


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--queries", type=int, default=256, help="in all, a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tiny size, which shows that it runs")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sizes, arguments.clients, arguments.queries, arguments.turns = [2_000], 4, 8, 1
    embedder = SentenceTransformerEmbedder()
    queries = make_queries(arguments.queries)
    embedder.embed_queries(queries[:2])
    embedding = median([embedding_seconds(embedder, queries) for _ in range(arguments.turns)])
    print(f"embedding alone, in batches of {_BATCH_SIZES[-1]}: {1e3 * embedding:.2f} ms a query")
    figures: dict[str, Any] = {
        "embedding_ms": round(1e3 * embedding, 3),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "cpus": os.cpu_count(),
        "clients": arguments.clients,
        "queries": len(queries),
        "turns": arguments.turns,
    }
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "index"
            build(folder, embedder, size).close()
            for kind, exact_chunks in (("exact", size), ("approximate", size // 10)):
                (folder / "vectors.json").unlink(missing_ok=True)  # so that it is made anew, in this form
                settings = VectorSettings(exact_chunks=exact_chunks)
                with Index.open(folder, embedder=embedder, vectors=settings) as index:
                    print(f"\n{size:,} chunks, {kind}")
                    measure(index, embedder, queries, arguments, figures, f"chunks_{size}_{kind}")
    print(json.dumps(figures))
    return 0


def measure(
    index: Index,
    embedder: SentenceTransformerEmbedder,
    queries: Sequence[str],
    arguments: argparse.Namespace,
    figures: dict[str, Any],
    prefix: str,
) -> None:
    """One index: alone, together in batches of several sizes, and directly."""
    retriever = Retriever(index, embedder, settings=RetrievalSettings(), cache=None)
    retriever.search_batch(queries[: arguments.clients], k=K)  # loads the vectors and the postings
    sides = {"alone": (1, _BATCH_SIZES[0], 1)} | {
        f"batch_{size}_workers_{workers}": (arguments.clients, size, workers)
        for size in _BATCH_SIZES
        for workers in _WORKERS
    }
    taken: dict[str, list[Taken]] = {name: [] for name in sides}
    direct: list[float] = []
    for turn in range(arguments.turns):
        for name in sorted(sides, reverse=bool(turn % 2)):
            taken[name].append(ask(retriever, queries, *sides[name]))
        direct += [seconds_of(retriever, query) for query in queries]
    check_same(taken)
    alone = median([one.queries_per_second for one in taken["alone"]])
    show("one after another", taken["alone"], figures, f"{prefix}_alone")
    for side, (num_clients, size, workers) in sides.items():
        if side != "alone":
            name = f"{num_clients} clients, {workers} times {size}"
            show(name, taken[side], figures, f"{prefix}_{side}")
            ratio = median([one.queries_per_second for one in taken[side]]) / alone
            figures[f"{prefix}_{side}_speedup"] = round(ratio, 3)
            print(f"  {'':30} {ratio:.2f} times the rate")
    results = [result for one in taken["alone"] for result in one.results.values()]
    each = median([by_query(result) for result in results])
    bound = 1 / alone / (each + 1e-3 * figures["embedding_ms"])
    print(f"  {'':30} query by query {1e3 * each:.2f} ms: at most {bound:.2f} times the rate")
    waited = median([latency for one in taken["alone"] for latency in one.latencies])
    added = waited - median(direct)
    print(f"  {'':30} a lone client waits {1e3 * added:+.3f} ms longer than without the batcher")
    figures[f"{prefix}_by_query_ms"] = round(1e3 * each, 3)
    figures[f"{prefix}_bound"] = round(bound, 3)
    figures[f"{prefix}_added_to_a_lone_query_ms"] = round(1e3 * added, 3)


def ask(
    retriever: Retriever, queries: Sequence[str], num_clients: int, batch_size: int, num_workers: int
) -> Taken:
    """All queries, dealt out to clients each of whom asks one after another."""
    results: dict[str, SearchResult] = {}
    latencies: list[float] = []
    start = threading.Barrier(num_clients + 1)

    def client(own: Sequence[str]) -> None:
        start.wait()
        for query in own:
            began = time.perf_counter()
            results[query] = batcher.search(query, k=K, use_cache=False)
            latencies.append(time.perf_counter() - began)

    with BatchPrefetcher(retriever, batch_size=batch_size, num_workers=num_workers) as batcher:
        batcher.search(queries[0], k=K, use_cache=False)  # starts its thread
        before = batcher.stats()
        clients = [
            threading.Thread(target=client, args=(queries[number::num_clients],))
            for number in range(num_clients)
        ]
        for thread in clients:
            thread.start()
        start.wait()
        began = time.perf_counter()
        for thread in clients:
            thread.join()
        seconds = time.perf_counter() - began
        after = batcher.stats()
    size = (after.searched - before.searched) / (after.batches - before.batches)
    return Taken(results, latencies, len(queries) / seconds, size)


def embedding_seconds(embedder: SentenceTransformerEmbedder, queries: Sequence[str]) -> float:
    """Seconds a query."""
    began = time.perf_counter()
    for start in range(0, len(queries), _BATCH_SIZES[-1]):
        embedder.embed_queries(queries[start : start + _BATCH_SIZES[-1]])
    return (time.perf_counter() - began) / len(queries)


def seconds_of(retriever: Retriever, query: str) -> float:
    began = time.perf_counter()
    retriever.search(query, k=K, use_cache=False)
    return time.perf_counter() - began


def by_query(result: SearchResult) -> float:
    """Seconds of what is done for each query of a batch by itself."""
    stages = {name: seconds for name, seconds in result.timings.items() if name != "total"}
    return sum(seconds for name, seconds in stages.items() if name not in _SHARED_STAGES)


def check_same(taken: dict[str, list[Taken]]) -> None:
    """A faster wrong answer is no result. Only what scores alike may change places: the last digits of an
    embedder depend on the batch."""
    first, *others = [one for side in taken.values() for one in side]
    for other in others:
        for query, result in first.results.items():
            for hit, found in zip(result.hits, other.results[query].hits, strict=True):
                if hit.chunk.id != found.chunk.id and abs(hit.score - found.score) > _ROUNDING:
                    raise SystemExit(f"a batch changed the hits of {query!r}")


def show(name: str, taken: Sequence[Taken], figures: dict[str, Any], key: str) -> None:
    latencies = [latency for one in taken for latency in one.latencies]
    p50, p95 = (1e3 * percentile(latencies, share) for share in (0.5, 0.95))
    rate, size = (median([one[field] for one in taken]) for field in (2, 3))
    print(f"  {name:30} {rate:8,.1f} queries/s  p50 {p50:8.2f} ms  p95 {p95:8.2f} ms  batches of {size:.1f}")
    figures[f"{key}_queries_per_second"] = round(rate, 2)
    figures[f"{key}_p50_ms"], figures[f"{key}_p95_ms"] = round(p50, 3), round(p95, 3)
    figures[f"{key}_mean_batch"] = round(size, 2)


if __name__ == "__main__":
    raise SystemExit(main())
