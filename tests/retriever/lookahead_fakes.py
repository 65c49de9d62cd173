"""A retriever that is watched while others look ahead with it, and sources that say what a test wants."""

from __future__ import annotations

import threading

from fakes import PATIENCE, FakeRetriever

from retriever import LookaheadRetriever, SearchResult

BACKGROUND = "retriever-lookahead"


class WatchedRetriever(FakeRetriever):
    """Searches in the background wait at the gate; it has a clock, and knows who searched for what."""

    def __init__(self) -> None:
        super().__init__(gated=BACKGROUND)
        self.waiting = threading.Semaphore(0)  # released when a caller on another thread begins to wait

    def clock(self) -> float:
        if threading.current_thread().name.startswith("caller"):
            self.waiting.release()
        return self.now

    @property
    def ahead(self) -> list[list[str]]:
        return [call.queries for call in self.calls if call.thread == BACKGROUND]

    @property
    def asked(self) -> list[str]:
        return [query for call in self.calls if call.thread != BACKGROUND for query in call.queries]


class Guesses:
    """Always expects the same queries, and notes what it is told."""

    def __init__(self, *queries: str) -> None:
        self.queries = list(queries)
        self.seen: list[tuple[str, SearchResult | None]] = []
        self.failing = False

    def observe(self, query, result):
        if self.failing:
            raise RuntimeError("no idea")
        self.seen.append((query, result))

    def expected(self, limit):
        if self.failing:
            raise RuntimeError("no idea")
        return self.queries[:limit]


def looking(retriever, **options) -> LookaheadRetriever:
    return LookaheadRetriever(retriever, clock=retriever.clock, **options)


def idle(ahead: LookaheadRetriever) -> None:
    assert ahead.wait_until_idle(PATIENCE)
