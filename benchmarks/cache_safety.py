"""Where caches go wrong, for cache_traffic.py: regimes, pairs that read alike, changes of the corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from cache_corpus import ChangingCorpus
from cache_rules import gptcache
from cache_streams import BUDGET, CACHE_BYTES, CANDIDATES, DENSE, MIN_RECALL, K, Stream, Vectors
from cache_traffic_sets import Traffic, near_misses, polarity

from retriever import RetrievalCache, Retriever
from retriever.cache_guard import may_share

Pairs = Sequence[tuple[str, str]]
_DRIFT = 3  # chunks that go, and that come, between a question and the next


class Served(NamedTuple):
    """What became of the second questions of some pairs."""

    served: int
    approximate: int
    unsafe: int


def regimes(
    chunks: np.ndarray, vectors: Vectors, traffic: Traffic, stream: Stream, data: Path, count: int
) -> dict[str, float]:
    """How much of what is served is unsafe where caches go wrong; beside GPTCache's rule."""
    pairs = [(group[0], group[1]) for group in traffic.groups if len(group) > 1 and group[0] != group[1]]
    pairs, misses = pairs[:count], near_misses(data)[:count]
    polar = [(pair.one, pair.other) for pair in polarity()]
    vectors.of(f"pairs-{count}", sorted({text for pair in [*pairs, *misses, *polar] for text in pair}))
    few = chunks[:500]  # a bounded knowledge base: the k best of any question are far from sure
    document = 0.3 * chunks[:2000] + 0.7 * chunks[0]  # a long document: chunks alike
    document = (document / np.linalg.norm(document, axis=1, keepdims=True)).astype(np.float32)
    cases: dict[str, tuple[np.ndarray, Pairs, int]] = {
        "exact repeat": (chunks, [(one, one) for one, _ in pairs], 0),
        "paraphrase": (chunks, pairs, 0),
        "near miss": (chunks, misses, 0),
        "document drift": (chunks, pairs, _DRIFT),
        "long shared document": (document, pairs, 0),
        "bounded knowledge base": (few, pairs, 0),
        "polarity": (chunks, polar, 0),
    }
    print("\nregimes: unsafe answers among all second questions")
    figures: dict[str, float] = {}
    for name, (matrix, asked, drift) in cases.items():
        learnt = ask_pairs(matrix, vectors, stream.texts, asked, drift=drift, budget=BUDGET)
        blind = ask_pairs(matrix, vectors, stream.texts, asked, drift=drift, budget=1.0)
        theirs = ask_rule(matrix, vectors, asked, drift=drift)
        print(
            f"  {name:23} ours {learnt.unsafe / len(asked):6.2%} unsafe of {learnt.served / len(asked):5.1%}"
            f" served ({learnt.approximate} without proof); uncalibrated {blind.unsafe / len(asked):6.2%} of"
            f" {blind.served / len(asked):5.1%}; GPTCache's rule {theirs.unsafe / len(asked):6.2%} of"
            f" {theirs.served / len(asked):5.1%}"
        )
        key = f"regime_{name.replace(' ', '_')}"
        for label, one in (("", learnt), ("_uncalibrated", blind), ("_gptcache", theirs)):
            figures[f"{key}{label}_unsafe"] = round(one.unsafe / len(asked), 5)
            figures[f"{key}{label}_served"] = round(one.served / len(asked), 4)
    apart = sum(not may_share(*pair) for pair in polar)
    print(f"  the guard alone keeps {apart} of {len(polar)} polarity pairs apart")
    return figures | {"polarity_pairs": len(polar), "polarity_pairs_kept_apart": apart}


