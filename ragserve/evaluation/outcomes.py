"""What became of one question: the record that runs keep, and that every figure is made from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from generator.training.scoring import exact_match, word_f1
from ragserve.evaluation.relevance import gold_ranks, holds_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ragserve.answers import Answer
    from ragserve.evaluation.records import EvalQuestion
    from retriever.types import Hit

_MARK = re.compile(r"\s*\[\d+\]")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A question as it was answered, or failed. Scores are 0 to 1; None where a thing does not apply."""

    id: str
    question: str
    answers: tuple[str, ...]
    answerable: bool | None
    text: str = ""
    draft: str = ""
    supported: bool | None = None  # None: not answered, only searched for, or failed
    confidence: float | None = None
    gold_ranks: tuple[int | None, ...] | None = None
    f1: float | None = None  # of what was given; on unanswerable questions 1 for giving nothing
    exact: float | None = None
    f1_of_draft: float | None = None  # of the words found, given or not; answerable questions only
    exact_of_draft: float | None = None
    quotes: tuple[str, ...] = ()
    quotes_verbatim: bool | None = None  # all of them stand in their documents at their offsets
    quotes_hold_draft: bool | None = None  # the words given stand in a quote
    quotes_hold_answer: bool | None = None  # a known answer does
    retrieval_seconds: float | None = None
    generation_seconds: float | None = None
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready mapping that `from_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Outcome:
        """Rebuild from `to_dict`, after JSON. Raises TypeError for other fields or missing ones."""
        types = {field.name for field in fields(cls)}
        if not isinstance(data, Mapping) or not types.issuperset(data):
            raise TypeError("not the record of an answered question")
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in data.items()})


def searched(question: EvalQuestion, hits: Sequence[Hit], *, seconds: float) -> Outcome:
    """The outcome where only passages were looked for."""
    return Outcome(
        id=question.id,
        question=question.question,
        answers=question.answers,
        answerable=question.answerable,
        gold_ranks=gold_ranks(question, hits),
        retrieval_seconds=seconds,
    )


def failed(question: EvalQuestion, error: str) -> Outcome:
    """The outcome where an error took the answer's place; it counts as one that is wrong."""
    wrong = 0.0 if question.answers and question.answerable else None
    return Outcome(
        id=question.id,
        question=question.question,
        answers=question.answers,
        answerable=question.answerable,
        f1=wrong,
        exact=wrong,
        f1_of_draft=wrong,
        exact_of_draft=wrong,
        error=error,
    )


def answered(
    question: EvalQuestion, answer: Answer, document_text: Callable[[str], str], *, search: bool = True
) -> Outcome:
    """Judge an answer. `search` False: its passages were handed over, so no ranks are worth telling.

    A generator that says which few words it found is scored by them; another's text is scored without its
    marks. Quotes are compared with the documents anew, not taken from the answer's own check.
    """
    given = (answer.draft or _MARK.sub("", answer.text)) if answer.supported else ""
    found = answer.draft or given
    references = question.answers if question.answerable else ()
    scored = question.answerable is False or bool(references)
    quotes = tuple(citation.quote for citation in answer.citations)
    shown = answer.supported and bool(quotes)
    return Outcome(
        id=question.id,
        question=question.question,
        answers=question.answers,
        answerable=question.answerable,
        text=answer.text,
        draft=answer.draft,
        supported=answer.supported,
        confidence=answer.confidence,
        gold_ranks=gold_ranks(question, answer.hits) if search else None,
        f1=word_f1(given, references) if scored else None,
        exact=exact_match(given, references) if scored else None,
        f1_of_draft=word_f1(found, references) if references else None,
        exact_of_draft=exact_match(found, references) if references else None,
        quotes=quotes,
        quotes_verbatim=all(
            c.quote == document_text(c.document_id)[c.start : c.end] for c in answer.citations
        )
        if shown
        else None,
        quotes_hold_draft=any(answer.draft in quote for quote in quotes) if shown and answer.draft else None,
        quotes_hold_answer=any(holds_answer(quote, references) for quote in quotes)
        if shown and references
        else None,
        retrieval_seconds=answer.timings.get("retrieval") if search else None,
        generation_seconds=answer.timings.get("generation"),
    )
