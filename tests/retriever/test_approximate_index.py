"""Over an index that may miss a chunk: nothing is certified by what it found, and the result says so."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import FakeCorpus, FakeView, found, make_retriever

from retriever.lists import DenseList

TEXTS = ["amber basin", "cedar delta", "ember fjord", "grove heron"]


@pytest.fixture
def corpus() -> FakeCorpus:
    corpus = FakeCorpus()
    for i in range(60):
        corpus.add(f"{TEXTS[i % 4]} {i}")
    return corpus


@pytest.fixture
def approximate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake index still compares all vectors, but does not promise it."""
    monkeypatch.setattr(FakeView, "is_exact", False)


def test_a_search_is_proven_only_if_all_vectors_were_compared(
    corpus: FakeCorpus, monkeypatch: pytest.MonkeyPatch
):
    exact = make_retriever(corpus).search("amber basin", k=3)
    monkeypatch.setattr(FakeView, "is_exact", False)
    approximate = make_retriever(corpus).search("amber basin", k=3)
    assert exact.explanation["proven"] is True
    assert approximate.explanation["proven"] is False
    assert found(approximate) == found(exact)  # which is no reason to look for longer, or to rank otherwise


@pytest.mark.usefixtures("approximate")
def test_its_lists_certify_nothing(corpus: FakeCorpus):
    retriever = make_retriever(corpus)
    tiers = [retriever.search("amber basin", k=k).tier for k in (5, 4, 5)]
    assert tiers == ["miss", "miss", "exact"]


def test_lists_from_before_go_on_certifying(corpus: FakeCorpus, monkeypatch: pytest.MonkeyPatch):
    retriever = make_retriever(corpus)
    before = retriever.search("amber basin", k=5)
    monkeypatch.setattr(FakeView, "is_exact", False)
    after = retriever.search("amber basin", k=4)
    assert after.tier == "certified"
    assert found(after) == found(before)[:4]


def test_a_list_without_a_bound_stays_without_when_it_is_cut():
    unbounded = DenseList(np.arange(3), np.ones(3, np.float32), np.inf, 0)
    assert unbounded.first(5).bound == np.inf
