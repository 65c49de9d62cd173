"""What the drafts of one question may lead to, searched for while they are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from retriever.lookahead import LookaheadRetriever
from retriever.lookahead_gate import PrefetchGate
from retriever.lookahead_sources import DraftQueries, QueuedQueries
from retriever.rounds import query_from_passages

if TYPE_CHECKING:
    from retriever.prefetching import BatchSearcher, SearchOptions
    from retriever.types import Hit, SearchResult


@dataclass(frozen=True, slots=True)
class FurtherRounds:
    """How often to retrieve in all, and how every time after the first."""

    num_rounds: int
    searcher: BatchSearcher
    options: SearchOptions
    load: Callable[[], float] = lambda: 0.0  # how many others wait for a search now


class FurtherSearches(Protocol):
    """Searches for what drafts lead to. A context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def begin_draft(self, hits: Sequence[Hit]) -> None:
        """A draft from these hits is about to be written."""
        ...

    def write(self, piece: str) -> None:
        """The draft goes on."""
        ...

    def search(self, query: str) -> SearchResult:
        """What the finished draft has led to."""
        ...


class SearchedAhead:
    """Guesses what a draft will lead to, and has it searched for in the background."""

    def __init__(self, question: str, further: FurtherRounds, gates: Sequence[PrefetchGate]) -> None:
        """`gates`: see `new_gates`."""
        self._options = further.options._asdict()
        self._near, self._written = QueuedQueries(), DraftQueries(question)
        self._question = question
        self._ahead = LookaheadRetriever(
            further.searcher,
            window=2,
            sources=[self._near, self._written],
            gates=gates,
            load=further.load,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ahead.close()

    def begin_draft(self, hits: Sequence[Hit]) -> None:
        """What was near is known before the first word."""
        self._ahead.cancel()  # what the draft before did not lead to
        self._near.clear()
        self._near.extend([query_from_passages(self._question, hits)])
        self._look_ahead()

    def write(self, piece: str) -> None:
        """The text so far is looked ahead for at every end of a sentence, and once it is settled."""
        if self._written.write(piece):
            self._look_ahead()

    def search(self, query: str) -> SearchResult:
        """Waits for a search for the query that has begun, or searches now."""
        self._near.clear()
        return self._ahead.get(query, **self._options)

    def _look_ahead(self) -> None:
        settled = self._written.settled
        self._ahead.expect([settled] if settled is not None else (), **self._options)


class SearchedNow:
    """Nothing is searched for before it is asked for."""

    def __init__(self, further: FurtherRounds) -> None:
        self._further = further

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin_draft(self, hits: Sequence[Hit]) -> None:
        """Nothing follows from it."""

    def write(self, piece: str) -> None:
        """Nothing follows from it."""

    def search(self, query: str) -> SearchResult:
        """Searches now."""
        [result] = self._further.searcher.search_batch([query], **self._further.options._asdict())
        return result


def new_gates() -> tuple[PrefetchGate, ...]:
    """One for a draft's query once it is settled, one for what was near, one for the text so far."""
    return PrefetchGate(), PrefetchGate(), PrefetchGate()


def further_searches(
    question: str, further: FurtherRounds, gates: Sequence[PrefetchGate], *, prefetch: bool
) -> FurtherSearches:
    """What searches for a question's drafts: ahead, as long as any gate would let a guess through.

    So where guessing has not paid, a question costs what it costs without, but for one in so many. A gate
    that was never tried has no say beside one that was: a short draft never gets as far as to be settled.
    """
    load, tried = further.load(), [gate for gate in gates if gate.is_tried]
    chances = [gate.may_admit(load) for gate in tried or gates] if prefetch else []  # each counts its own
    if any(chances):
        return SearchedAhead(question, further, gates)
    return SearchedNow(further)
