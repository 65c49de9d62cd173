from __future__ import annotations

import numpy as np
import pytest
from fakes import (
    DIMENSION,
    FakeCorpus,
    FakeEmbedder,
    FakeView,
    brute_force,
    embed,
    found,
    make_retriever,
)

from indexer.types import Filters
from retriever import RetrievalCache, RetrievalSettings
from retriever.cache_keys import ListKey, Space, bytes_of_list
from retriever.cache_lists import Nearby
from retriever.errors import InvalidQueryVector, InvalidRetrievalSettings
from retriever.lists import DenseList
from retriever.reread import reread

DENSE = RetrievalSettings(ranking="dense")


def spread_corpus(count: int = 300) -> FakeCorpus:
    corpus = FakeCorpus()
    rng = np.random.default_rng(3)
    for i in range(count):
        vector = rng.standard_normal(DIMENSION)
        corpus.add(f"text {i}", (vector / np.linalg.norm(vector)).astype(np.float32))
    return corpus


def tilted(vector: np.ndarray, amount: float) -> np.ndarray:
    moved = vector.copy()
    moved[0] += amount
    return (moved / np.linalg.norm(moved)).astype(np.float32)


@pytest.fixture
def two_queries():
    """Two queries that are alike, but not enough for a certificate of short lists."""
    return FakeEmbedder({"how wide is it": embed("wide"), "how wide was it": tilted(embed("wide"), 0.4)})


@pytest.mark.parametrize(
    ("budget", "threshold", "tier"),
    [(0.0, 0.5, "miss"), (1.0, 0.999, "miss"), (0.01, 0.5, "miss"), (1.0, 0.5, "approximate")],
)
def test_an_approximate_hit_needs_a_budget_that_is_earned_and_a_similar_query(
    two_queries, budget, threshold, tier
):
    cache = RetrievalCache(candidates=8, similarity_threshold=threshold, max_false_hit_rate=budget)
    with make_retriever(spread_corpus(), two_queries, cache=cache, settings=DENSE) as retriever:
        retriever.search("how wide is it", k=5)
        assert retriever.search("how wide was it", k=5).tier == tier


def test_an_approximate_hit_says_what_it_rests_on(two_queries):
    cache = RetrievalCache(candidates=8, similarity_threshold=0.5, max_false_hit_rate=1.0)
    with make_retriever(spread_corpus(), two_queries, cache=cache, settings=DENSE) as retriever:
        retriever.search("how wide is it", k=5)
        result = retriever.search("how wide was it", k=5)
    explanation = result.explanation
    assert explanation["similar_query"] == "how wide is it"
    assert 0.5 < explanation["similarity"] < 0.999
    assert 0 < explanation["alignment"] < 1
    assert 0 < explanation["probability_wrong"] < 1
    assert (explanation["audited"], explanation["audited_upper_bound"]) == (0, 1.0)


def test_an_approximate_hit_scores_the_candidates_with_the_new_query(two_queries):
    corpus = spread_corpus()
    cache = RetrievalCache(candidates=8, similarity_threshold=0.5, max_false_hit_rate=1.0)
    retriever = make_retriever(corpus, two_queries, cache=cache, settings=DENSE)
    retriever.search("how wide is it", k=5)
    result = retriever.search("how wide was it", k=5)
    vectors = {row.chunk.id: row.vector for row in corpus.rows.values()}
    query = two_queries.vectors["how wide was it"]
    for hit in result.hits:
        assert hit.score == pytest.approx(float(vectors[hit.chunk.id] @ query), abs=1e-6)
    assert [hit.score for hit in result.hits] == sorted((h.score for h in result.hits), reverse=True)


def test_an_approximate_answer_is_never_kept(two_queries):
    cache = RetrievalCache(candidates=8, similarity_threshold=0.5, max_false_hit_rate=1.0)
    retriever = make_retriever(spread_corpus(), two_queries, cache=cache, settings=DENSE)
    retriever.search("how wide is it")
    before = cache.stats()
    for _ in range(2):
        assert retriever.search("how wide was it").tier == "approximate"
    after = cache.stats()
    assert (after.num_results, after.num_lists) == (before.num_results, before.num_lists)


def test_a_list_may_go_between_its_being_read_and_the_decision_to_serve_from_it(two_queries, monkeypatch):
    cache = RetrievalCache(candidates=8, similarity_threshold=0.5, max_false_hit_rate=1.0)
    decide = cache.decide

    def decide_late(*arguments, **options):
        cache.clear()  # as other threads' searches may
        return decide(*arguments, **options)

    monkeypatch.setattr(cache, "decide", decide_late)
    with make_retriever(spread_corpus(), two_queries, cache=cache, settings=DENSE) as retriever:
        retriever.search("how wide is it")
        assert retriever.search("how wide was it").tier == "approximate"


