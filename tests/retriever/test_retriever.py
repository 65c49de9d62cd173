from __future__ import annotations

import threading

import numpy as np
import pytest
from fakes import FakeCorpus, FakeEmbedder, brute_force, embed, found, make_retriever

from indexer.types import Filters
from retriever import RetrievalCache, RetrievalSettings
from retriever.errors import EmptyQuery, InvalidK, InvalidRetrievalSettings, QueryTooLong

TEXTS = ["amber basin", "cedar delta", "ember fjord", "grove heron", "inlet jetty", "kelp lagoon"]


@pytest.fixture
def corpus():
    corpus = FakeCorpus()
    for i in range(60):
        corpus.add(f"{TEXTS[i % 6]} {i}", document=f"d{i % 3}", kind="code" if i % 5 == 0 else "text")
    return corpus


def test_a_repeated_query_is_answered_before_anything_is_embedded(corpus):
    embedder = FakeEmbedder()
    retriever = make_retriever(corpus, embedder)
    first = retriever.search("amber basin", k=3)
    again = retriever.search("  amber\u00a0 basin\n", k=3)
    assert (first.tier, again.tier) == ("miss", "exact")
    assert again.hits == first.hits
    assert embedder.batches == [["amber basin"]]
    assert len(corpus.log["nearest"]) == len(corpus.log["match"]) == 1


def test_hits_are_ranked_from_one_and_best_first(corpus):
    result = make_retriever(corpus).search("amber basin", k=4)
    assert [hit.rank for hit in result.hits] == [1, 2, 3, 4]
    assert [hit.score for hit in result.hits] == sorted((hit.score for hit in result.hits), reverse=True)
    assert all(hit.chunk.text.startswith("amber basin") for hit in result.hits)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"k": 2}, {"k": 3}),
        ({"filters": None}, {"filters": Filters(document_ids=frozenset({"d1"}))}),
        ({"filters": Filters(kinds=frozenset({"code"}))}, {"filters": Filters(kinds=frozenset({"text"}))}),
    ],
)
def test_results_are_not_shared_between_different_requests(corpus, first, second):
    retriever = make_retriever(corpus)
    retriever.search("amber basin", **first)
    result = retriever.search("amber basin", **second)
    assert result.tier != "exact"
    k, filters = second.get("k", 5), second.get("filters")
    assert found(result) == brute_force(
        corpus, "amber basin", embed("amber basin"), k, retriever.settings, filters
    )


def test_retrievers_with_other_settings_or_embedders_share_a_cache_but_no_results(corpus):
    cache = RetrievalCache()
    make_retriever(corpus, cache=cache).search("amber basin")
    other = make_retriever(corpus, cache=cache, settings=RetrievalSettings(ranking="dense"))
    assert other.search("amber basin").tier != "exact"
    embedder = FakeEmbedder()
    embedder.fingerprint = "another"
    assert make_retriever(corpus, embedder, cache=cache).search("amber basin").tier == "miss"


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_collections_may_share_a_cache_and_never_an_answer(budget):
    """States with the same number, of the same kind of chunks: only the token tells them apart."""
    corpora, cache = [FakeCorpus(), FakeCorpus()], RetrievalCache(max_false_hit_rate=budget)
    for number, corpus in enumerate(corpora):
        corpus.version = corpus.version._replace(token=f"corpus {number}")
        for i in range(30):
            corpus.add(f"{TEXTS[i % 6]} {i} of {number}")
    retrievers = [make_retriever(corpus, cache=cache) for corpus in corpora]
    for query in ["amber basin", "cedar", "amber basin", "amber  basin delta", "cedar"]:
        for corpus, retriever in zip(corpora, retrievers, strict=True):
            result = retriever.search(query, k=3)
            query = " ".join(query.split())
            assert {hit.chunk.id for hit in result.hits} <= {row.chunk.id for row in corpus.rows.values()}
            if result.tier != "approximate":
                true = brute_force(corpus, query, embed(query), 3, retriever.settings, None)
                assert found(result) == true


