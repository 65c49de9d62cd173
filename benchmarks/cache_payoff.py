"""What a look-up costs and what a hit saves, for cache_traffic.py: over a real index, tier by tier."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from cache_corpus import ChangingCorpus
from cache_streams import CACHE_BYTES, CANDIDATES, DENSE, K, Vectors
from cache_traffic_sets import Traffic
from synthetic_index import build_of

from indexer import Index
from retriever import (
    LateInteractionReranker,
    RetrievalCache,
    RetrievalSettings,
    Retriever,
    SearchResult,
)

_REMOTE_MS = (5, 20)  # that a store on another machine may take longer
_QUESTIONS = 60


class Costs(NamedTuple):
    """Median milliseconds without embedding, over one index with one ranking."""

    miss: float
    look_up: float  # that ends in a miss
    exact: float
    certified: float
    approximate: float


def lookups(vectors: Vectors, traffic: Sequence[Traffic], chunks: np.ndarray, count: int) -> dict[str, float]:
    """The look-up alone (which past questions to read, and whether they prove anything) among so many."""
    texts = list(dict.fromkeys(text for one in traffic for group in one.groups for text in group))
    rng = np.random.default_rng(0)
    texts = [texts[i] for i in rng.permutation(len(texts))[: count + 1000]]
    num_new = min(1000, len(texts) // 2)
    matrix = vectors.of(f"lookups-{count}", texts)
    past, new = texts[:-num_new], matrix[-num_new:]
    corpus = ChangingCorpus(chunks)
    candidates = min(CANDIDATES, len(chunks) // 10)
    cache = RetrievalCache(max_bytes=CACHE_BYTES, candidates=candidates)
    with Retriever(corpus, vectors, settings=DENSE, cache=cache) as retriever:
        for start in range(0, len(past), 256):
            retriever.search_batch(past[start : start + 256], k=K)
    num_lists = cache.stats().num_lists
    (space,) = cache._tables
    found: dict[str, float] = {"lookup_lists": num_lists}
    for max_lists, name in ((1, "lookup"), (4, "lookup_pooled")):
        taken = []
        for query in new:
            started = time.perf_counter()
            cache.certified(corpus, space, query, k=K, max_chunks=max_lists * candidates)
            taken.append(time.perf_counter() - started)
        p50, p99 = (float(np.percentile(taken, q)) * 1e3 for q in (50, 99))
        print(
            f"look-up among {num_lists:,} past queries, up to {max_lists} of them read: "
            f"p50 {p50:.3f} ms, p99 {p99:.3f} ms"
        )
        found[f"{name}_p50_ms"], found[f"{name}_p99_ms"] = round(p50, 4), round(p99, 4)
    return found


def payoff(
    vectors: Vectors, texts: Sequence[str], chunks: np.ndarray, traffic: Traffic, sizes: Sequence[int]
) -> dict[str, float]:
    """Every tier beside the search that it spares, by size of the corpus, ranking and place of the store."""
    groups = traffic.groups[:_QUESTIONS]
    asked = list(dict.fromkeys(group[0] for group in groups))
    respelled = [f"{text.rstrip(' ?')} ?" for text in asked]  # as good as the same
    reworded = [text for group in groups for text in group[1:]]
    vectors.of("payoff", list(dict.fromkeys([*asked, *respelled, *reworded])))
    embed = median([seconds(lambda t=text: vectors.embedder.embed_queries([t])) for text in asked])
    print(
        f"\nwhere it pays: median ms without embedding, which takes {embed:.2f} ms and which exact hits spare"
    )
    print(
        "  chunks   ranking            true search  failed look-up  exact  certified  approximate  pays from"
    )
    figures: dict[str, float] = {"payoff_embed_ms": round(embed, 3)}
    pool = RetrievalSettings()
    certified: list[tuple[int, Costs]] = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            pairs = list(zip(texts[:size], chunks[:size], strict=True))
            with build_of(Path(folder) / "index", vectors.embedder, pairs) as index:
                rerank = LateInteractionReranker(vectors.embedder, max_bytes=1 << 30)
                for name, settings, reranker in (
                    ("dense", DENSE, None),
                    ("fused", pool, None),
                    ("fused, reranked", pool, rerank),
                ):
                    costs = measured(index, vectors, settings, reranker, asked, respelled, reworded)
                    certified += [(size, costs)] if name == "dense" else []
                    row = f"  {size:>7,}  {name:17}  {costs.miss:11.2f}  {costs.look_up:14.2f}"
                    hits = f"  {costs.exact:5.2f}  {costs.certified:9.2f}  {costs.approximate:11.2f}"
                    print(f"{row}{hits}  {pays_from(costs)}")
                    for field, value in costs._asdict().items():
                        key = f"payoff_{size}_{name.replace(', ', '_')}_{field}_ms"
                        figures[key] = round(value, 4)
    for extra in (0, *_REMOTE_MS):
        smallest = [size for size, costs in certified if costs.certified < costs.miss + extra]
        where = f"from {smallest[0]:,} chunks on" if smallest else "at none of these sizes"
        print(f"  vectors {f'{extra} ms away' if extra else 'in memory'}: a certified hit is faster {where}")
    return figures


def pays_from(costs: Costs) -> str:
    """The share of look-ups that have to be certified hits for the cache to save time, repeats aside."""
    saved = costs.miss - costs.certified
    if not saved > 0:  # also where none was certified
        return "never"
    return f"{costs.look_up / (saved + costs.look_up):.0%} certified"


def measured(
    index: Index,
    vectors: Vectors,
    settings: RetrievalSettings,
    reranker: LateInteractionReranker | None,
    asked: Sequence[str],
    respelled: Sequence[str],
    reworded: Sequence[str],
) -> Costs:
    """Of each tier, over the questions that were answered from it."""

    def retriever(budget: float) -> Retriever:
        candidates = min(CANDIDATES, index.stats().chunks // 10)
        cache = RetrievalCache(max_bytes=CACHE_BYTES, candidates=candidates, max_false_hit_rate=budget)
        return Retriever(index, vectors, settings=settings, reranker=reranker, cache=cache)

    with retriever(0.0) as proven, retriever(1.0) as guessing:
        warm = [proven.search(text, k=K, use_cache=False) for text in asked]  # vectors, postings, tokens
        assert warm
        misses = [timed(lambda t=text: proven.search(t, k=K, use_cache=False)) for text in asked]
        looked_up = [timed(lambda t=text: proven.search(t, k=K)) for text in asked]
        exact = [timed(lambda t=text: proven.search(t, k=K)) for text in asked]
        again = [timed(lambda t=text: proven.search(t, k=K)) for text in respelled]
        for text in asked:
            guessing.search(text, k=K)
        guessed = [timed(lambda t=text: guessing.search(t, k=K)) for text in reworded]
    failed = [result.timings["cache"] for result, _ in looked_up if result.tier == "miss"]
    return Costs(
        miss=median([taken for _, taken in misses]),
        look_up=median(failed),
        exact=median(of_tier(exact, "exact")),
        certified=median(of_tier(again, "certified")),
        approximate=median(of_tier(guessed, "approximate")),
    )


def timed(work: Callable[[], SearchResult]) -> tuple[SearchResult, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def of_tier(found: Sequence[tuple[SearchResult, float]], tier: str) -> list[float]:
    return [taken for result, taken in found if result.tier == tier]


def median(taken: Sequence[float]) -> float:
    """Milliseconds; not a number where there are none."""
    return float(np.median(taken)) * 1e3 if taken else float("nan")
