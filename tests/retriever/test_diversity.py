"""Copies are found by their words; MMR is the greedy rule of its authors, for all candidates at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.diversity import find_copies, maximal_marginal_relevance

NOTICE = "Members may borrow up to six books at a time for three weeks, and renew each of them twice."


def test_a_copy_is_named_with_the_better_text_that_it_repeats():
    texts = [NOTICE, "Something else entirely, on another page.", NOTICE.upper().replace(",", ""), NOTICE]
    copies = find_copies(texts, 0.9)
    assert [(copy.index, copy.of, copy.overlap) for copy in copies] == [(2, 0, 1.0), (3, 0, 1.0)]


def test_rows_of_a_table_that_differ_in_what_matters_are_no_copies():
    rows = [f"Price of part {part} in 2024: {price} crowns" for part, price in (("A7", 12), ("B9", 40))]
    assert find_copies(rows, 0.8) == []


def test_the_overlap_is_that_of_the_sets_of_three_words():
    (copy,) = find_copies(["a b c d e", "a b c d f"], 0.5)  # abc bcd cde, abc bcd cdf
    assert copy.overlap == pytest.approx(2 / 4)
    assert find_copies(["a b c d e", "a b c d f"], 0.51) == []
    assert find_copies(["a", "A!", "b"], 1.0)[0][:2] == (1, 0)
    assert find_copies(["", "..."], 1.0)[0][:2] == (1, 0)


def test_nothing_is_compared_once_enough_are_found():
    assert find_copies(["a", "b", "a"], 1.0, wanted=2) == []
    assert len(find_copies(["a", "b", "a"], 1.0, wanted=3)) == 1


def greedy(relevance, vectors, k, trade_off):
    """The definition, candidate by candidate."""
    low, high = min(relevance, default=0), max(relevance, default=0)
    scaled = [(r - low) / (high - low) if high > low else 1.0 for r in relevance]
    chosen = []
    while len(chosen) < min(k, len(relevance)):
        values = []
        for i in range(len(relevance)):
            nearest = max((float(vectors[i] @ vectors[j]) for j in chosen), default=0.0)
            values.append(-np.inf if i in chosen else trade_off * scaled[i] - (1 - trade_off) * nearest)
        chosen.append(int(np.argmax(values)))
    return chosen


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12), st.integers(1, 14), st.floats(0, 1), st.integers(0, 10_000))
def test_mmr_chooses_as_its_definition_says(count, k, trade_off, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, 4))
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    relevance = np.sort(rng.random(count))[::-1]
    chosen = maximal_marginal_relevance(relevance, vectors, k, trade_off=trade_off)
    assert chosen == greedy(relevance, vectors, k, trade_off)


def test_relevance_alone_is_the_order_there_was_and_novelty_leaves_the_twin_for_last():
    vectors = np.array([[1, 0], [1, 0], [0, 1.0]])
    relevance = np.array([0.9, 0.8, 0.1])
    assert maximal_marginal_relevance(relevance, vectors, 3, trade_off=1.0) == [0, 1, 2]
    assert maximal_marginal_relevance(relevance, vectors, 3, trade_off=0.4) == [0, 2, 1]