def test_after_a_change_a_known_query_is_ranked_anew_without_embedding_or_searching(corpus):
    embedder = FakeEmbedder()
    retriever = make_retriever(corpus, embedder)
    retriever.search("amber basin", k=1)
    corpus.add("amber basin")
    result = retriever.search("amber basin", k=1)
    assert result.tier == "certified"
    assert result.hits[0].chunk.text == "amber basin"
    assert len(embedder.batches) == len(corpus.log["nearest"]) == 1
    assert retriever.search("amber basin", k=1).tier == "exact"


def test_a_query_is_embedded_once_whatever_it_is_asked_of(corpus):
    embedder = FakeEmbedder()
    retriever = make_retriever(corpus, embedder)
    for options in ({"k": 1}, {"k": 2}, {"filters": Filters(kinds=frozenset({"code"}))}):
        retriever.search("cedar", **options)
    retriever.search_batch(["cedar", "delta"], k=3)
    assert embedder.batches == [["cedar"], ["delta"]]


def test_without_the_cache_every_search_is_a_true_one_and_leaves_no_trace(corpus):
    retriever = make_retriever(corpus)
    retriever.search("amber basin")
    before = retriever.cache.stats()
    assert retriever.search("amber basin", use_cache=False).tier == "miss"
    assert retriever.search("cedar delta", use_cache=False).tier == "miss"
    assert retriever.cache.stats() == before
    uncached = make_retriever(corpus, cache=None)
    assert [uncached.search("amber basin").tier for _ in range(2)] == ["miss", "miss"]


def test_a_batch_is_one_embedding_pass_and_one_search(corpus):
    embedder = FakeEmbedder()
    retriever = make_retriever(corpus, embedder)
    known = retriever.search("amber basin", k=2)
    corpus.log["nearest"].clear()
    queries = ["cedar delta", "amber basin", "grove heron", "cedar  delta"]
    retriever.cache.clear()
    results = retriever.search_batch(queries, k=2)
    assert embedder.batches[1:] == [["cedar delta", "amber basin", "grove heron"]]
    assert [count for count, _ in corpus.log["nearest"]] == [3]
    assert results[1].hits == known.hits
    assert results[0] == results[3]
    for query, result in zip(queries, results, strict=True):
        query = " ".join(query.split())
        assert found(result) == brute_force(corpus, query, embed(query), 2, retriever.settings, None)
    assert retriever.search_batch([], k=2) == []


def test_stages_are_timed(corpus):
    retriever = make_retriever(corpus)
    result = retriever.search("amber basin")
    assert set(result.timings) == {"embed", "cache", "lexical", "dense", "fuse", "load", "total"}
    assert result.timings["total"] >= sum(v for k, v in result.timings.items() if k != "total") * 0.99
    assert set(retriever.search("amber basin").timings) == {"total"}


def test_there_are_as_many_hits_as_there_can_be(corpus):
    retriever = make_retriever(corpus)
    assert len(retriever.search("amber basin", k=1000).hits) == 60
    assert len(retriever.search("amber basin", k=1000, filters=Filters(kinds=frozenset({"code"}))).hits) == 12
    assert retriever.search("amber basin", filters=Filters(document_ids=frozenset())).hits == ()


def test_an_empty_corpus_has_no_hits():
    for ranking in ("pool", "rrf", "dense", "lexical"):
        corpus = FakeCorpus()
        retriever = make_retriever(corpus, settings=RetrievalSettings(ranking=ranking))
        assert retriever.search("amber").hits == ()
        corpus.remove(corpus.add("amber"))
        assert retriever.search("amber").hits == ()
        corpus.add("amber")
        assert len(retriever.search("amber").hits) == 1