def test_queries_that_ask_for_different_things_do_not_share_an_approximate_answer():
    base = embed("version")
    embedder = FakeEmbedder({"what came in 2021": base, "what came in 2022": tilted(base, 0.4)})
    cache = RetrievalCache(candidates=8, similarity_threshold=0.5, max_false_hit_rate=1.0)
    retriever = make_retriever(spread_corpus(), embedder, cache=cache, settings=DENSE)
    retriever.search("what came in 2021")
    assert retriever.search("what came in 2022").tier == "miss"


def test_a_list_too_short_for_k_is_no_approximate_hit(two_queries):
    cache = RetrievalCache(candidates=4, similarity_threshold=0.5, max_false_hit_rate=1.0)
    retriever = make_retriever(
        spread_corpus(), two_queries, cache=cache, settings=RetrievalSettings(ranking="dense", depth=2)
    )
    retriever.search("how wide is it", k=2)
    assert retriever.search("how wide was it", k=50).tier == "miss"


def test_the_budget_holds_and_useful_entries_outlive_others():
    corpus = spread_corpus()
    cache = RetrievalCache(candidates=50, max_bytes=40_000)
    retriever = make_retriever(corpus, cache=cache, settings=DENSE)
    for i in range(60):
        retriever.search(f"query {i}")
        retriever.search("query 0")
        stats = cache.stats()
        assert stats.bytes <= stats.max_bytes == 40_000
    assert stats.evictions > 0
    assert retriever.search("query 0").tier == "exact"


def test_a_budget_smaller_than_one_entry_keeps_nothing_and_breaks_nothing():
    corpus = spread_corpus(20)
    for max_bytes in (0, 100):
        cache = RetrievalCache(max_bytes=max_bytes)
        retriever = make_retriever(corpus, cache=cache)
        assert [retriever.search("query").tier for _ in range(2)] == ["miss", "miss"]
        stats = cache.stats()
        assert (stats.bytes, stats.num_lists, stats.num_results, stats.num_vectors) == (0, 0, 0, 0)


def test_clear_forgets_everything():
    cache = RetrievalCache()
    retriever = make_retriever(spread_corpus(), cache=cache)
    retriever.search("query")
    cache.clear()
    stats = cache.stats()
    assert (stats.num_results, stats.num_lists, stats.num_vectors, stats.bytes) == (0, 0, 0, 0)
    assert retriever.search("query").tier == "miss"


def test_a_list_that_much_was_added_near_is_shortened_and_goes_on_serving():
    corpus = spread_corpus(100)
    cache = RetrievalCache(candidates=5)
    retriever = make_retriever(corpus, cache=cache, settings=RetrievalSettings(ranking="dense", depth=5))
    retriever.search("query", k=2)
    ((entry,),) = cache._tables.values()
    for i in range(6):
        corpus.add(f"near {i}", tilted(embed("query"), 0.05 * i))
    corpus.remove(int(entry.chunks.unpacked()[0]))
    size = cache.stats().bytes
    result = retriever.search("query", k=2)
    assert (result.tier, [hit.chunk.text for hit in result.hits]) == ("certified", ["near 0", "near 1"])
    ((shorter,),) = cache._tables.values()
    assert len(shorter.chunks) == 5
    assert shorter.radius > entry.radius
    assert shorter.radius == pytest.approx(float(tilted(embed("query"), 0.2) @ embed("query")), abs=1e-6)
    assert cache.stats().num_lists == 1
    assert cache.stats().bytes <= size + 1000 * 3 + 1000  # the result, and no longer list


def test_a_list_that_has_grown_is_cut_when_it_is_read_and_dropped_when_it_is_not_worth_reading():
    corpus = spread_corpus(100)
    cache = RetrievalCache(candidates=5)
    retriever = make_retriever(corpus, cache=cache, settings=RetrievalSettings(ranking="dense", depth=5))
    retriever.search("query", k=2)
    retriever.search("elsewhere", k=2)

    def lengths() -> dict[str, int]:
        (table,) = cache._tables.values()
        return {entry.text: len(entry.chunks) for entry in table}

    for i in range(30):
        corpus.add(f"near {i}", tilted(embed("query"), 0.005 * i))
    assert retriever.search("elsewhere", k=1).tier == "certified"
    assert lengths()["query"] == 35  # it takes a search's time to cut it, and nobody has asked for it
    assert retriever.search("query", k=2).tier == "certified"
    assert lengths()["query"] == 5
    for i in range(40):
        corpus.add(f"nearer {i}", tilted(embed("query"), 0.0001 * i))
    bytes_before = cache.stats().bytes
    assert retriever.search("elsewhere", k=2).tier == "certified"
    assert set(lengths()) == {"elsewhere"}
    assert cache.stats().bytes < bytes_before + 4000  # a result came, a list went
    result = retriever.search("query", k=2)
    assert result.tier == "miss"
    assert found(result) == brute_force(corpus, "query", embed("query"), 2, retriever.settings, None)


