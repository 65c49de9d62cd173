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
    def make(_):
        assert threading.current_thread() is not threading.main_thread()
        yield from range(100)

    async def collect():
        async with Relay(make, one_thread) as relay:
            return [item async for items in relay.batches(idle_seconds=60) for item in items]

    assert asyncio.run(collect()) == list(range(100))


def test_what_the_iterator_raises_is_raised_after_what_it_gave(one_thread):
    def make(_):
        yield 1
        raise ValueError("out of ideas")

    async def collect(into):
        async with Relay(make, one_thread) as relay:
            async for items in relay.batches(idle_seconds=60):
                into += items

    got = []
    with pytest.raises(ValueError, match="out of ideas"):
        asyncio.run(collect(got))
    assert got == [1]


def test_leaving_stops_the_iterator_and_closes_it(one_thread):
    given, closed, go_on = [], threading.Event(), threading.Semaphore(1)

    def make(_):
        try:
            for item in range(1000):
                go_on.acquire()
                given.append(item)
                yield item
        finally:
            closed.set()

    async def leave_early():
        async with Relay(make, one_thread) as relay:
            async for _ in relay.batches(idle_seconds=60):
                break
        go_on.release()

    asyncio.run(leave_early())
    assert closed.wait(60)
    assert len(given) <= 3


def test_work_that_still_waits_for_a_thread_never_starts(one_thread):
    busy, release = threading.Event(), threading.Event()

    def hold():
        busy.set()
        release.wait(60)

    async def leave_before_it_starts():
        async with Relay(lambda _: pytest.fail("started"), one_thread):
            pass

    one_thread.submit(hold)
    assert busy.wait(60)
    asyncio.run(leave_before_it_starts())
    release.set()


def test_work_that_waits_for_an_item_hears_at_once_that_nobody_wants_it(one_thread):
    waiting, let_go = threading.Event(), threading.Event()

    def make(cancellation):
        cancellation.on_cancel(let_go.set)
        waiting.set()
        assert let_go.wait(60)
        yield "too late"

    async def leave():
        async with Relay(make, one_thread) as relay:
            await asyncio.to_thread(waiting.wait, 60)
        assert let_go.is_set()
        return relay

    assert asyncio.run(leave()).num_pending <= 1


def test_a_reader_that_was_slow_gets_all_that_came_at_once_and_holds_up_nothing(one_thread):
    def make(_):
        yield from range(1000)

    async def read_late():
        async with Relay(make, one_thread) as relay:
            await asyncio.to_thread(relay._running.result, 60)  # the thread is done, whoever reads or not
            assert relay.num_pending == 1000
            return [items async for items in relay.batches(idle_seconds=60)]

    assert asyncio.run(read_late()) == [list(range(1000))]


def test_silence_yields_nothing(one_thread):
    release = threading.Event()

    def make(_):
        release.wait(60)
        yield "late"

    async def collect():
        got = []
        async with Relay(make, one_thread) as relay:
            async for items in relay.batches(idle_seconds=0.02):
                got.append(items)
                if len(got) == 2:
                    release.set()
        return got

    got = asyncio.run(collect())
    assert got[:2] == [[], []]
    assert got[-1] == ["late"]
