"""Readers of the engine's output, blocking or asynchronous, and the one thread that works for all of them."""

from __future__ import annotations

import asyncio
import atexit
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

from generator.engine.requests import GenerationRequest, RequestProgress
from generator.errors import InvalidRequest
from generator.types import TokenEvent

if TYPE_CHECKING:
    from generator.engine.engine import ContinuousBatchingEngine


class EngineThread:
    """Calls `work` while that says there is more to do, then sleeps until `wake`.

    The thread ends after a while of sleep, so an engine that nobody uses needs no closing; it is not started
    anew for every request, because PyTorch starts helpers of its own beside each thread. When the interpreter
    ends, the thread is ended first, between two calls: one that is in PyTorch then would abort the process.
    """

    def __init__(self, work: Callable[[], bool], *, idle_s: float = 5.0) -> None:
        self._work = work
        self._idle_s = idle_s
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._woken = False
        self._ending = False

    def wake(self) -> None:
        """There is work. Starts the thread unless it runs."""
        with self._changed:
            self._woken = True
            if self._thread is not None:
                self._changed.notify()
            elif not self._ending:
                self._thread = threading.Thread(target=self._run, name="ragserve-engine", daemon=True)
                self._thread.start()
                atexit.register(self.end)

    def end(self) -> None:
        """Ends the thread after the call that it is in, for good."""
        with self._changed:
            self._ending = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._woken or self._ending, self._idle_s)
                if self._ending or not self._woken:
                    self._thread = None
                    if not self._ending:
                        atexit.unregister(self.end)
                    return
                self._woken = False
            while not self._ending and self._work():
                pass


def iterate(engine: ContinuousBatchingEngine, request: GenerationRequest) -> Iterator[TokenEvent]:
    """Yield a request's tokens on the calling thread. It joins the queue now, not at the first `next`.

    A reader that stops reading holds at most its own output; one that leaves has its request cancelled.
    Raises what `add_request` raises at once, and later what the request ends with.
    """
    _check_one_sample(request)
    inbox: queue.SimpleQueue[_News] = queue.SimpleQueue()
    request_id = engine.submit(request, lambda progress: inbox.put(_News(progress)))
    return _drain(engine, request_id, inbox)


def _drain(
    engine: ContinuousBatchingEngine, request_id: str, inbox: queue.SimpleQueue[_News]
) -> Iterator[TokenEvent]:
    try:
        while True:
            news = inbox.get()
            yield from news.events
            if news.last is not None:
                _raise_error(news.last)
                return
    finally:
        engine.cancel(request_id)


async def stream(engine: ContinuousBatchingEngine, request: GenerationRequest) -> AsyncIterator[TokenEvent]:
    """Yield a request's tokens on the event loop.

    A reader that stops reading holds at most its own output; one that leaves has its request cancelled.
    """
    _check_one_sample(request)
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue[_News] = asyncio.Queue()

    def deliver(progress: RequestProgress) -> None:
        loop.call_soon_threadsafe(inbox.put_nowait, _News(progress))

    request_id = engine.submit(request, deliver)
    try:
        while True:
            news = await inbox.get()
            for event in news.events:
                yield event
            if news.last is not None:
                _raise_error(news.last)
                return
    finally:
        engine.cancel(request_id)


class _News:
    """What a step brought one reader.

    Not the progress itself: each holds all tokens so far, and a slow reader would keep every one.
    """

    __slots__ = ("events", "last")

    def __init__(self, progress: RequestProgress) -> None:
        self.events = progress.events
        self.last = progress if progress.finished else None


def _raise_error(progress: RequestProgress) -> None:
    if progress.error is not None:
        raise progress.error


def _check_one_sample(request: GenerationRequest) -> None:
    if request.n != 1:
        raise InvalidRequest("A stream is of one sample.", hint="Send n requests, or read their progress.")
