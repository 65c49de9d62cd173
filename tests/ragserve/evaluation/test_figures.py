"""Relevance, outcomes and figures on cases small enough to work out by hand."""

from __future__ import annotations

import math

import pytest

from indexer.types import Box, Chunk
from ragserve.evaluation.figures import compare, measure
from ragserve.evaluation.outcomes import Outcome, failed
from ragserve.evaluation.records import EvalQuestion
from ragserve.evaluation.relevance import gold_ranks, holds_answer
from retriever.types import Hit

TEXT = "The Wagtail stops sailing at a mean wind of 34 knots, and the skipper may stop earlier."


def hits(*chunks: Chunk) -> list[Hit]:
    return [Hit(chunk, 1.0, rank) for rank, chunk in enumerate(chunks, start=1)]


def chunk(text: str = "other", uri: str = "/docs/a.md", page: int | None = None, boxes=()) -> Chunk:
    return Chunk(f"{uri}:{text}", uri, uri, text, 0, len(text), page, boxes, (), "text")


def outcome(**fields) -> Outcome:
    return Outcome(**{"id": "1", "question": "?", "answers": (), "answerable": True, **fields})


def figures(outcomes, cutoff=5) -> dict[str, float]:
    return {one.figure.name: one.value for one in measure(outcomes, cutoff=cutoff)}


# --- relevance


def test_a_chunk_that_cuts_or_spans_the_gold_passage_counts():
    question = EvalQuestion("1", "?", passages=(TEXT,))
    cut, spanning = chunk(TEXT[:60]), chunk("Before it. " * 9 + TEXT + " After it." * 9)
    assert gold_ranks(question, hits(chunk(), cut)) == (2,)
    assert gold_ranks(question, hits(spanning)) == (1,)
    assert gold_ranks(question, hits(chunk("The Wagtail stops for the skipper."))) == (None,)


def test_a_gold_file_is_the_end_of_a_path_and_a_page_narrows_it():
    question = EvalQuestion("1", "?", documents=("docs/a.md",), page=3)
    assert gold_ranks(
        question, hits(chunk(uri="/x/docs/a.md", page=2), chunk(uri="/x/docs/a.md", page=3))
    ) == (2,)
    assert gold_ranks(question, hits(chunk(uri="/x/mydocs/a.md", page=3))) == (None,)
    over_the_page = chunk(uri="docs/a.md", page=2, boxes=(Box(2, 0, 0, 1, 1), Box(3, 0, 0, 1, 1)))
    assert gold_ranks(question, hits(over_the_page)) == (1,)
    assert gold_ranks(question, hits(chunk(uri="docs/a.md"))) == (1,)  # a file without pages


def test_without_passage_or_file_a_chunk_with_the_answer_counts():
    question = EvalQuestion("1", "?", answers=("34 knots",), answerable=True)
    assert gold_ranks(question, hits(chunk("134 knots"), chunk(TEXT))) == (2,)
    assert holds_answer("At the 34-knots mark: 34 Knots!", ["the 34 knots"])


def test_nothing_known_or_no_answer_to_find_is_no_rank_at_all():
    assert gold_ranks(EvalQuestion("1", "?"), hits(chunk())) is None
    unanswerable = EvalQuestion("1", "?", answerable=False, passages=(TEXT,))
    assert gold_ranks(unanswerable, hits(chunk(TEXT))) is None


# --- figures


def test_retrieval_figures_of_two_gold_items_and_of_one_that_is_missing():
    found = figures([outcome(gold_ranks=(1, 4)), outcome(gold_ranks=(None,))])
    assert found["recall@1"] == pytest.approx(25)
    assert found["recall@5"] == pytest.approx(50)
    assert found["mrr@5"] == pytest.approx(50)
    ideal = 1 + 1 / math.log2(3)
    assert found["ndcg@5"] == pytest.approx(100 * (1 + 1 / math.log2(5)) / ideal / 2)
    assert "recall@10" not in found


def test_gains_never_exceed_the_best_order():
    assert figures([outcome(gold_ranks=(1, 1))])["ndcg@5"] == 100


def test_refusals_are_judged_by_what_was_answerable():
    outcomes = [
        outcome(supported=True, f1=1.0, exact=1.0, f1_of_draft=1.0),
        outcome(supported=False, f1=0.0, exact=0.0, f1_of_draft=0.8),
        outcome(supported=False, f1=1.0, exact=1.0, answerable=False),
        outcome(supported=True, f1=0.0, exact=0.0, answerable=False),
        outcome(supported=False, answerable=None),
    ]
    found = figures(outcomes)
    assert found["f1"] == 50
    assert found["f1_of_draft"] == 90
    assert found["f1_overall"] == 50
    assert found["right_of_given"] == 50
    assert found["answered"] == 40
    assert found["answerable_answered"] == 50
    assert found["refusal_recall"] == 50
    assert found["refusal_precision"] == 50


def test_figures_that_apply_to_nothing_are_left_out():
    assert figures([outcome(answerable=None)]) == {}


def test_a_failed_question_counts_as_wrong():
    question = EvalQuestion("1", "?", ("x",), True)
    assert figures([failed(question, "no"), outcome(f1=1.0)])["f1"] == 50


def test_latency_is_in_milliseconds_and_by_percentile():
    found = figures([outcome(generation_seconds=s / 1000) for s in range(1, 101)])
    assert found["generation_p50"] == pytest.approx(50, abs=1)
    assert found["generation_p95"] == pytest.approx(95, abs=1)


def test_a_difference_is_clear_when_its_interval_leaves_out_zero():
    before = [outcome(id=str(i), f1=0.2 + i % 7 / 10) for i in range(80)]
    better = [outcome(id=str(i), f1=0.3 + i % 7 / 10) for i in range(80)]
    (same,) = [one for one in compare(before, before, cutoff=5) if one.figure.name == "f1"]
    (changed,) = [one for one in compare(before, better, cutoff=5) if one.figure.name == "f1"]
    assert not same.is_clear
    assert changed.is_clear
    assert changed.after - changed.before == pytest.approx(10)
