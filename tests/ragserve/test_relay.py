from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ragserve.server.relay import Relay


@pytest.fixture
def one_thread():
    with ThreadPoolExecutor(1) as executor:
        yield executor


def test_items_arrive_in_order_and_off_the_loop(one_thread):
    def make():
        assert threading.current_thread() is not threading.main_thread()
        yield from range(100)

    async def collect():
        async with Relay(make, one_thread) as relay:
            return [item async for item in relay.items(idle_seconds=1)]

    assert asyncio.run(collect()) == list(range(100))


def test_what_the_iterator_raises_is_raised_after_what_it_gave(one_thread):
    def make():
        yield 1
        raise ValueError("out of ideas")

    async def collect(into):
        async with Relay(make, one_thread) as relay:
            async for item in relay.items(idle_seconds=1):
                into.append(item)

    got = []
    with pytest.raises(ValueError, match="out of ideas"):
        asyncio.run(collect(got))
    assert got == [1]


def test_leaving_stops_the_iterator_and_closes_it(one_thread):
    given, closed, go_on = [], threading.Event(), threading.Semaphore(1)

    def make():
        try:
            for item in range(1000):
                go_on.acquire()
                given.append(item)
                yield item
        finally:
            closed.set()

    async def leave_early():
        async with Relay(make, one_thread) as relay:
            async for _ in relay.items(idle_seconds=1):
                break
        go_on.release()

    asyncio.run(leave_early())
    assert closed.wait(5)
    assert len(given) <= 3


def test_work_that_still_waits_for_a_thread_never_starts(one_thread):
    busy, release = threading.Event(), threading.Event()

    def hold():
        busy.set()
        release.wait(5)

    async def leave_before_it_starts():
        async with Relay(lambda: pytest.fail("started"), one_thread):
            pass

    one_thread.submit(hold)
    assert busy.wait(5)
    asyncio.run(leave_before_it_starts())
    release.set()


def test_silence_yields_none(one_thread):
    release = threading.Event()

    def make():
        release.wait(5)
        yield "late"

    async def collect():
        got = []
        async with Relay(make, one_thread) as relay:
            async for item in relay.items(idle_seconds=0.02):
                got.append(item)
                if len(got) == 2:
                    release.set()
        return got

    got = asyncio.run(collect())
    assert got[:2] == [None, None]
    assert got[-1] == "late"