def ask_pairs(
    matrix: np.ndarray, vectors: Vectors, before: Sequence[str], asked: Pairs, *, drift: int, budget: float
) -> Served:
    """The second questions, each right after the first, with the corpus changing near them in between.

    Before that the cache sees ordinary traffic, which is what it learns from.
    """
    corpus = ChangingCorpus(matrix, spare=2 * drift * len(asked))
    cache = RetrievalCache(
        max_bytes=CACHE_BYTES,
        candidates=min(CANDIDATES, len(matrix) // 10),
        max_false_hit_rate=budget,
        min_recall=MIN_RECALL,
    )
    served = approximate = unsafe = 0
    with Retriever(corpus, vectors, settings=DENSE, cache=cache) as retriever:
        for text in before:
            retriever.search(text, k=K)
        for first, second in asked:
            retriever.search(first, k=K)
            change(corpus, vectors, second, drift)
            result = retriever.search(second, k=K)
            if result.tier != "miss":
                served += 1
                approximate += result.tier == "approximate"
                unsafe += is_unsafe(corpus, vectors, second, [int(hit.chunk.id) for hit in result.hits])
    return Served(served, approximate, unsafe)


def ask_rule(matrix: np.ndarray, vectors: Vectors, asked: Pairs, *, drift: int) -> Served:
    """The same with GPTCache's rule."""
    corpus, rule = ChangingCorpus(matrix, spare=2 * drift * len(asked)), gptcache()
    unsafe = served = 0
    for first, second in asked:
        query = vectors.embed_queries([first])[0]
        if rule.look_up(query) is None:
            rule.store(query, corpus.search(query, K)[0])
        change(corpus, vectors, second, drift)
        found = rule.look_up(vectors.embed_queries([second])[0])
        if found is not None:
            served += 1
            unsafe += is_unsafe(corpus, vectors, second, found.tolist())
    return Served(served, served, unsafe)


def change(corpus: ChangingCorpus, vectors: Vectors, text: str, drift: int) -> None:
    """The best chunks go, and better ones than any come."""
    query = vectors.embed_queries([text])[0]
    for number in corpus.search(query, drift)[0].tolist() if drift else []:
        noise = np.random.default_rng(number).standard_normal(len(query)).astype(np.float32)
        better = query + 0.3 * noise / np.linalg.norm(noise)
        corpus.remove(number)
        corpus.add((better / np.linalg.norm(better)).astype(np.float32))


def is_unsafe(corpus: ChangingCorpus, vectors: Vectors, text: str, found: Sequence[int]) -> bool:
    true, _ = corpus.search(vectors.embed_queries([text])[0], K)
    return float(np.isin(true, found).mean()) < MIN_RECALL


def updates(chunks: np.ndarray, vectors: Vectors, texts: Sequence[str], count: int) -> dict[str, float]:
    """Entries before and after so many random updates, and whether any answer is stale.

    Half of the chunks are there at first; what comes is of the other half, what goes is any.
    """
    rng = np.random.default_rng(4)
    half = len(chunks) // 2
    corpus = ChangingCorpus(chunks[:half], spare=count)
    cache = RetrievalCache(max_bytes=CACHE_BYTES, candidates=min(CANDIDATES, half // 5))
    asked = stale = 0
    missed: set[str] = set()  # past questions that had to be searched for again
    with Retriever(corpus, vectors, settings=DENSE, cache=cache) as retriever:

        def ask(text: str) -> bool:
            result = retriever.search(text, k=K)
            if result.tier == "miss":
                missed.add(text)
            true, _ = corpus.search(vectors.embed_queries([text])[0], K)
            return [int(hit.chunk.id) for hit in result.hits] != true.tolist()

        for text in texts:
            retriever.search(text, k=K)
        for i in range(count):
            if i % 2:
                corpus.add(chunks[half + int(rng.integers(len(chunks) - half))])
            else:
                corpus.remove(int(rng.choice(corpus.alive())))
            if i % 20 == 0:
                asked, stale = asked + 1, stale + ask(texts[int(rng.integers(len(texts)))])
        for text in texts:
            asked, stale = asked + 1, stale + ask(text)
    survived = 1 - len(missed) / max(len(texts), 1)
    print(f"\n{count:,} updates: {survived:.1%} of the entries still serve; {stale} of {asked} answers stale")
    return {"updates": count, "updates_stale": stale, "updates_surviving_share": round(survived, 4)}