def test_lexical_ranking_embeds_nothing_and_returns_only_what_matches(corpus):
    embedder = FakeEmbedder()
    retriever = make_retriever(corpus, embedder, settings=RetrievalSettings(ranking="lexical"))
    assert len(retriever.search("heron", k=50).hits) == 10
    assert retriever.search("nowhere").hits == ()
    assert embedder.batches == []


def test_more_copies_of_a_text_than_any_list_is_long_end_in_the_order_of_their_ids():
    corpus = FakeCorpus()
    for _ in range(600):
        corpus.add("amber basin")
    retriever = make_retriever(
        corpus, settings=RetrievalSettings(depth=2), cache=RetrievalCache(candidates=4)
    )
    expected = sorted(row.chunk.id for row in corpus.rows.values())[:5]
    for _ in range(2):
        assert [hit.chunk.id for hit in retriever.search("amber basin").hits] == expected


@pytest.mark.parametrize("query", ["", " \t\n", "\u200b", "\x00\x07", "\u2028"])
def test_a_query_with_nothing_to_read_is_an_error(corpus, query):
    with pytest.raises(EmptyQuery):
        make_retriever(corpus).search(query)


def test_a_query_of_a_megabyte_is_an_error_before_any_work(corpus):
    embedder = FakeEmbedder()
    retriever = make_retriever(corpus, embedder, settings=RetrievalSettings(max_query_chars=100))
    with pytest.raises(QueryTooLong, match="1,000,000 characters, the limit is 100"):
        retriever.search("a" * 1_000_000)
    assert embedder.batches == []
    assert retriever.search("a" * 100).hits


def test_the_limit_holds_for_what_normalising_makes_of_a_query_too(corpus):
    embedder = FakeEmbedder()
    retriever = make_retriever(corpus, embedder, settings=RetrievalSettings(max_query_chars=100))
    with pytest.raises(QueryTooLong, match="1,800 characters, the limit is 100"):
        retriever.search("\ufdfa" * 100)  # one character for a phrase of 18
    assert embedder.batches == []


@pytest.mark.parametrize("k", [0, -1, True, 2.0, "3", None])
def test_k_has_to_be_a_positive_whole_number(corpus, k):
    with pytest.raises(InvalidK):
        make_retriever(corpus).search("amber", k=k)


def test_undecodable_and_compatible_characters_are_made_plain(corpus):
    embedder = FakeEmbedder()
    make_retriever(corpus, embedder).search_batch(["ａｍｂｅｒ ﬁne", "amber fine", "tide \udcff"])
    assert embedder.batches == [["amber fine", "tide ?"]]


@pytest.mark.parametrize(
    "setting",
    [
        {"ranking": "best"},
        {"depth": 0},
        {"dense_weight": 1.5},
        {"dense_scale": 0},
        {"lexical_scale": -1},
        {"rrf_constant": -1},
        {"max_query_chars": 0},
    ],
)
def test_settings_out_of_range_are_errors_that_name_the_setting(setting):
    with pytest.raises(InvalidRetrievalSettings, match=next(iter(setting))):
        RetrievalSettings(**setting)


def test_an_error_of_the_embedder_reaches_the_caller_and_leaves_the_retriever_usable(corpus):
    embedder = FakeEmbedder()
    embedder.fail_on = {"amber"}
    retriever = make_retriever(corpus, embedder)
    with pytest.raises(RuntimeError, match="cannot embed"):
        retriever.search("amber")
    assert retriever.search("basin").hits


def test_threads_that_share_a_retriever_get_their_own_answers(corpus):
    retriever = make_retriever(corpus, cache=RetrievalCache(candidates=10, max_bytes=30_000))
    expected = {t: brute_force(corpus, t, embed(t), 3, retriever.settings, None) for t in TEXTS}
    wrong = []

    def ask(seed: int) -> None:
        for i in np.random.default_rng(seed).integers(0, 6, 40):
            if found(retriever.search(TEXTS[i], k=3)) != expected[TEXTS[i]]:
                wrong.append(TEXTS[i])

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sum(retriever.cache.stats().served.values()) == 160
