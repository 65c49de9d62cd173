"""What the resources share: a pipeline, a batcher before its retriever, threads that generate."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from fastapi import Request

from generator.cancellation import Cancellation
from ragserve.answers import AnswerEvent
from ragserve.errors import InvalidK, ServerNotReady
from ragserve.parts import generation_slots, open_batcher
from ragserve.server.relay import Relay
from ragserve.server.sessions import Sessions
from ragserve.server.traffic import Traffic
from ragserve.session import Session, new_gates
from retriever.errors import RetrieverClosed
from retriever.prefetching import SearchOptions

if TYPE_CHECKING:
    from indexer.types import Filters
    from ragserve.pipeline import Pipeline
    from ragserve.rounds import FurtherRounds
    from retriever import BatchPrefetcher, SearchResult

_log = logging.getLogger("ragserve.server")
_LONGEST_WAIT_FOR_MODELS = 60.0  # seconds that a request waits for them before it is told to come back
_T = TypeVar("_T")


class Service:
    """Turns requests into work off the event loop. `close` leaves the pipeline open."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.settings = pipeline.settings.server
        self.traffic = Traffic(self.settings.max_requests)
        self._generators = ThreadPoolExecutor(
            generation_slots(pipeline.settings), thread_name_prefix="ragserve-answer"
        )
        self._batcher: Future[BatchPrefetcher] = Future()
        self._gates = new_gates()  # what one session learns of what pays, the others know
        self._sessions = Sessions(self._open_session, max_sessions=self.settings.max_sessions)
        self._waiting = ThreadPoolExecutor(self.settings.max_requests, thread_name_prefix="ragserve-session")
        self._loading: threading.Thread | None = None
        self._start_lock = threading.Lock()

    # --- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to load the models in the background; a second call does nothing."""
        with self._start_lock:
            if self._loading is None:
                self._loading = threading.Thread(target=self._load, name="ragserve-load")
                self._loading.start()

    def close(self) -> None:
        """Ends the threads, after what they are doing."""
        if self._loading is not None:
            self._loading.join()
        self._generators.shutdown(wait=True, cancel_futures=True)
        self._sessions.close()
        self._waiting.shutdown(wait=True, cancel_futures=True)
        if self._batcher.done() and self._batcher.exception() is None:
            self._batcher.result().close()

    @property
    def ready(self) -> bool:
        """Whether the models are loaded."""
        return self._batcher.done() and self._batcher.exception() is None

    @property
    def loading(self) -> bool:
        """Whether the models are being loaded, which cannot be interrupted."""
        return self._loading is not None and not self._batcher.done()

    @property
    def failure(self) -> BaseException | None:
        """Why the models could not be loaded, if they could not."""
        return self._batcher.exception() if self._batcher.done() else None

    def _load(self) -> None:
        try:
            self.pipeline.warm_up()
            self._batcher.set_result(open_batcher(self.pipeline.retriever, self.settings))
        except Exception as error:  # noqa: BLE001  it is raised to whoever waits, and ends `serve`
            self._batcher.set_exception(error)

    # --- work -------------------------------------------------------------------------------------

    def check_k(self, k: int | None) -> int:
        """Returns how many passages to retrieve, or raises InvalidK."""
        k = self.pipeline.check_k(k)
        if k > self.settings.max_k:
            raise InvalidK(
                f"k is {k}, this server's limit is {self.settings.max_k}.", hint="Ask for fewer passages."
            )
        return k

    async def search(
        self,
        query: str,
        *,
        k: int,
        filters: Filters | None,
        use_cache: bool,
        session: str | None = None,
        then_answer: bool = False,
    ) -> SearchResult:
        """Finds passages; requests that come together are searched for together.

        In a session, passages that it has retrieved ahead are taken. `then_answer`: `answer` follows, and the
        session retrieves ahead when that may be disturbed.
        """
        batcher = await self._wait_for_batcher()
        if session is not None:
            try:
                look_ahead = not (then_answer and self.pipeline.generates_on_cpu)
                options = {"k": k, "filters": filters, "use_cache": use_cache, "look_ahead": look_ahead}
                return await self._in_session(session, lambda it: it.search(query, **options))
            except RetrieverClosed:
                pass  # others have opened many since: search as without one
        return await asyncio.wrap_future(batcher.submit(query, k=k, filters=filters, use_cache=use_cache))

    async def expect(
        self,
        session: str,
        queries: Sequence[str],
        typed: str | None,
        *,
        k: int,
        filters: Filters | None,
        use_cache: bool,
    ) -> list[str]:
        """Tells a session what comes next; returns what may be offered to ask."""
        await self._wait_for_batcher()

        def tell(it: Session) -> list[str]:
            if typed is not None:
                it.typing(typed, k=k, filters=filters, use_cache=use_cache)
            if queries:
                it.expect(queries, k=k, filters=filters, use_cache=use_cache)
            return it.suggestions()

        try:
            return await self._in_session(session, tell)
        except RetrieverClosed:
            return []

    def search_stats(self) -> Mapping[str, float]:
        """Returns what searching together and ahead has come to, by name; nothing before there are models."""
        if not self.ready:
            return {}
        done = self._batcher.result().stats()
        return {
            "search_batches_total": done.batches,
            "searches_total": done.searched,
            "searches_shared_total": done.shared,
            "searches_waiting": done.waiting,
            "sessions": len(self._sessions),
        }

    def further_rounds(
        self, rounds: int, *, k: int, filters: Filters | None, use_cache: bool
    ) -> FurtherRounds | None:
        """Returns what `answer` takes for so many rounds, whose searches join those of other requests.

        The models are loaded: the first round has searched.
        """
        batcher = self._batcher.result()
        return self.pipeline.further_rounds(
            rounds,
            k=k,
            filters=filters,
            use_cache=use_cache,
            searcher=batcher,
            load=lambda: batcher.stats().waiting,
        )

    def answer(
        self,
        question: str,
        result: SearchResult,
        *,
        retrieval_seconds: float,
        further: FurtherRounds | None = None,
        session: str | None = None,
        options: SearchOptions | None = None,
    ) -> Relay[AnswerEvent]:
        """Returns the events of an answer, made on a thread of their own once one is free.

        Then `session`, if it is still there and did not do so meanwhile, retrieves ahead with these
        `options`.
        """
        queued = time.perf_counter()

        def make(cancellation: Cancellation) -> Iterator[AnswerEvent]:
            yield from self.pipeline.answer_stream(
                question,
                result,
                retrieval_seconds=retrieval_seconds,
                queue_seconds=time.perf_counter() - queued,
                cancellation=cancellation,
                further=further,
            )
            it = self._sessions.find(session) if session is not None else None
            if it is not None and self.pipeline.generates_on_cpu:
                with contextlib.suppress(RetrieverClosed):  # by others, just now
                    it.look_ahead(**(options or SearchOptions())._asdict())

        return Relay(make, self._generators)

    async def _in_session(self, name: str, work: Callable[[Session], _T]) -> _T:
        """Runs it on a thread: what is being retrieved ahead may have to be waited for."""
        running = asyncio.get_running_loop()
        return await running.run_in_executor(self._waiting, lambda: work(self._sessions.named(name)))

    def _open_session(self) -> Session:
        batcher = self._batcher.result()
        return Session(
            self.pipeline, searcher=batcher, gates=self._gates, load=lambda: batcher.stats().waiting
        )

    async def _wait_for_batcher(self) -> BatchPrefetcher:
        if self._batcher.done():
            return self._batcher.result()
        self.start()  # at start-up already, unless the application runs without its lifespan
        loaded = asyncio.wrap_future(self._batcher)
        try:
            return await asyncio.wait_for(asyncio.shield(loaded), _LONGEST_WAIT_FOR_MODELS)
        except TimeoutError:
            raise ServerNotReady(
                "The models are still being loaded.", hint="Wait for GET /readyz to say 200."
            ) from None


def service_of(request: Request) -> Service:
    """Returns the service of the application that a request came to."""
    service: Service = request.app.state.service
    return service
