"""The certificates and the upkeep of the cache, against brute force under whatever happens to a corpus."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from fakes import DIMENSION, FakeCorpus, FakeEmbedder, brute_force, found, make_retriever
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.types import Filters
from retriever import RetrievalCache, RetrievalSettings

WORDS = ["amber", "basin", "cedar", "delta", "ember", "fjord"]
FILTERS = [None, Filters(document_ids=frozenset({"a"})), Filters(kinds=frozenset({"code"}))]

seeds = st.integers(0, 2**32 - 1)
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), texts, seeds, st.sampled_from("ab"), st.sampled_from(["text", "code"])),
        st.tuples(st.just("remove"), st.integers(0, 99)),
        st.tuples(st.just("move"), st.integers(0, 99), st.sampled_from("ab")),
        st.tuples(st.just("forget")),
        *[
            st.tuples(
                st.just("query"), texts, st.integers(0, 3), st.sampled_from([0.0, 0.02, 0.1, 0.4]), seeds
            )
        ]
        * 3,
    ),
    min_size=8,
    max_size=40,
)


def point(seed: int, *, near: np.ndarray | None = None, spread: float = 1.0) -> np.ndarray:
    """A unit vector: anywhere, or `spread` away from another one."""
    noise = np.random.default_rng(seed).standard_normal(DIMENSION)
    noise /= np.linalg.norm(noise)
    vector = noise if near is None else near + spread * noise
    return (vector / np.linalg.norm(vector)).astype(np.float32)


CENTRES = [point(seed) for seed in range(4)]


@pytest.mark.parametrize("ranking", ["pool", "dense", "rrf", "lexical"])
@settings(max_examples=60, deadline=None)
@given(operations, st.integers(1, 4), st.integers(3, 20), st.integers(2, 6), seeds)
def test_what_the_cache_serves_is_what_every_chunk_scored_by_hand_gives(
    ranking, steps, k, candidates, depth, seed
):
    corpus, embedder = FakeCorpus(), FakeEmbedder()
    options = RetrievalSettings(ranking=ranking, depth=depth)
    cache = RetrievalCache(candidates=candidates, max_bytes=40_000)
    retriever = make_retriever(corpus, embedder, settings=options, cache=cache)
    for i in range(40):
        corpus.add(WORDS[i % 6], point(seed + i, near=CENTRES[i % 4], spread=0.7), document="ab"[i % 2])
    for step, (kind, *values) in enumerate(steps):
        if kind == "add":
            text, where, document, chunk_kind = values
            corpus.add(text, point(where, near=CENTRES[where % 4]), document=document, kind=chunk_kind)
        elif kind == "remove" and values[0] in corpus.rows:
            corpus.remove(values[0])
        elif kind == "move" and values[0] in corpus.rows:
            corpus.move(*values)
        elif kind == "forget":
            corpus.forgotten = corpus.version.generation
        elif kind == "query":
            text, centre, spread, where = values
            query = f"{text} {spread} {where % 3} {centre}"
            embedder.vectors[query] = point(where % 3, near=CENTRES[centre], spread=spread)
            filters = FILTERS[(where + step) % 3]
            result = retriever.search(query, k=k, filters=filters)
            expected = brute_force(corpus, query, embedder.vectors[query], k, options, filters)
            assert found(result) == expected, (result.tier, result.explanation)
            assert [hit.rank for hit in result.hits] == list(range(1, len(expected) + 1))


def test_nearby_queries_are_served_and_entries_outlive_changes_of_the_corpus():
    """The property above would also hold for a cache that never serves."""
    corpus, embedder = FakeCorpus(), FakeEmbedder()
    for i in range(500):
        corpus.add(WORDS[i % 6], point(i, near=CENTRES[i % 4], spread=0.9))
    retriever = make_retriever(
        corpus, embedder, cache=RetrievalCache(candidates=100), settings=RetrievalSettings(ranking="dense")
    )
    rng = np.random.default_rng(7)
    tiers = Counter()
    for i in range(160):
        if i % 4 == 3:
            corpus.remove(int(rng.integers(1, 500)))
            corpus.add("amber", point(10_000 + i, near=CENTRES[i % 4], spread=0.9))
        query = f"query {i % 40} {rng.integers(2)}"
        embedder.vectors.setdefault(query, point(i % 40, near=CENTRES[i % 4], spread=0.3 + 0.02 * (i % 5)))
        result = retriever.search(query, k=3)
        tiers[result.tier] += 1
        vector = embedder.vectors[query]
        assert found(result) == brute_force(corpus, query, vector, 3, retriever.settings, None)
    assert tiers["certified"] > 80
    # Only misses searched, and nothing was embedded twice.
    assert len(corpus.log["nearest"]) == tiers["miss"]
    embedded = Counter(text for batch in embedder.batches for text in batch)
    assert set(embedded.values()) == {1}


def test_several_lists_are_read_where_they_prove_more_together():
    corpus, embedder = FakeCorpus(), FakeEmbedder()
    for i in range(2000):
        corpus.add("text", point(i, near=CENTRES[i % 4], spread=1.5))
    retriever = make_retriever(
        corpus, embedder, cache=RetrievalCache(candidates=50), settings=RetrievalSettings(ranking="dense")
    )
    for i in range(20):
        embedder.vectors[f"past {i}"] = point(5000 + i, near=CENTRES[0], spread=0.2)
        retriever.search(f"past {i}", k=50)  # more than a list can prove: each leaves one of its own
    by_several = 0
    for i in range(20):
        query = f"new {i}"
        embedder.vectors[query] = point(6000 + i, near=CENTRES[0], spread=0.1)
        result = retriever.search(query, k=10)
        assert found(result) == brute_force(
            corpus, query, embedder.vectors[query], 10, retriever.settings, None
        )
        by_several += result.tier == "certified" and result.explanation["lists"] > 1
    assert by_several > 10
