"""Many clients at once, and clients that stop reading: on an engine and on the reader."""

from __future__ import annotations

import asyncio
import socket

import pytest
from asgi_client import until
from stream_looks import QUESTION, ask, assert_idle, places_taken

from ragserve import ServerSettings, Settings
from ragserve.parts import open_generator
from ragserve.server.run import bind

NUM_CLIENTS = 64


def test_sixty_four_clients_stream_from_one_engine_at_the_same_time(serve, checkpoint, gate):
    app = serve(checkpoint)
    steps_before = checkpoint.engine.stats.num_steps
    scheduler = checkpoint.engine.scheduler

    async def run():
        gate.close()
        clients = [ask(app, f"{QUESTION} {number}") for number in range(NUM_CLIENTS)]
        asking = asyncio.gather(*(client.ask() for client in clients))
        await until(lambda: len(scheduler.waiting) + len(scheduler.running) == NUM_CLIENTS)
        assert places_taken(app) == NUM_CLIENTS
        gate.open()
        return await asking

    clients = asyncio.run(run())
    for client in clients:
        names = [name for name, _ in client.events]
        assert (client.status, names[0], names[-1]) == (200, "retrieval", "final"), client.events[-1]
        final = client.events[-1][1]
        assert "".join(data["text"] for name, data in client.events if name == "token") == final["answer"]
        assert final["usage"]["num_output_tokens"] == 6
    assert checkpoint.engine.stats.num_steps - steps_before < NUM_CLIENTS * 6 / 2  # steps are shared
    assert checkpoint.engine.stats.prefix_hit_rate > 0.5  # and so are instructions and passages
    assert_idle(app, checkpoint.engine)


def test_sixty_four_clients_get_their_answers_from_the_shipped_reader(serve):
    app = serve(open_generator(Settings()), max_new_tokens=None, generation_slots=2)

    async def run():
        clients = [ask(app, k=1) for _ in range(NUM_CLIENTS)]
        return await asyncio.gather(*(client.ask() for client in clients))

    for client in asyncio.run(run()):
        assert client.events[-1][0] == "final"
        assert "Mara Ellison" in client.events[-1][1]["answer"]
    assert places_taken(app) == 0


def test_beyond_its_places_the_server_refuses_and_keeps_those_it_has(serve, checkpoint, gate):
    app = serve(checkpoint, max_requests=8)

    async def run():
        gate.close()
        clients = [ask(app) for _ in range(8)]
        asking = asyncio.gather(*(client.ask() for client in clients))
        await until(lambda: places_taken(app) == 8)
        refused = await asyncio.gather(*(ask(app).ask() for _ in range(100)))
        gate.open()
        return await asking, refused

    served, refused = asyncio.run(run())
    assert {client.status for client in refused} == {503}
    assert {client.events[-1][0] for client in served} == {"final"}


def test_a_client_that_stops_reading_holds_up_nobody_and_is_hung_up_on(serve, checkpoint):
    app = serve(checkpoint, max_new_tokens=40, stall_seconds=0.5)

    async def run():
        stalled = ask(app, patience=2)
        gone = asyncio.ensure_future(stalled.ask())
        await stalled.stalled.wait()
        others = await asyncio.gather(*(ask(app).ask() for _ in range(4)))
        await gone
        return stalled, others

    stalled, others = asyncio.run(run())
    assert {client.events[-1][0] for client in others} == {"final"}
    assert [name for name, _ in stalled.events] == ["retrieval"]
    assert_idle(app, checkpoint.engine)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux closes such connections")
def test_what_a_client_leaves_unread_is_let_go_with_its_connection():
    with bind(ServerSettings(port=0, stall_seconds=0.2)) as listener, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", listener.port))
        accepted, _ = listener.socket.accept()
        with accepted, pytest.raises(TimeoutError):
            accepted.sendall(bytes(64 * 2**20))  # blocks once all buffers are full


def test_a_client_that_reads_late_gets_everything_in_few_events(serve, checkpoint):
    app = serve(checkpoint, max_new_tokens=40, stall_seconds=300.0)

    async def run():
        late = ask(app, patience=2)
        asking = asyncio.ensure_future(late.ask())
        await until(lambda: checkpoint.engine.stats.num_output_tokens >= 40 + warm_up)
        await until(lambda: not checkpoint.engine.has_pending_work)
        late.reading.set()
        return await asking

    warm_up = checkpoint.engine.stats.num_output_tokens
    late = asyncio.run(run())
    tokens = [data["text"] for name, data in late.events if name == "token"]
    assert late.events[-1][0] == "final"
    assert "".join(tokens) == late.events[-1][1]["answer"]
    assert len(tokens) < 20  # of 40
