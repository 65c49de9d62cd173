from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from generator.training import PrefetchDataLoader
from generator.training.errors import DataLoadingFailed


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_items_come_in_order_from_where_the_run_stands() -> None:
    with PrefetchDataLoader(lambda step: step * step, first=3, last=7) as loader:
        assert list(loader) == [9, 16, 25, 36]


def test_never_more_than_depth_items_are_ready_ahead() -> None:
    made: list[int] = []
    with PrefetchDataLoader(lambda step: made.append(step), first=0, last=100, depth=3) as loader:
        iterator = iter(loader)
        next(iterator)
        while len(made) < 5:
            time.sleep(0.001)
        time.sleep(0.02)  # for the one too many
        assert len(made) == 5  # one taken, three ready, one in the thread's hand


def test_an_exception_in_the_thread_surfaces_after_the_good_items() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise KeyError("no such passage")
        return step

    seen: list[int] = []

    def consume() -> None:
        with PrefetchDataLoader(make, first=0, last=9) as loader:
            for item in loader:
                seen.append(item)

    with pytest.raises(DataLoadingFailed) as caught:
        consume()
    assert seen == [0, 1]
    assert isinstance(caught.value.__cause__, KeyError)
    assert "no such passage" in str(caught.value)
    assert not prefetch_threads()


def test_leaving_early_stops_a_thread_that_is_blocked_on_a_full_queue() -> None:
    with PrefetchDataLoader(lambda step: bytes(10), first=0, last=10**9, depth=2) as loader:
        next(iter(loader))
    assert not prefetch_threads()
    loader.close()  # closing twice is harmless


def test_an_error_of_the_consumer_stops_the_thread_too() -> None:
    def consume() -> None:
        with PrefetchDataLoader(lambda step: step, first=0, last=10**9) as loader:
            for item in loader:
                _ = 1 / item

    with pytest.raises(ZeroDivisionError):
        consume()
    assert not prefetch_threads()


def test_the_share_of_time_spent_waiting_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that stands still but for three seconds of waiting and one of work an item."""
    now = 0.0

    def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("generator.training.loader.time", SimpleNamespace(perf_counter=lambda: now))
    with PrefetchDataLoader(lambda step: step, first=0, last=5) as loader:
        take = loader._ready.get
        monkeypatch.setattr(loader._ready, "get", lambda **options: (pass_time(3), take(**options))[1])
        for _ in loader:
            pass_time(1)
        assert loader.waited_seconds == 15
        assert loader.waiting_share == 0.75


def test_a_depth_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="depth"):
        PrefetchDataLoader(lambda step: step, first=0, last=1, depth=0)
