"""What does a retrieval cost, by cache tier and by size of the corpus, and what must it cost?

    python benchmarks/retrieval_latency.py [--sizes N ...] [--queries N]

Warm p50 and p95 of an exact hit, a certified hit (a known query under another k, and a new spelling of a
known query) and a true search, over synthetic corpora (see synthetic_index.py) with the real embedder; and
32 queries in one batch against one by one. The floor of a true search is reading every vector once: matrix
bytes over the bandwidth that is measured in the same run. The rest is the embedder, which is timed alone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from synthetic_index import build, sentences

from indexer import Index, SentenceTransformerEmbedder
from retriever import RetrievalCache, Retriever, SearchResult

K = 5
BATCH = 32


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--queries", type=int, default=100)
    arguments = parser.parse_args()
    embedder = SentenceTransformerEmbedder()
    queries = make_queries(arguments.queries)
    bandwidth = read_bandwidth()
    figures: dict[str, object] = {
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "dimension": embedder.dimension,
        "read_bandwidth_bytes_per_second": round(bandwidth),
        "queries": len(queries),
    }
    print(f"measured read bandwidth {bandwidth / 1e9:.1f} GB/s")
    embedder.embed_queries(queries[:2])
    embedding = [seconds(lambda query=query: embedder.embed_queries([query])) for query in queries]
    show("embedding alone", embedding, figures, "embedding")
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            index = build(Path(folder) / "index", embedder, size)
            print(f"\n{size:,} chunks (built in {time.perf_counter() - started:.0f} s)")
            with index:
                measure(index, embedder, queries, size, bandwidth, figures)
    print(json.dumps(figures))
    return 0


def measure(
    index: Index,
    embedder: SentenceTransformerEmbedder,
    queries: Sequence[str],
    size: int,
    bandwidth: float,
    figures: dict[str, object],
) -> None:
    """Every way to be answered, at one size."""
    retriever = Retriever(index, embedder, cache=RetrievalCache(max_bytes=1 << 30))
    retriever.search(queries[0], use_cache=False)  # loads the vectors and the postings' directory
    true = run(lambda query: retriever.search(query, k=K, use_cache=False), queries)
    for query in queries:
        retriever.search(query, k=K)
    exact = run(lambda query: retriever.search(query, k=K), queries)
    known = run(lambda query: retriever.search(query, k=K - 1), queries)
    respelled = run(lambda query: retriever.search(query.rstrip("?") + " ?", k=K), queries)
    prefix = f"chunks_{size}"
    show("exact hit", times(exact, "exact"), figures, f"{prefix}_exact")
    show("certified hit, known query", times(known, "certified"), figures, f"{prefix}_certified_known")
    show("certified hit, new spelling", times(respelled, "certified"), figures, f"{prefix}_certified_new")
    served = len(times(respelled, "certified")) / len(queries)
    print(f"  {'':30} {served:.0%} of the new spellings were certified")
    figures[f"{prefix}_certified_new_share"] = served
    show("true search", times(true, "miss"), figures, f"{prefix}_miss")
    for stage in ("embed", "lexical", "dense", "fuse", "load"):
        show(f"  of it {stage}", [result.timings[stage] for result, _ in true], figures, f"{prefix}_{stage}")
    floor = size * embedder.dimension * 4 / bandwidth
    dense = float(np.median([result.timings["dense"] for result, _ in true]))
    share = floor / dense
    print(f"  {'':30} reading the vectors once: {floor * 1e3:.2f} ms, {share:.0%} of the dense stage")
    figures[f"{prefix}_dense_floor_ms"] = round(floor * 1e3, 3)
    batch(retriever, queries, figures, prefix)
    words_beside_fts5(index, queries, figures, prefix)


def words_beside_fts5(index: Index, queries: Sequence[str], figures: dict[str, object], prefix: str) -> None:
    """The hundred best chunks by our BM25 and by SQLite's FTS5, taking turns."""
    fts5 = sqlite3.connect(":memory:")
    fts5.execute("CREATE VIRTUAL TABLE texts USING fts5(body, content = '', tokenize = 'porter unicode61')")
    with index.catalog.read() as connection:
        rows = connection.execute("SELECT rowid, text FROM chunks")
        fts5.executemany("INSERT INTO texts (rowid, body) VALUES (?, ?)", rows)
    ours, theirs = [], []
    ranked = "SELECT rowid, rank FROM texts WHERE texts MATCH ? ORDER BY rank LIMIT 100"
    for query in queries:
        any_word = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", query))
        with index.view() as view:
            ours.append(seconds(lambda query=query, view=view: view.match([query], 100)))
        theirs.append(seconds(lambda any_word=any_word: fts5.execute(ranked, (any_word,)).fetchall()))
    show("100 best by our BM25", ours, figures, f"{prefix}_bm25")
    show("100 best by FTS5", theirs, figures, f"{prefix}_fts5")


