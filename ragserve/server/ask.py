"""POST /ask: an answer with citations, whole or streamed. A client that leaves stops its answer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from ragserve.answers import Answer, AnswerEvent, FinalEvent, RetrievalEvent, TokenEvent
from ragserve.errors import AnswerMissing
from ragserve.rounds import check_rounds
from ragserve.server.disconnects import gone, unless_disconnected
from ragserve.server.errors import error_document, log_failure
from ragserve.server.relay import Relay
from ragserve.server.schemas import AskRequest, AskResponse, ErrorResponse
from ragserve.server.service import service_of
from retriever.prefetching import SearchOptions

if TYPE_CHECKING:
    from retriever.types import SearchResult

router = APIRouter(tags=["ask"])

_log = logging.getLogger("ragserve.server")
_NAMES = {RetrievalEvent: "retrieval", TokenEvent: "token", FinalEvent: "final"}
_KEEP_ALIVE_SECONDS = 15.0  # proxies drop a connection that is silent for long
_STREAM_EXAMPLE = 'event: retrieval\ndata: {"hits": [...], ...}\n\nevent: token\ndata: {"text": "..."}\n\n...'


@router.post(
    "/ask",
    summary="Answer a question",
    response_model=AskResponse,
    responses={
        200: {"content": {"text/event-stream": {"example": _STREAM_EXAMPLE}}},
        422: {"model": ErrorResponse},
        503: {"model": ErrorResponse},
    },
)
async def ask(body: AskRequest, request: Request) -> Response:
    """Answers from the indexed documents, with verbatim citations.

    With `"stream": true` the answer comes as server-sent events: one `retrieval`, any number of `token`, then
    `final` with what the plain form returns, or `error`. With several `rounds` there may be more `retrieval`
    events before the first `token`.
    """
    service = service_of(request)
    question, k = service.pipeline.check_question(body.question), service.check_k(body.k)
    filters, rounds = body.filters.to_filters() if body.filters else None, check_rounds(body.rounds)
    options = SearchOptions(k, filters, body.use_cache)
    started = time.perf_counter()
    searching = service.search(question, **options._asdict(), session=body.session, then_answer=True)
    result = await unless_disconnected(searching, request.receive)
    if result is None:
        return gone()
    seconds = time.perf_counter() - started
    further = service.further_rounds(rounds, **options._asdict())
    relay = service.answer(
        question, result, retrieval_seconds=seconds, further=further, session=body.session, options=options
    )
    if body.stream:
        return EventStream(result, relay, stall_seconds=service.settings.stall_seconds)
    answer = await unless_disconnected(_whole_answer(relay), request.receive)
    return gone() if answer is None else JSONResponse(answer.to_dict())


async def _whole_answer(relay: Relay[AnswerEvent]) -> Answer:
    async with relay:
        async for events in relay.batches(idle_seconds=_KEEP_ALIVE_SECONDS):
            for event in events:
                if isinstance(event, FinalEvent):
                    return event.answer
    raise AnswerMissing("The answer did not come.", hint="Ask again.")


class EventStream(Response):
    """Server-sent events. Sends headers at once, and comments while there is nothing to send.

    Text that came while the client was taking earlier text is sent as one event. A client that takes nothing
    for `stall_seconds` is hung up on.
    """

    media_type = "text/event-stream"

    def __init__(self, result: SearchResult, relay: Relay[AnswerEvent], *, stall_seconds: float) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._result = result
        self._relay = relay
        self._stall_seconds = stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await unless_disconnected(self._send_all(send), receive)

    async def _send_all(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        try:
            await self._send(send, start)
            async with contextlib.aclosing(self._chunks()) as chunks:
                async for chunk in chunks:
                    await self._send(send, {"type": "http.response.body", "body": chunk, "more_body": True})
            await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})
        except _ClientStalled:
            _log.warning("A client took nothing for %g seconds; its answer is given up.", self._stall_seconds)

    async def _send(self, send: Send, message: Message) -> None:
        """Waits while earlier messages fill the client's buffers, but not for ever."""
        try:
            async with asyncio.timeout(self._stall_seconds):
                await send(message)
        except TimeoutError:
            raise _ClientStalled from None

    async def _chunks(self) -> AsyncIterator[bytes]:
        yield _sse("retrieval", RetrievalEvent(self._result).to_dict())
        try:
            async with self._relay:
                async for events in self._relay.batches(idle_seconds=_KEEP_ALIVE_SECONDS):
                    yield b"".join(_chunk(event) for event in _merged(events)) or b": waiting\n\n"
        except Exception as error:  # noqa: BLE001  the status is sent already; the event is all that can tell
            log_failure(error)
            yield _sse("error", error_document(error)[1])


class _ClientStalled(Exception):
    """A client has stopped reading."""


def _merged(events: Sequence[AnswerEvent]) -> Iterator[AnswerEvent]:
    """The same events, neighbouring pieces of text put together."""
    for is_text, group in itertools.groupby(events, key=lambda event: isinstance(event, TokenEvent)):
        if is_text:
            yield TokenEvent("".join(event.text for event in group if isinstance(event, TokenEvent)))
        else:
            yield from group


def _chunk(event: AnswerEvent) -> bytes:
    return _sse(_NAMES[type(event)], event.to_dict())


def _sse(event: str, data: dict[str, Any]) -> bytes:
    return f"event: {event}\ndata: {json.dumps(data, ensure_ascii=False, allow_nan=False)}\n\n".encode()
