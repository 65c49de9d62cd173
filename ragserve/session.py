"""One person's questions, one after another: what is likely to come next is retrieved while others think."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Self

from ragserve.answering import final_answer
from ragserve.answers import Answer, AnswerEvent
from retriever.compound_questions import SubQuestions
from retriever.errors import RetrieverClosed
from retriever.lookahead import LookaheadRetriever, LookaheadStats
from retriever.lookahead_gate import PrefetchGate
from retriever.lookahead_sources import HeadingFollowUps, LookaheadSource
from retriever.typed_query import PastQueries, TypedText

if TYPE_CHECKING:
    from indexer.types import Filters
    from ragserve.pipeline import Pipeline
    from retriever.prefetching import BatchSearcher
    from retriever.types import SearchResult

_NUM_GUESSES = 4  # sources beside the queue of `expect`
_KEEP_FOR = 4  # queries: what was not asked for by then was guessed wrong


class Session:
    """Searches and answers like the pipeline, with results that were retrieved ahead where there are any.

    Expected are, in this order: what `expect` was told; the parts of a question that asks several things;
    past questions that begin with what `typing` was told, and that text itself; the headings around the last
    hits; and what `sources` say. Each has a gate that closes when its guesses cost more than they spare. No
    result depends on any of it. Threads may share it. Close it, or use it as a context manager.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        window: int = 3,
        guesses: bool = True,
        sources: Sequence[LookaheadSource] = (),
        searcher: BatchSearcher | None = None,
        gates: Sequence[PrefetchGate] = (),
        load: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`window`: queries that are looked ahead for. Without `guesses`, those are what `expect` was told
        and what `sources` say. `searcher` searches in place of the pipeline's retriever. `gates` (see
        `new_gates`) and `load` are those of LookaheadRetriever.
        """
        self._pipeline = pipeline
        self._searcher = searcher if searcher is not None else pipeline.retriever
        self._load = load
        self._typed, self._past = TypedText(), PastQueries()
        self._headings = HeadingFollowUps(outline=pipeline.index.outline)
        own = (SubQuestions(), self._past, self._typed, self._headings) if guesses else ()
        self._ahead = LookaheadRetriever(
            self._searcher,
            window=window,
            sources=[*own, *sources],
            keep_for=max(_KEEP_FOR, window),
            gates=(gates or new_gates())[: None if guesses else 1],
            load=lambda: load() + pipeline.cpu_load,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends what runs in the background."""
        self._ahead.close()

    def search(
        self,
        query: str,
        *,
        k: int | None = None,
        filters: Filters | None = None,
        use_cache: bool = True,
        look_ahead: bool = True,
    ) -> SearchResult:
        """What `Pipeline.search` returns, retrieved ahead or else now.

        Then what comes next is retrieved in the background; without `look_ahead`, from `look_ahead()` on.
        """
        query, k = self._pipeline.check_question(query), self._pipeline.check_k(k)
        return self._ahead.get(query, k=k, filters=filters, use_cache=use_cache, look_ahead=look_ahead)

    def look_ahead(
        self, *, k: int | None = None, filters: Filters | None = None, use_cache: bool = True
    ) -> None:
        """Begins to retrieve what is likely to come next. Returns at once."""
        self._ahead.look_ahead(k=self._pipeline.check_k(k), filters=filters, use_cache=use_cache)

    def ask(
        self,
        question: str,
        *,
        k: int | None = None,
        filters: Filters | None = None,
        use_cache: bool = True,
        rounds: int = 1,
    ) -> Answer:
        """What `Pipeline.ask` returns."""
        events = self.ask_stream(question, k=k, filters=filters, use_cache=use_cache, rounds=rounds)
        return final_answer(events)

    def ask_stream(
        self,
        question: str,
        *,
        k: int | None = None,
        filters: Filters | None = None,
        use_cache: bool = True,
        rounds: int = 1,
    ) -> Iterator[AnswerEvent]:
        """What `Pipeline.ask_stream` yields.

        The next questions are retrieved while the answer is made. Where that is on the CPU, which cannot do
        both at once, they are once the events have been read to their end.
        """
        question, k = self._pipeline.check_question(question), self._pipeline.check_k(k)
        further = self._pipeline.further_rounds(
            rounds, k=k, filters=filters, use_cache=use_cache, searcher=self._searcher, load=self._load
        )
        options = {"k": k, "filters": filters, "use_cache": use_cache}
        meanwhile = not self._pipeline.generates_on_cpu

        def events() -> Iterator[AnswerEvent]:
            search = partial(self._ahead.get, question, **options, look_ahead=meanwhile)
            yield from self._pipeline.searched_and_answered(question, search, further=further)
            if not meanwhile:
                with suppress(RetrieverClosed):  # the answer is whole, whatever became of the session
                    self._ahead.look_ahead(**options)

        return events()

    def expect(
        self,
        queries: Iterable[str],
        *,
        k: int | None = None,
        filters: Filters | None = None,
        use_cache: bool = True,
    ) -> None:
        """Says what will be asked next, in this order. Returns at once."""
        checked = [self._pipeline.check_question(query) for query in queries]
        self._ahead.expect(checked, k=self._pipeline.check_k(k), filters=filters, use_cache=use_cache)

    def typing(
        self, text: str, *, k: int | None = None, filters: Filters | None = None, use_cache: bool = True
    ) -> None:
        """Says what has been typed of the next question so far; for when the typing pauses. Returns at
        once."""
        text = text[: self._pipeline.settings.max_question_chars]
        self._typed.write(text)
        self._past.write(text)
        self.look_ahead(k=k, filters=filters, use_cache=use_cache)

    def suggestions(self, limit: int = 3) -> list[str]:
        """What an interface may offer to ask: past questions that begin like what is being typed, then the
        headings around the last hits. They are what is retrieved ahead, as far as that pays.
        """
        offered = dict.fromkeys([*self._past.expected(limit), *self._headings.expected(limit)])
        return list(offered)[:limit]

    def stats(self) -> LookaheadStats:
        """What looking ahead has come to."""
        return self._ahead.stats()

    def wait_until_idle(self, timeout: float | None = None) -> bool:
        """Waits until nothing is being retrieved ahead; False if that took longer than `timeout` seconds."""
        return self._ahead.wait_until_idle(timeout)


def new_gates() -> tuple[PrefetchGate, ...]:
    """Gates for several sessions to share, so that one learns from the others what pays.

    What the caller says comes next is believed; a guess has to come true first.
    """
    wary = [PrefetchGate(first_chance=0.5, max_untried=2) for _ in range(_NUM_GUESSES)]
    return PrefetchGate(), *wary
