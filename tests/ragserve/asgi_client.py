"""A client without a socket, whose reading and leaving a test controls."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

_EVENT = re.compile(r"event: (\w+)\ndata: (.*)")


class AsgiClient:
    """One request to an application: `ask` sends it, `leave` hangs up, `reading` lets the answer through.

    With a `patience` it stops reading after so many messages, headers included.
    """

    def __init__(self, app: Any, path: str, body: dict[str, Any], *, patience: int = 10**9) -> None:
        self._app = app
        self._path = path
        self.method = "POST"
        self.patience = patience
        self._body = json.dumps(body).encode()
        self._sent = False
        self._left = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        self.stalled = asyncio.Event()  # the server waits for this client to read
        self.status = 0
        self.received = b""

    async def ask(self) -> AsgiClient:
        """Sends the request and comes back when the server has done with it."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self._path,
            "raw_path": self._path.encode(),
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), (b"host", b"127.0.0.1")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        await self._app(scope, self._receive, self._send)
        return self

    def leave(self) -> None:
        self._left.set()

    @property
    def events(self) -> list[tuple[str, Any]]:
        """What came of a stream so far."""
        found = map(_EVENT.fullmatch, self.received.decode().split("\n\n"))
        return [(match[1], json.loads(match[2])) for match in found if match]

    async def _receive(self) -> dict[str, Any]:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if self.patience == 0:
            self.reading.clear()
        self.patience -= 1
        if not self.reading.is_set():
            self.stalled.set()
            await self.reading.wait()
        self.status = message.get("status", self.status)
        self.received += message.get("body", b"")


async def until(condition: Any) -> None:
    """Waits until something holds, however slow the machine is."""
    while not condition():
        await asyncio.sleep(0.005)
