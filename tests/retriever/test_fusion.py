from __future__ import annotations

import math

import numpy as np
import pytest
from fakes import FakeCorpus, embed
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.scoring import exact_scores
from retriever.background import Background
from retriever.cache_lists import Nearby
from retriever.fusion import FusionInput, rank
from retriever.lists import Candidates, DenseList, LexicalList
from retriever.reread import reread
from retriever.settings import RetrievalSettings

QUERY = np.array([1.0, 0.0, 0.0, 0.0], np.float32)
NOTHING = np.zeros((0, 4), np.float32)


def given_lists(
    dense: dict[int, float], lexical: dict[int, float], *, depth: int = 100, cut: int | None = None
):
    """The input that lists of these scores make; `cut` keeps only so much of each."""
    by_dense = sorted(dense, key=lambda n: (-dense[n], n))
    by_text = sorted((n for n in lexical if lexical[n] > 0), key=lambda n: (-lexical[n], n))
    dense_bound, text_bound = -np.inf, 0.0
    if cut is not None and cut < len(by_dense):
        dense_bound = dense[by_dense[cut - 1]]
    if cut is not None and cut <= len(by_text):
        text_bound = lexical[by_text[cut - 1]]
    by_dense, by_text = by_dense[:cut], by_text[:cut]
    numbers = np.array(sorted({*by_dense, *by_text}), np.int64)

    def pick(scores, which):
        return np.array([scores.get(int(n), 0.0) for n in which], np.float32)

    return FusionInput(
        QUERY,
        depth,
        Background(NOTHING),
        DenseList(np.array(by_dense, np.int64), pick(dense, by_dense), dense_bound, len(by_dense)),
        LexicalList(np.array(by_text, np.int64), pick(lexical, by_text), text_bound),
        Candidates(
            numbers,
            np.array([f"{n:032d}" for n in numbers], "S32"),
            pick(dense, numbers),
            pick(lexical, numbers),
        ),
    )


def test_the_pool_is_the_mean_of_two_probabilities():
    options = RetrievalSettings(
        dense_midpoint=5.0, dense_scale=2.0, lexical_scale=3.0, lexical_floor=4.0, dense_weight=0.25
    )
    given = given_lists({1: 0.9, 2: 0.5, 3: 0.2}, {1: 6.0, 2: 9.0})
    ranked = rank(options, given)
    # Nothing is known of the corpus: mean 0.1, deviation 0.1.
    total = math.exp(4 / 3) + math.exp(6 / 3) + math.exp(9 / 3)
    expected = {
        1: 0.25 / (1 + math.exp(-(8 - 5) / 2)) + 0.75 * math.exp(6 / 3) / total,
        2: 0.25 / (1 + math.exp(-(4 - 5) / 2)) + 0.75 * math.exp(9 / 3) / total,
        3: 0.25 / (1 + math.exp(-(1 - 5) / 2)),
    }
    assert ranked.chunks.tolist() == [2, 1, 3]
    assert ranked.scores.tolist() == pytest.approx([expected[2], expected[1], expected[3]], rel=1e-5)
    assert ranked.num_certain == math.inf


def test_only_the_best_of_the_list_share_the_lexical_opinion():
    given = given_lists({1: 0.1, 2: 0.1, 3: 0.1}, {1: 20.0, 2: 19.0, 3: 18.0})
    narrow = rank(RetrievalSettings(depth=1, dense_weight=0.0, lexical_scale=1.0), given)
    wide = rank(RetrievalSettings(depth=3, dense_weight=0.0, lexical_scale=1.0), given)
    assert narrow.scores[0] == pytest.approx(1 / (1 + math.exp(7 - 20)))
    assert wide.scores[0] == pytest.approx(1 / (1 + math.exp(-1) + math.exp(-2) + math.exp(7 - 20)))


def test_a_list_that_is_sure_outvotes_one_that_is_not():
    sure_words = given_lists({1: 0.35, 2: 0.34, 3: 0.33}, {3: 25.0, 1: 8.0, 2: 8.0})
    sure_meaning = given_lists({1: 0.95, 2: 0.3, 3: 0.3}, {3: 8.1, 2: 8.0, 1: 7.9})
    assert rank(RetrievalSettings(), sure_words).chunks[0] == 3
    assert rank(RetrievalSettings(), sure_meaning).chunks[0] == 1


