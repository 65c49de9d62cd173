from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from ragserve.errors import ServerBusy, ServerDraining
from ragserve.server.middleware import Admission
from ragserve.server.traffic import Traffic


def test_no_more_requests_than_places():
    traffic = Traffic(2)
    traffic.enter()
    traffic.enter()
    with pytest.raises(ServerBusy):
        traffic.enter()
    traffic.leave()
    traffic.enter()


def test_once_draining_nobody_gets_in_and_the_last_to_leave_ends_it():
    traffic = Traffic(2)
    traffic.enter()
    assert not traffic.drained
    traffic.drain(60)
    assert traffic.draining
    assert not traffic.drained
    with pytest.raises(ServerDraining):
        traffic.enter()
    traffic.leave()
    assert traffic.drained


def test_draining_does_not_wait_longer_than_it_was_told_to():
    traffic = Traffic(2)
    traffic.enter()
    traffic.drain(0)
    assert traffic.drained


def test_without_requests_there_is_nothing_to_drain():
    traffic = Traffic(2)
    assert not traffic.drained
    traffic.drain(60)
    assert traffic.drained


def test_a_place_is_free_when_the_last_bytes_are_on_their_way_and_not_before():
    traffic, in_flight = Traffic(1), []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})
        in_flight.append(("winding up", traffic.num_in_flight))

    async def send(message: Message) -> None:
        in_flight.append((message.get("body"), traffic.num_in_flight))

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    admission = Admission(application, traffic=traffic)
    asyncio.run(admission({"type": "http", "path": "/ask"}, receive, send))
    assert in_flight == [(None, 1), (b"a", 1), (b"b", 0), ("winding up", 0)]
    assert traffic.num_in_flight == 0


def test_a_place_is_given_back_once_when_the_application_fails():
    traffic = Traffic(1)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise OSError("broken")

    async def nothing(*_: object) -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(OSError, match="broken"):
        asyncio.run(
            Admission(application, traffic=traffic)({"type": "http", "path": "/ask"}, nothing, nothing)
        )
    assert traffic.num_in_flight == 0
