"""Answers in rounds: a draft, what it makes worth looking for, and an answer from more than was there at
first."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from generator.types import Usage
from ragserve.answers import Answer, AnswerEvent, FinalEvent, RetrievalEvent, TokenEvent
from ragserve.errors import InvalidRounds
from ragserve.looking_ahead import FurtherRounds, FurtherSearches, further_searches, new_gates
from retriever.rounds import (
    ends_sentence,
    explained,
    is_settled,
    merged,
    num_new,
    query_from_draft,
    query_from_passages,
)

if TYPE_CHECKING:
    from generator.cancellation import Cancellation
    from ragserve.answering import Answerer
    from retriever.read_ahead import ReadAhead
    from retriever.types import SearchResult

MAX_ROUNDS = 4


def check_rounds(rounds: int) -> int:
    """Returns how often to retrieve for a question, or raises InvalidRounds."""
    if isinstance(rounds, bool) or not isinstance(rounds, int) or not 1 <= rounds <= MAX_ROUNDS:
        raise InvalidRounds(
            f"rounds is {rounds!r}, which is no number of rounds.",
            hint=f"Use a whole number from 1 to {MAX_ROUNDS}.",
        )
    return rounds


class _Draft(NamedTuple):
    """An answer that may not be the last."""

    texts: Sequence[TokenEvent]
    answer: Answer


class IterativeAnswerer:
    """Answers in rounds, and learns whether it pays to search while a draft is still being written.

    Only the last answer's text is given away. That a draft is the last shows when what it leads to has been
    searched for, so its text then comes in one go. Threads may share it.
    """

    def __init__(self, answerer: Answerer, read_ahead: ReadAhead, *, prefetch: bool = True) -> None:
        """Without `prefetch`, which changes no hit, every search waits for its draft, and for the disk."""
        self._answerer = answerer
        self._read_ahead = read_ahead
        self._prefetch = prefetch
        self._gates = new_gates()

    def events(
        self,
        question: str,
        result: SearchResult,
        *,
        further: FurtherRounds,
        retrieval_seconds: float,
        queue_seconds: float = 0.0,
        cancellation: Cancellation | None = None,
    ) -> Iterator[AnswerEvent]:
        """Yields a RetrievalEvent for each round that finds something new, then TokenEvents and a FinalEvent.

        `result` and the seconds are those of the first round. One that is cancelled ends without an answer.
        """
        progress = _Progress(result)

        def answer() -> Generator[AnswerEvent, None, None]:
            return self._answerer.events(
                question,
                progress.reading,
                retrieval_seconds=retrieval_seconds,
                queue_seconds=queue_seconds,
                cancellation=cancellation,
            )

        with further_searches(question, further, self._gates, prefetch=self._prefetch) as searches:
            for _ in range(further.num_rounds - 1):
                searches.begin_draft(progress.reading.hits)
                with self._reading_ahead(question) as read_near:
                    draft = _draft(answer(), searches, _ReadingAlong(question, read_near), cancellation)
                if draft is None:
                    return
                query, asked = _next_query(question, draft.answer), time.perf_counter()
                found = searches.search(query)
                retrieval_seconds, queue_seconds = time.perf_counter() - asked, 0.0
                if not progress.widen(draft.answer, query, found, k=further.options.k):
                    yield from draft.texts
                    yield FinalEvent(progress.settled(draft.answer, retrieval_seconds))
                    return
                yield RetrievalEvent(progress.reading)
            with closing(answer()) as events:
                for event in events:
                    is_last = isinstance(event, FinalEvent)
                    yield FinalEvent(progress.in_all(event.answer)) if is_last else event

    def _reading_ahead(self, question: str) -> AbstractContextManager[Callable[[str], None]]:
        return self._read_ahead.during(question) if self._prefetch else nullcontext(lambda _: None)


class _ReadingAlong:
    """Has read what is near the draft so far, whenever a sentence was not its last one."""

    def __init__(self, question: str, read_near: Callable[[str], None]) -> None:
        self._question = question
        self._read_near = read_near
        self._text = ""
        self._at_end = self._is_settled = False

    def write(self, piece: str) -> None:
        if self._at_end and not self._is_settled:
            self._is_settled = is_settled(self._text)
            self._read_near(query_from_draft(self._question, self._text))
        if not self._is_settled:
            self._text += piece
            self._at_end = ends_sentence(self._text) or is_settled(self._text)


def _draft(
    events: Generator[AnswerEvent, None, None],
    searches: FurtherSearches,
    reading: _ReadingAlong,
    cancellation: Cancellation | None,
) -> _Draft | None:
    """The whole of an answer, while what it may lead to is searched for; None once it is cancelled."""
    texts: list[TokenEvent] = []
    with closing(events):
        for event in events:
            if cancellation is not None and cancellation.is_cancelled:
                break
            if isinstance(event, FinalEvent):
                return _Draft(texts, event.answer)
            if isinstance(event, TokenEvent):
                texts.append(event)
                searches.write(event.text)
                reading.write(event.text)
    return None


class _Progress:
    """What was found so far, and the drafts that led to more of it."""

    def __init__(self, result: SearchResult) -> None:
        self.reading = result  # what the next answer is made from
        self._found = [result]
        self._log: list[dict[str, Any]] = []
        self._drafts: list[Answer] = []

    def widen(self, draft: Answer, query: str, found: SearchResult, *, k: int) -> bool:
        """Adds what a draft has led to; whether there is anything new to read. What it rests on stays."""
        marks = {citation.mark for citation in draft.citations}
        cited = {hit.chunk.id for hit in draft.hits if hit.rank in marks}
        self._found.append(found)
        wider = merged(self._found, k=k, keep=cited)
        new = num_new(wider, self.reading)
        self._log.append({"query": query, "tier": found.tier, "new_chunks": new})
        if new:
            self._drafts.append(draft)
        self.reading = explained(wider if new else self.reading, self._log)
        return bool(new)

    def settled(self, draft: Answer, seconds: float) -> Answer:
        """The draft as the answer, after a search of so many seconds that has found nothing new."""
        timings = dict(draft.timings)
        timings["retrieval"] += seconds
        timings["total"] += seconds
        timings["first_token"] = timings["generation"]  # its text was held back
        return self.in_all(replace(draft, retrieval=self.reading, timings=timings))

    def in_all(self, answer: Answer) -> Answer:
        """The last answer, with what all rounds took and read; its first token came after all drafts."""
        answers = [*self._drafts, answer]
        timings = {name: sum(one.timings[name] for one in answers) for name in answer.timings}
        drafting = sum(draft.timings["generation"] for draft in self._drafts)
        timings["first_token"] = drafting + answer.timings["first_token"]
        usage = Usage(*map(sum, zip(*(one.usage for one in answers), strict=True)))
        return replace(answer, timings=timings, usage=usage)


def _next_query(question: str, draft: Answer) -> str:
    """What a draft makes worth looking for; one that knows no answer, what lies around what was near."""
    if draft.supported:
        return query_from_draft(question, draft.text)
    return query_from_passages(question, draft.hits)