def test_what_is_gone_makes_no_list_longer():
    """Ten thousand chunks that came and went again leave a list as long as it was."""
    corpus = spread_corpus(100)
    cache = RetrievalCache(candidates=20)
    retriever = make_retriever(corpus, cache=cache, settings=DENSE)
    retriever.search("query")
    for i in range(60):
        number = corpus.add(f"near {i}", tilted(embed("query"), 0.01))
        assert retriever.search("query").tier == "certified"
        corpus.remove(number)
    assert retriever.search("query").tier == "certified"
    ((entry,),) = cache._tables.values()
    assert len(entry.chunks) <= 40


def test_a_reader_of_an_older_state_neither_uses_nor_harms_the_lists():
    corpus = spread_corpus(100)
    cache = RetrievalCache(candidates=5)
    space, query = Space("fake", None), embed("query")
    old = FakeView(corpus)
    corpus.add("query")
    new = FakeView(corpus)
    ((numbers, scores),) = new.nearest(query[None], 5, allowed=None)
    dense = DenseList(numbers, scores, float(scores[-1]), 5)
    cache.keep_list(new, ListKey(space, "query"), query, dense, seconds=1.0)
    assert cache.certified(old, space, query, k=1, max_chunks=5) is None
    cache.keep_list(old, ListKey(space, "other"), query, dense, seconds=1.0)
    assert cache.stats().num_lists == 1
    assert cache.certified(new, space, query, k=1, max_chunks=5).text == "query"


def test_lists_of_another_corpus_are_dropped():
    cache = RetrievalCache(candidates=5)
    make_retriever(spread_corpus(50), cache=cache, settings=DENSE).search("query")
    other = spread_corpus(60)
    other.version = other.version._replace(token="other")
    retriever = make_retriever(other, cache=cache, settings=DENSE)
    assert retriever.search("query").tier == "miss"
    assert cache.stats().num_lists == 1


def test_lists_of_an_index_that_was_made_anew_in_its_place_do_not_keep_the_new_ones_out():
    cache, corpus = RetrievalCache(candidates=500), spread_corpus(50)
    retriever = make_retriever(corpus, cache=cache, settings=DENSE)
    retriever.search("query")
    assert retriever.search("another query").tier == "certified"  # by a list of every chunk
    anew = spread_corpus(40)
    anew.version = anew.version._replace(generation=corpus.version.generation - 30, token="new")
    retriever.index = anew
    assert retriever.search("query").tier == "miss"
    assert cache.stats().num_lists == 1
    assert retriever.search("another query").tier == "certified"


def test_results_of_an_earlier_state_do_not_take_the_place_of_others():
    cache, corpus = RetrievalCache(candidates=5), spread_corpus(50)
    retriever = make_retriever(corpus, cache=cache, settings=DENSE)
    for number in range(20):
        retriever.search(f"query {number}")
    assert cache.stats().num_results == 20
    corpus.add("new")
    retriever.search("query 0")
    assert cache.stats().num_results == 1


def test_a_query_that_is_kept_does_not_hold_the_batch_that_it_came_in():
    cache, corpus = RetrievalCache(candidates=5), spread_corpus(50)
    retriever = make_retriever(corpus, cache=cache, settings=DENSE)
    retriever.search_batch([f"query {number}" for number in range(8)])
    (table,) = cache._tables.values()
    vectors = [*cache._vectors.values(), *(entry.vector for entry in table)]
    assert len(vectors) == 16
    assert all(vector.base is None for vector in vectors)


def test_lists_under_a_filter_do_not_grow_by_what_the_filter_keeps_out():
    corpus = spread_corpus(100)
    cache = RetrievalCache(candidates=20)
    retriever = make_retriever(corpus, cache=cache, settings=DENSE)
    filters = Filters(document_ids=frozenset({"d"}))
    retriever.search("query", filters=filters)
    (key,) = (key for key in cache._ledger if isinstance(key, ListKey))
    before = cache._ledger._accounts[key].size
    corpus.add("outside", embed("query"), document="elsewhere")
    corpus.add("inside", tilted(embed("query"), 0.01))
    result = retriever.search("query", k=1, filters=filters)
    assert (result.tier, result.hits[0].chunk.text) == ("certified", "inside")
    (table,) = cache._tables.values()
    assert len(next(iter(table)).chunks) == 21
    assert cache._ledger._accounts[key].size == bytes_of_list(key, next(iter(table))) > before


