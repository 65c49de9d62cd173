"""After the ranking: reranked, without copies, diverse, expanded; and cached as rightly as before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from fakes import FakeCorpus, FakeEmbedder, brute_force, embed, found, make_retriever

from indexer.types import Filters
from retriever import RetrievalCache, RetrievalSettings
from retriever.diversity import find_copies, maximal_marginal_relevance
from retriever.errors import InvalidRetrievalSettings

WORDS = ["amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "heron"]


class Longest:
    """Prefers long texts; counts what it read."""

    name = "the longest"

    def __init__(self, fingerprint="longest", sign=1):
        self.fingerprint = fingerprint
        self.calls: list[tuple[str, int]] = []
        self._sign = sign

    def scores(self, query: str, texts: Sequence[str]) -> np.ndarray:
        self.calls.append((query, len(texts)))
        return self._sign * np.array([len(text) for text in texts], float)


@pytest.fixture
def corpus():
    corpus, rng = FakeCorpus(), np.random.default_rng(3)
    for i in range(80):
        words = " ".join(rng.choice(WORDS, 2 + i % 5))
        corpus.add(words, document=f"d{i % 4}", kind="code" if i % 5 == 0 else "text", path=(f"s{i // 16}",))
    return corpus


def test_by_default_no_more_chunks_are_ranked_than_are_asked_for(corpus):
    settings = RetrievalSettings()
    assert not settings.refines
    assert not settings.expands
    assert settings.num_candidates(5) == 5
    assert set(make_retriever(corpus).search("amber").explanation) == {"ranking", "proven", "depth"}


def test_the_reranker_reads_the_best_chunks_and_decides_their_order(corpus):
    reranker = Longest()
    settings = RetrievalSettings(rerank_depth=20)
    result = make_retriever(corpus, reranker=reranker, settings=settings).search("amber basin", k=5)
    first = brute_force(corpus, "amber basin", embed("amber basin"), 20, settings, None)
    texts = {row.chunk.id: row.chunk.text for row in corpus.rows.values()}
    headings = {row.chunk.id: row.chunk.heading_path[0] for row in corpus.rows.values()}
    expected = sorted(first, key=lambda hit: -len(f"{headings[hit[0]]}\n{texts[hit[0]]}"))[:5]
    assert [hit.chunk.id for hit in result.hits] == [id_ for id_, _ in expected]
    assert [hit.rank for hit in result.hits] == [1, 2, 3, 4, 5]
    assert [hit.score for hit in result.hits] == sorted((hit.score for hit in result.hits), reverse=True)
    assert reranker.calls == [("amber basin", 20)]
    assert result.explanation["reranker"] == "the longest"
    assert result.explanation["reranked"] == 20
    positions = [1 + [id_ for id_, _ in first].index(hit.chunk.id) for hit in result.hits]
    assert result.explanation["ranks_before"] == positions
    assert "rerank" in result.timings


def test_all_hits_are_reranked_where_more_are_asked_for_than_the_depth(corpus):
    reranker = Longest()
    settings = RetrievalSettings(rerank_depth=2)
    result = make_retriever(corpus, reranker=reranker, settings=settings).search("amber", k=7)
    assert (len(result.hits), reranker.calls) == (7, [("amber", 7)])
    assert make_retriever(FakeCorpus(), reranker=reranker).search("amber").hits == ()


def test_results_are_not_shared_by_retrievers_that_refine_in_other_ways(corpus):
    cache = RetrievalCache()
    ways = [
        {},
        {"reranker": Longest()},
        {"reranker": Longest("shortest", -1)},
        {"reranker": Longest(), "settings": RetrievalSettings(rerank_depth=3)},
        {"reranker": Longest(), "settings": RetrievalSettings(rerank_weight=0.5)},
        {"settings": RetrievalSettings(mmr_lambda=0.5)},
        {"settings": RetrievalSettings(duplicate_overlap=0.5)},
        {"settings": RetrievalSettings(neighbours=1)},
        {"settings": RetrievalSettings(section_min_hits=2)},
    ]
    for way in ways:
        retriever = make_retriever(corpus, cache=cache, **way)
        assert retriever.search("amber basin").tier != "exact", way
        assert retriever.search("amber basin").tier == "exact", way


def test_a_fingerprint_in_the_settings_counts_only_with_its_reranker(corpus):
    retriever = make_retriever(corpus, settings=RetrievalSettings(reranker="somebody"))
    assert retriever.settings.reranker == ""
    assert make_retriever(corpus, reranker=Longest()).settings.reranker == "longest"


def test_copies_make_room_for_the_next_best(corpus):
    for _ in range(3):
        corpus.add("amber basin cedar delta ember fjord", document="copies")
    settings = RetrievalSettings(duplicate_overlap=0.9)
    result = make_retriever(corpus, settings=settings).search("amber basin cedar delta ember fjord", k=5)
    texts = [hit.chunk.text for hit in result.hits]
    assert len(texts) == 5
    assert texts.count("amber basin cedar delta ember fjord") == 1
    assert find_copies(texts, 0.9) == []
    suppressed = result.explanation["suppressed"]
    assert [one["overlap"] for one in suppressed][:2] == [1.0, 1.0]
    assert {one["copy_of"] for one in suppressed[:2]} == {result.hits[0].chunk.id}


def test_mmr_chooses_among_the_candidates_by_their_vectors(corpus):
    settings = RetrievalSettings(mmr_lambda=0.4, rerank_depth=30)
    result = make_retriever(corpus, settings=settings).search("amber basin", k=6)
    candidates = brute_force(corpus, "amber basin", embed("amber basin"), 30, settings, None)
    vectors = {row.chunk.id: row.vector for row in corpus.rows.values()}
    chosen = maximal_marginal_relevance(
        np.array([score for _, score in candidates]),
        np.stack([vectors[id_] for id_, _ in candidates]),
        6,
        trade_off=0.4,
    )
    assert found(result) == [candidates[i] for i in chosen]
    assert chosen != list(range(6))


@pytest.mark.parametrize("ranking", ["pool", "dense", "rrf"])
def test_the_cache_serves_what_the_true_search_finds_while_the_corpus_changes(corpus, ranking):
    settings = RetrievalSettings(
        ranking=ranking,
        rerank_depth=8,
        mmr_lambda=0.7,
        duplicate_overlap=0.9,
        neighbours=1,
        section_min_hits=3,
    )
    cache = RetrievalCache(candidates=60)
    retriever = make_retriever(corpus, reranker=Longest(), settings=settings, cache=cache)
    rng, tiers = np.random.default_rng(5), set()
    for step in range(12):
        for query in ("amber basin", "amber basin cedar", "heron", "amber basin"):
            for filters in (None, Filters(kinds=frozenset({"text"}))):
                cached = retriever.search(query, k=4, filters=filters)
                true = retriever.search(query, k=4, filters=filters, use_cache=False)
                assert cached.hits == true.hits, (step, query, cached.tier)
                tiers.add(cached.tier)
        corpus.add(" ".join(rng.choice(WORDS, 4)), document="d1")
        corpus.remove(int(rng.choice(list(corpus.rows))))
    assert {"miss", "exact"} <= tiers
    assert "certified" in tiers or ranking == "rrf"


def test_expanded_hits_are_verbatim_text_of_their_document(corpus):
    settings = RetrievalSettings(neighbours=1, section_min_hits=2, section_max_chars=400)
    result = make_retriever(corpus, settings=settings).search("amber basin", k=6)
    assert any(hit.parts for hit in result.hits)
    for hit in result.hits:
        chunk = hit.chunk
        assert corpus.documents[chunk.document_id][chunk.start : chunk.end] == chunk.text
    assert {one["how"] for one in result.explanation["expanded"]} <= {"neighbours", "section"}
    assert "expand" in result.timings


def test_hits_that_a_commit_overtook_on_the_way_are_not_kept(corpus, monkeypatch):
    retriever = make_retriever(corpus, settings=RetrievalSettings(neighbours=1))
    views = []
    original = corpus.view

    def view():
        if views:  # the second view is the one that expands
            corpus.add("amber basin", document="late")
        views.append(1)
        return original()

    monkeypatch.setattr(corpus, "view", view)
    assert retriever.search("amber basin", k=2).tier == "miss"
    assert retriever.cache.stats().num_results == 0


def test_a_spoken_question_is_searched_for_as_it_was_meant(corpus):
    embedder = FakeEmbedder()
    retriever = make_retriever(corpus, embedder, settings=RetrievalSettings(repair_disfluencies=True))
    result = retriever.search("what is no wait where is the amber basin")
    assert result.explanation["searched_for"] == "where is the amber basin"
    assert retriever.search("where is the amber basin").tier == "exact"
    assert embedder.batches == [["where is the amber basin"]]
    assert "searched_for" not in make_retriever(corpus).search("um amber").explanation


@pytest.mark.parametrize(
    "setting",
    [
        {"rerank_depth": 0},
        {"rerank_weight": 1.1},
        {"duplicate_overlap": 0.0},
        {"mmr_lambda": -0.1},
        {"neighbours": -1},
        {"neighbours": 17},
        {"section_min_hits": 1},
        {"section_max_chars": 0},
    ],
)
def test_settings_out_of_range_are_errors_that_name_the_setting(setting):
    with pytest.raises(InvalidRetrievalSettings, match=next(iter(setting))):
        RetrievalSettings(**setting)
