"""From a question and its passages to an answer: runs the generator, checks its evidence, keeps the time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from generator.types import GroundedAnswer, Usage
from ragserve.answers import Answer, AnswerEvent, FinalEvent, TokenEvent
from ragserve.errors import AnswerMissing
from ragserve.grounding import cite

if TYPE_CHECKING:
    from generator.cancellation import Cancellation
    from generator.types import Passage
    from generator.types import TokenEvent as GeneratedToken
    from indexer.lazy import Lazy
    from retriever.types import SearchResult

NO_PASSAGES = "The corpus has no passage on this."


class AnswerGenerator(Protocol):
    """What the pipeline asks of a generator; `generator.Generator` is one."""

    def answer_stream(
        self, question: str, passages: Sequence[Passage], **options: Any
    ) -> Iterator[GeneratedToken | GroundedAnswer]:
        """Yields the answer's text in pieces, then the whole of it with its evidence.

        Options, each of which may be ignored: `max_new_tokens`; the passages' `scores` and the `score_band`
        in which they may change places; `cancellation` (`generator.cancellation.Cancellation`), by which
        another thread says that nobody listens any more.

        A `device` (`torch.device` or its name), if it has one, says where it computes: work that can wait
        then waits while the CPU is taken.
        """
        ...


class Answerer:
    """Answers questions whose passages are found; loads the generator when there is a passage to read."""

    def __init__(
        self,
        generator: Lazy[AnswerGenerator],
        document_text: Callable[[str], str],
        *,
        max_new_tokens: int | None,
        score_band: float = 0.0,
    ) -> None:
        self._generator = generator
        self._document_text = document_text
        self._score_band = score_band
        # Not given unless set: what suits a model by default is the model's to say.
        self._options: dict[str, Any] = {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}
        self._counting = threading.Lock()  # guards the next
        self._num_generating = 0

    @property
    def generates_on_cpu(self) -> bool:
        """Whether answers are computed where searches are, so that one holds up the other."""
        device = getattr(self._generator.peek(), "device", None)
        return str(device).partition(":")[0] == "cpu"

    @property
    def num_generating(self) -> int:
        """How many answers the generator is at work on."""
        return self._num_generating

    def events(
        self,
        question: str,
        result: SearchResult,
        *,
        retrieval_seconds: float,
        queue_seconds: float = 0.0,
        cancellation: Cancellation | None = None,
    ) -> Generator[AnswerEvent, None, None]:
        """Yields TokenEvents, then a FinalEvent. Closing the iterator stops the generation.

        `queue_seconds` is how long the question has waited between its retrieval and this call. Raises
        AnswerMissing, and what the generator raises.
        """
        clock = _Clock(retrieval_seconds, queue_seconds)
        if not result.hits:
            yield TokenEvent(NO_PASSAGES)
            nothing = GroundedAnswer(NO_PASSAGES, False, 1.0, (), (), Usage(0, 0))
            yield FinalEvent(self._answer(question, result, nothing, clock))
            return
        generator = self._generator.get()
        clock.generation_begins()
        passages = [(hit.chunk.id, hit.chunk.text) for hit in result.hits]
        options = dict(self._options)
        if self._score_band:
            options |= {"scores": [hit.score for hit in result.hits], "score_band": self._score_band}
        if cancellation is not None:
            options["cancellation"] = cancellation
        stream = generator.answer_stream(question, passages, **options)
        answer: Answer | None = None
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._counted())
            if hasattr(stream, "close"):
                stack.callback(stream.close)
            for event in stream:
                clock.token_comes()
                if isinstance(event, GroundedAnswer):
                    answer = self._answer(question, result, event, clock)
                    break
                if event.text:
                    yield TokenEvent(event.text)
        if answer is None:
            raise AnswerMissing(
                "The generator ended without an answer.",
                hint="The last that it yields must be a GroundedAnswer.",
            )
        yield FinalEvent(answer)  # nothing is generated any more, however long it takes to be read

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self._counting:
            self._num_generating += 1
        try:
            yield
        finally:
            with self._counting:
                self._num_generating -= 1

    def _answer(self, question: str, result: SearchResult, grounded: GroundedAnswer, clock: _Clock) -> Answer:
        citations, num_dropped = cite(grounded.spans, result.hits, self._document_text)
        return Answer(
            question=question,
            text=grounded.text,
            supported=grounded.supported and bool(citations),
            confidence=grounded.confidence,
            citations=citations,
            retrieval=result,
            usage=grounded.usage,
            timings=clock.timings(),
            num_dropped_citations=num_dropped,
            draft=grounded.draft,
        )


def final_answer(events: Iterator[AnswerEvent]) -> Answer:
    """Returns the answer at the end of a stream of events."""
    *_, last = events
    if not isinstance(last, FinalEvent):
        raise TypeError("a stream of events must end with a FinalEvent")
    return last.answer


class _Clock:
    """Seconds that each part of one answer took; waiting for the model to load counts as `load`."""

    def __init__(self, retrieval_seconds: float, queue_seconds: float) -> None:
        self._retrieval = retrieval_seconds
        self._queue = queue_seconds
        self._asked = self._begun = time.perf_counter()
        self._first_token: float | None = None

    def generation_begins(self) -> None:
        self._begun = time.perf_counter()

    def token_comes(self) -> None:
        if self._first_token is None:
            self._first_token = time.perf_counter()

    def timings(self) -> dict[str, float]:
        now = time.perf_counter()
        first_token = now if self._first_token is None else self._first_token
        return {
            "retrieval": self._retrieval,
            "queue": self._queue,
            "load": self._begun - self._asked,
            "first_token": first_token - self._begun,
            "generation": now - self._begun,
            "total": self._retrieval + self._queue + now - self._asked,
        }