def test_only_what_is_above_the_bound_is_read_as_certain():
    corpus = spread_corpus(50)
    view, query = FakeView(corpus), embed("query")
    ((numbers, scores),) = view.nearest(query[None], 10, allowed=None)

    def past(bound: float) -> Nearby:
        return Nearby("past", 1.0, numbers, bound, ("past",))

    for bound, certain in ((float(scores[3]), 3), (float(np.nextafter(scores[3], -1)), 4), (1.0, 0)):
        dense = reread(view, past(bound), query, depth=8, allowed=None)
        assert dense.num_certain == len(dense.chunks) == certain
        assert dense.bound == bound
    cut = reread(view, past(float(scores[9])), query, depth=2, allowed=None)
    assert (cut.num_certain, cut.bound) == (2, float(scores[1]))
    guess = reread(view, past(np.inf), query, depth=8, allowed=None)
    assert (guess.num_certain, len(guess.chunks)) == (0, 8)


@pytest.mark.parametrize(
    "option",
    [
        {"candidates": 0},
        {"max_bytes": -1},
        {"similarity_threshold": 1.5},
        {"similarity_threshold": -2},
        {"max_false_hit_rate": -0.1},
        {"max_false_hit_rate": 1.1},
        {"min_recall": 0},
        {"audit_share": 0},
        {"ttl_s": 0},
    ],
)
def test_options_out_of_range_are_errors(option):
    with pytest.raises(InvalidRetrievalSettings, match=next(iter(option))):
        RetrievalCache(**option)


@pytest.mark.parametrize(
    "vector",
    [
        np.full(DIMENSION, np.nan, np.float32),
        np.zeros(DIMENSION, np.float32),
        np.full(DIMENSION, np.inf, np.float32),
        2 * embed("amber"),
        np.ones((1, DIMENSION), np.float32) / 4,
        np.zeros(0, np.float32),
    ],
)
def test_what_is_no_unit_vector_is_an_error_and_leaves_no_trace(vector):
    embedder = FakeEmbedder({"broken": vector})
    retriever = make_retriever(spread_corpus(), embedder)
    for _ in range(2):
        with pytest.raises(InvalidQueryVector):
            retriever.search("broken")
    stats = retriever.cache.stats()
    assert (stats.num_vectors, stats.num_lists, stats.num_results) == (0, 0, 0)
    assert retriever.search("amber").hits


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_a_vector_of_another_length_than_those_kept_is_an_error(budget):
    embedder = FakeEmbedder({"longer": np.ones(64, np.float32) / 8})
    cache = RetrievalCache(candidates=8, max_false_hit_rate=budget)
    retriever = make_retriever(spread_corpus(), embedder, cache=cache)
    retriever.search("amber")
    with pytest.raises(InvalidQueryVector, match=rf"\(64,\), \({DIMENSION},\) is needed"):
        retriever.search("longer")
    assert retriever.search("amber").tier == "exact"


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_a_filter_that_matches_nothing_has_no_hits_in_any_tier(budget):
    cache = RetrievalCache(max_false_hit_rate=budget, similarity_threshold=-1)
    retriever = make_retriever(spread_corpus(), cache=cache)
    nothing = Filters(document_ids=frozenset({"nowhere"}))
    for query in ("amber", "amber", "amber basin"):
        assert retriever.search(query, filters=nothing).hits == ()


class Clock:
    """Shows what it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_entries_are_dropped_when_they_reach_their_age():
    clock, embedder = Clock(), FakeEmbedder()
    cache = RetrievalCache(ttl_s=10, clock=clock)
    retriever = make_retriever(spread_corpus(), embedder, cache=cache)
    retriever.search("amber")
    clock.now += 9.9
    assert retriever.search("amber").tier == "exact"
    retriever.search("basin")
    clock.now += 0.2
    assert retriever.search("amber").tier == "miss"
    assert retriever.search("basin").tier == "exact"
    assert embedder.batches == [["amber"], ["basin"], ["amber"]]


def test_a_clock_that_goes_backwards_revives_nothing_and_ages_nothing_twice():
    clock = Clock()
    cache = RetrievalCache(ttl_s=10, clock=clock)
    retriever = make_retriever(spread_corpus(), cache=cache)
    retriever.search("amber")
    clock.now += 8
    retriever.search("basin")
    clock.now -= 500
    assert retriever.search("amber").tier == "exact"
    retriever.search("cedar")
    clock.now += 502.5
    tiers = [retriever.search(query).tier for query in ("amber", "basin", "cedar")]
    assert tiers == ["miss", "exact", "exact"]