def test_reciprocal_ranks_are_weighted_and_stop_at_the_depth():
    given = given_lists({1: 0.9, 2: 0.8, 3: 0.7}, {3: 5.0, 4: 4.0, 1: 3.0}, depth=2)
    ranked = rank(RetrievalSettings(ranking="rrf", dense_weight=0.7, rrf_constant=10), given)
    scores = dict(zip(ranked.chunks.tolist(), ranked.scores.tolist(), strict=True))
    assert scores == pytest.approx({1: 0.7 / 11, 2: 0.7 / 12, 3: 0.3 / 11, 4: 0.3 / 12})


def test_ties_are_settled_by_id():
    given = given_lists({5: 0.5, 3: 0.5, 4: 0.5}, {})
    for ranking in ("pool", "dense"):
        assert rank(RetrievalSettings(ranking=ranking), given).chunks.tolist() == [3, 4, 5]


scores = st.dictionaries(
    st.integers(0, 30),
    st.tuples(st.floats(-1, 1, width=32), st.sampled_from([0.0, 1.0, 5.0, 8.0, 20.0])),
    min_size=1,
    max_size=25,
)


@pytest.mark.parametrize("ranking", ["pool", "rrf", "dense", "lexical"])
@settings(max_examples=150, deadline=None)
@given(scores, st.integers(1, 6))
def test_what_is_called_certain_does_not_change_when_everything_is_known(ranking, table, cut):
    dense, lexical = ({n: pair[i] for n, pair in table.items()} for i in (0, 1))
    options = RetrievalSettings(ranking=ranking, depth=cut)
    short = rank(options, given_lists(dense, lexical, depth=cut, cut=cut))
    full = rank(options, given_lists(dense, lexical, depth=cut))
    certain = int(min(short.num_certain, len(short.chunks)))
    if ranking in ("rrf", "lexical"):  # a score of 0 is no hit
        certain = min(certain, np.count_nonzero(short.scores > 0))
    assert short.chunks[:certain].tolist() == full.chunks[:certain].tolist()
    assert short.scores[:certain].tolist() == full.scores[:certain].tolist()


@pytest.mark.parametrize("ranking", ["pool", "rrf", "dense"])
@pytest.mark.parametrize("depth", [3, 6, 9])
def test_lists_of_past_queries_without_a_certificate_make_nothing_certain(ranking, depth):
    corpus = FakeCorpus()
    listed = np.array([corpus.add(text) for text in "abcdef"], np.int64)
    corpus.add("g")  # on none of the lists, and the very best
    query = embed("g")
    nearby = Nearby("past", 0.9, listed, np.inf, ("past",))
    with corpus.view() as view:
        dense = reread(view, nearby, query, depth=depth, allowed=None)
        chunks = np.sort(dense.chunks)
        similar = exact_scores(view.vectors(chunks)[1], query)
        candidates = Candidates(chunks, view.ids(chunks), similar, np.zeros_like(similar))
        nothing = LexicalList(np.zeros(0, np.int64), np.zeros(0, np.float32), 0.0)
        given = FusionInput(query, 3, Background(view.sample(9)), dense, nothing, candidates)
    assert len(dense.chunks) == min(depth, 6)
    assert rank(RetrievalSettings(ranking=ranking), given).num_certain == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(50, 300))
def test_the_yardstick_is_the_mean_and_the_deviation_over_the_sample(seed, count):
    rng = np.random.default_rng(seed)
    sample = rng.standard_normal((count, 4)).astype(np.float32)
    query = rng.standard_normal(4).astype(np.float32)
    products = sample.astype(np.float64) @ query
    share = count / (count + 32)
    mean = share * products.mean() + (1 - share) * 0.1
    variance = share * products.var() + (1 - share) * 0.01
    z = Background(sample).standardise(query, np.array([0.5]))
    assert z[0] == pytest.approx((0.5 - mean) / math.sqrt(variance))


def test_the_yardstick_of_one_query_is_never_that_of_another():
    rng = np.random.default_rng(0)
    sample = rng.standard_normal((50, 8)).astype(np.float32)
    queries = rng.standard_normal((3, 8)).astype(np.float32)
    kept = Background(sample)
    for query in (queries[0], queries[1], queries[1], queries[2], queries[0]):
        fresh = Background(sample).standardise(query, np.array([0.5]))
        np.testing.assert_array_equal(kept.standardise(query, np.array([0.5])), fresh)
