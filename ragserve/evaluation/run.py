"""Runs: every question through the pipeline, or through a generator with the question's own passages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, get_args

from indexer.lazy import Lazy
from ragserve.answering import Answerer, AnswerGenerator, final_answer
from ragserve.errors import RagserveError, TypedError
from ragserve.evaluation.outcomes import Outcome, answered, failed, searched

if TYPE_CHECKING:
    from ragserve.evaluation.records import EvalQuestion
    from ragserve.pipeline import Pipeline
    from retriever.types import SearchResult

_TYPED_ERRORS: tuple[type[Exception], ...] = get_args(TypedError)


class NoOwnPassages(RagserveError):
    """Questions shall be answered from their own passages, and one has none."""

    code = "no-own-passages"


class Subject(Protocol):
    """What is evaluated."""

    def __call__(self, question: EvalQuestion) -> Outcome:
        """Answer one question and judge the answer."""
        ...


def evaluate(questions: Sequence[EvalQuestion], subject: Subject) -> Iterator[Outcome]:
    """The outcome of each question, in order; one that ends in a typed error is an outcome as well."""
    for question in questions:
        try:
            yield subject(question)
        except _TYPED_ERRORS as error:
            yield failed(question, str(error))


class OverIndex:
    """The whole pipeline: searches the index, reads what it finds. No cache: no question is known.

    With several `rounds` the ranks are those of the passages that the last answer is made from.
    """

    def __init__(self, pipeline: Pipeline, *, retrieval_only: bool = False, rounds: int = 1) -> None:
        self._pipeline = pipeline
        self._retrieval_only = retrieval_only
        self._rounds = rounds

    def __call__(self, question: EvalQuestion) -> Outcome:
        """See `Subject`."""
        if self._retrieval_only:
            began = time.perf_counter()
            result = self._pipeline.search(question.question, use_cache=False)
            return searched(question, result.hits, seconds=time.perf_counter() - began)
        answer = self._pipeline.ask(question.question, use_cache=False, rounds=self._rounds)
        return answered(question, answer, self._pipeline.index.document_text)


class OverOwnPassages:
    """The generator alone: reads the question's own passages, in their order, whatever their length."""

    def __init__(
        self, generator: Callable[[], AnswerGenerator], *, max_new_tokens: int | None = None
    ) -> None:
        self._generator = Lazy(generator)
        self._max_new_tokens = max_new_tokens

    def __call__(self, question: EvalQuestion) -> Outcome:
        """See `Subject`."""
        if not question.passages:
            raise NoOwnPassages(
                f"The question {question.id!r} has no passage of its own.",
                hint="Give it one, or evaluate over an index.",
            )
        texts = {f"passage-{rank}": text for rank, text in enumerate(question.passages, start=1)}
        answerer = Answerer(self._generator, texts.__getitem__, max_new_tokens=self._max_new_tokens)
        result = _as_found(texts)
        answer = final_answer(answerer.events(question.question, result, retrieval_seconds=0.0))
        return answered(question, answer, texts.__getitem__, search=False)


def _as_found(texts: dict[str, str]) -> SearchResult:
    """Passages in the form in which a search returns them, each a document of its own."""
    from indexer.types import Chunk
    from retriever.types import Hit, SearchResult

    chunks = (
        Chunk(name, name, name, text, 0, len(text), None, (), (), "text") for name, text in texts.items()
    )
    return SearchResult(tuple(Hit(chunk, 0.0, rank) for rank, chunk in enumerate(chunks, start=1)), "miss")
