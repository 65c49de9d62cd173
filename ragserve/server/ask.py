"""POST /ask: an answer with citations, whole or streamed. A client that leaves stops its answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from ragserve.answers import Answer, AnswerEvent, FinalEvent, RetrievalEvent, TokenEvent
from ragserve.errors import AnswerMissing
from ragserve.server.errors import error_document, log_unexpected
from ragserve.server.relay import Relay
from ragserve.server.schemas import AskRequest, AskResponse, ErrorResponse
from ragserve.server.service import service_of

if TYPE_CHECKING:
    from retriever.types import SearchResult

router = APIRouter(tags=["ask"])

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
    `final` with what the plain form returns, or `error`.
    """
    service = service_of(request)
    question, k = service.pipeline.check_question(body.question), service.check_k(body.k)
    filters = body.filters.to_filters() if body.filters else None
    started = time.perf_counter()
    result = await service.search(question, k=k, filters=filters, use_cache=body.use_cache)
    relay = service.answer(question, result, retrieval_seconds=time.perf_counter() - started)
    if body.stream:
        return EventStream(result, relay)
    work = asyncio.ensure_future(_whole_answer(relay))
    if not await _finished_before_disconnect(work, request.receive):
        return Response(status_code=499)  # nobody is there to read it
    return JSONResponse(work.result().to_dict())


async def _whole_answer(relay: Relay[AnswerEvent]) -> Answer:
    async with relay:
        async for event in relay.items(idle_seconds=_KEEP_ALIVE_SECONDS):
            if isinstance(event, FinalEvent):
                return event.answer
    raise AnswerMissing("The answer did not come.", hint="Ask again.")


class EventStream(Response):
    """Server-sent events. Sends headers at once, and comments while there is nothing to send."""

    media_type = "text/event-stream"

    def __init__(self, result: SearchResult, relay: Relay[AnswerEvent]) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._result = result
        self._relay = relay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        work = asyncio.ensure_future(self._send_all(send))
        if await _finished_before_disconnect(work, receive):
            work.result()

    async def _send_all(self, send: Send) -> None:
        async for chunk in self._chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _chunks(self) -> AsyncIterator[bytes]:
        yield _sse("retrieval", RetrievalEvent(self._result).to_dict())
        try:
            async with self._relay:
                async for event in self._relay.items(idle_seconds=_KEEP_ALIVE_SECONDS):
                    yield b": waiting\n\n" if event is None else _sse(_NAMES[type(event)], event.to_dict())
        except Exception as error:  # noqa: BLE001  the status is sent already; the event is all that can tell
            log_unexpected(error)
            yield _sse("error", error_document(error)[1])


async def _finished_before_disconnect(work: asyncio.Future[Any], receive: Receive) -> bool:
    """Waits for `work`; cancels it and returns False if the client goes away first."""
    watch = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        return work.done()
    finally:
        watch.cancel()
        if not work.done():
            work.cancel()
        await asyncio.gather(work, watch, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _sse(event: str, data: dict[str, Any]) -> bytes:
    return f"event: {event}\ndata: {json.dumps(data, ensure_ascii=False, allow_nan=False)}\n\n".encode()
