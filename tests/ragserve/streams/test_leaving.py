from __future__ import annotations

import asyncio
from concurrent.futures import Future

import pytest
from asgi_client import AsgiClient, until
from stream_looks import QUESTION, ask, assert_idle, places_taken


@pytest.mark.parametrize("path", ["/ask", "/search"])
def test_a_client_that_leaves_while_its_search_waits_frees_its_place(serve, checkpoint, path, monkeypatch):
    app = serve(checkpoint)
    pending: Future = Future()
    batcher = app.state.service._batcher.result()
    monkeypatch.setattr(batcher, "submit", lambda query, **_: pending)
    prompts_before = checkpoint.engine.stats.num_prompt_tokens

    async def run():
        client = AsgiClient(app, path, {"query": QUESTION})
        asking = asyncio.ensure_future(client.ask())
        await until(lambda: places_taken(app) == 1)
        client.leave()
        await asking

    asyncio.run(run())
    assert pending.cancelled()
    assert checkpoint.engine.stats.num_prompt_tokens == prompts_before
    assert_idle(app, checkpoint.engine)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_while_it_waits_for_a_thread_never_reaches_the_generator(
    serve, checkpoint, gate, stream
):
    app = serve(checkpoint, generation_slots=1)

    async def run():
        gate.close()
        first, second = ask(app), ask(app, "What costs the crossing?", stream=stream)
        asking = asyncio.ensure_future(first.ask())
        await asyncio.to_thread(gate.waiting.wait)
        leaving = asyncio.ensure_future(second.ask())
        await until(lambda: app.state.service._generators._work_queue.qsize() == 1)
        second.leave()
        await leaving
        assert places_taken(app) == 1
        gate.open()
        return await asking

    submitted = []
    submit = checkpoint.engine.submit
    checkpoint.engine.submit = lambda request, listener: (
        submitted.append(request) or submit(request, listener)
    )
    assert asyncio.run(run()).events[-1][0] == "final"
    assert len(submitted) == 1
    assert_idle(app, checkpoint.engine)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_before_its_first_token_leaves_the_engine_at_once(
    serve, checkpoint, gate, stream
):
    app = serve(checkpoint)
    scheduler = checkpoint.engine.scheduler

    async def run():
        gate.close()
        first, second = ask(app), ask(app, "What costs the crossing?", stream=stream)
        asking = asyncio.ensure_future(first.ask())
        await asyncio.to_thread(gate.waiting.wait)
        leaving = asyncio.ensure_future(second.ask())
        await until(lambda: len(scheduler.waiting) == 1)
        second.leave()
        await leaving
        assert (len(scheduler.waiting), len(scheduler.running)) == (0, 1)  # though no step has ended yet
        assert places_taken(app) == 1
        gate.open()
        return await asking

    assert asyncio.run(run()).events[-1][0] == "final"
    assert_idle(app, checkpoint.engine)


def test_a_client_that_leaves_in_the_middle_frees_its_memory(serve, checkpoint):
    app = serve(checkpoint, max_new_tokens=1000)

    async def run():
        client = ask(app)
        asking = asyncio.ensure_future(client.ask())
        await until(lambda: any(name == "token" for name, _ in client.events))
        client.leave()
        await asking
        return client

    client = asyncio.run(run())
    assert client.events[-1][0] == "token"
    assert_idle(app, checkpoint.engine)
    assert checkpoint.engine.scheduler.memory.usage == 0