def batch(retriever: Retriever, queries: Sequence[str], figures: dict[str, object], prefix: str) -> None:
    """One batch against one by one, taking turns."""
    some = queries[:BATCH]
    together, alone = [], []
    for _ in range(5):
        together.append(seconds(lambda: retriever.search_batch(some, k=K, use_cache=False)))
        alone.append(seconds(lambda: [retriever.search(query, k=K, use_cache=False) for query in some]))
    ratio = float(np.median(alone) / np.median(together))
    print(
        f"  {f'{len(some)} queries in one batch':30} {np.median(together) * 1e3:8.1f} ms, one by one"
        f" {np.median(alone) * 1e3:.1f} ms: {ratio:.1f} times the rate"
    )
    figures[f"{prefix}_batch_ms"] = round(float(np.median(together)) * 1e3, 2)
    figures[f"{prefix}_one_by_one_ms"] = round(float(np.median(alone)) * 1e3, 2)
    figures[f"{prefix}_batch_speedup"] = round(ratio, 2)


def run(search: Callable[[str], SearchResult], queries: Sequence[str]) -> list[tuple[SearchResult, float]]:
    """Each query's result and the seconds that it took."""
    found = []
    for query in queries:
        started = time.perf_counter()
        result = search(query)
        found.append((result, time.perf_counter() - started))
    return found


def times(found: Sequence[tuple[SearchResult, float]], tier: str) -> list[float]:
    return [taken for result, taken in found if result.tier == tier]


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def show(name: str, taken: Sequence[float], figures: dict[str, object], key: str) -> None:
    if not taken:
        print(f"  {name:30} never happened")
        return
    p50, p95 = np.quantile(taken, [0.5, 0.95]) * 1e3
    print(f"  {name:30} p50 {p50:8.3f} ms   p95 {p95:8.3f} ms   ({len(taken)})")
    figures[f"{key}_p50_ms"], figures[f"{key}_p95_ms"] = round(float(p50), 4), round(float(p95), 4)


def make_queries(count: int) -> list[str]:
    """Questions with the words of sentences of the corpus."""
    base = sentences()
    rng = np.random.default_rng(1)
    found = []
    for i in range(count):
        words = base[i % len(base)].rstrip(".").split()
        start = int(rng.integers(0, max(len(words) - 8, 1)))
        found.append(f"what about {' '.join(words[start : start + 8])} {i // len(base) or ''}".rstrip() + "?")
    return found


def read_bandwidth() -> float:
    """Bytes a second, the best of a few sums and matrix-vector products over more than any cache holds."""
    matrix = np.ones((200_000, 384), np.float32)
    vector = np.ones(384, np.float32)
    best = min(min(seconds(matrix.sum), seconds(lambda: matrix @ vector)) for _ in range(5))
    return matrix.nbytes / best


if __name__ == "__main__":
    raise SystemExit(main())
