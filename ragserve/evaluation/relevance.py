"""Which of the found chunks hold what a question asks for, by the most exact thing that is known of it.

Gold passages, where the record has them: a chunk counts when the two share half of the shorter one's runs of
five words, so chunks that cut or span the passage are found. Else gold files, with the page if there is one.
Else the answers themselves: a chunk counts when it holds one (Karpukhin et al. 2020, section 4: top-k
accuracy). Each passage or file counts once, at the rank of the first chunk that brings it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from generator.training.scoring import normalise_answer

if TYPE_CHECKING:
    from indexer.types import Chunk
    from ragserve.evaluation.records import EvalQuestion
    from retriever.types import Hit

Relevant = Callable[["Chunk"], bool]
_RUN = 5  # words
_SHARED = 0.5


def gold_ranks(question: EvalQuestion, hits: Sequence[Hit]) -> tuple[int | None, ...] | None:
    """Rank (from 1) at which each gold item comes up, None for one that does not; None: nothing is known."""
    tests = _tests(question)
    if not tests:
        return None
    return tuple(next((hit.rank for hit in hits if test(hit.chunk)), None) for test in tests)


def holds_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether a text has one of the answers as whole words, after SQuAD's normalisation."""
    padded = f" {normalise_answer(text)} "
    found = (normalise_answer(answer) for answer in answers)
    return any(answer and f" {answer} " in padded for answer in found)


def _tests(question: EvalQuestion) -> list[Relevant]:
    if question.answerable is False:
        return []  # SQuAD 2.0 gives impossible questions a passage as well
    if question.passages:
        return [_shares_text(passage) for passage in question.passages]
    if question.documents:
        return [_is_of(document, question.page) for document in question.documents]
    if question.answers:
        return [lambda chunk: holds_answer(chunk.text, question.answers)]
    return []


def _shares_text(passage: str) -> Relevant:
    wanted = _runs(passage)

    def test(chunk: Chunk) -> bool:
        found = _runs(chunk.text)
        shorter = min(len(wanted), len(found))
        return shorter > 0 and len(wanted & found) >= _SHARED * shorter

    return test


def _is_of(document: str, page: int | None) -> Relevant:
    ending = "/" + document.lstrip("/")

    def test(chunk: Chunk) -> bool:
        if not any(f"/{uri}".endswith(ending) for uri in chunk.uris):
            return False
        pages = {chunk.page, *(box.page for box in chunk.boxes)} - {None}
        return page is None or not pages or page in pages

    return test


def _runs(text: str) -> frozenset[tuple[str, ...]]:
    words = normalise_answer(text).split()
    return frozenset(tuple(words[i : i + _RUN]) for i in range(max(1, len(words) - _RUN + 1)) if words)
