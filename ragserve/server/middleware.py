"""What stands before the routes, as plain ASGI so that streams pass through untouched."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import ExitStack

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ragserve.errors import HostNotAllowed, RequestTooLarge, RequestTooSlow, ServerBusy, ServerDraining
from ragserve.server.errors import error_response
from ragserve.server.traffic import Traffic, draining

WORK = frozenset({"/ask", "/search"})  # the paths that cost something


class Admission:
    """Lets a working request in if there is a place, which it holds until its last bytes are on their way.

    Not longer: a client that has read them asks its next question before the application has wound up. One
    that is cut short because the server ends is told so if its answer has not begun.
    """

    def __init__(self, app: ASGIApp, *, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["path"] not in WORK:
            await self._app(scope, receive, send)
            return
        try:
            self._traffic.enter()
        except (ServerBusy, ServerDraining) as error:
            await error_response(error)(scope, receive, send)
            return
        begun = False
        with ExitStack() as place:
            place.callback(self._traffic.leave)

            async def send_and_leave(message: Message) -> None:
                nonlocal begun
                begun = True
                if message["type"] == "http.response.body" and not message.get("more_body", False):
                    place.close()
                await send(message)

            try:
                await self._app(scope, receive, send_and_leave)
            except asyncio.CancelledError:
                if not self._traffic.draining:
                    raise
                if not begun:
                    await error_response(draining())(scope, receive, send)


class BodyLimit:
    """Refuses a body beyond a size, by its declared length, or when that many bytes have come.

    And one that is not whole after `max_seconds`: until then its request holds a place and does no work.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, max_seconds: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await error_response(self._too_large())(scope, receive, send)
            return
        num_bytes, whole = 0, False
        deadline = asyncio.get_running_loop().time() + self._max_seconds

        async def bounded() -> Message:
            nonlocal num_bytes, whole
            if whole:  # what comes now is that the client leaves, and it may take its time
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise self._too_slow() from None
            whole = not message.get("more_body", False)
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_bytes:
                raise self._too_large()
            return message

        await self._app(scope, bounded, send)

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(
            f"The request body is larger than {self._max_bytes:,} bytes.",
            hint="Ask a shorter question; documents are ingested, not asked.",
        )

    def _too_slow(self) -> RequestTooSlow:
        return RequestTooSlow(
            f"The request body did not come within {self._max_seconds:g} seconds.",
            hint="Send the whole body at once.",
        )


class HostGuard:
    """Answers only for the hosts it is known by.

    A page from elsewhere can make its own name resolve to 127.0.0.1 and have the visitor's browser read this
    server (DNS rebinding); the Host header still carries that page's name.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            host = _without_port(Headers(scope=scope).get("host", ""))
            if host.lower() not in self._hosts:
                error = HostNotAllowed(
                    f"This server does not answer for the host {host!r}.",
                    hint="Set server.allowed_hosts if a proxy passes that name on.",
                )
                await error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _without_port(host: str) -> str:
    if host.startswith("["):  # an IPv6 address
        return host.partition("]")[0].lstrip("[")
    return host.partition(":")[0]
