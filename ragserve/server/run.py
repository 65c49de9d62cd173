"""Puts the application on a port, and takes it off again without cutting anyone short."""

from __future__ import annotations

import errno
import ipaddress
import logging
import logging.config
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

import uvicorn

from ragserve.errors import AddressUnavailable, PortInUse
from ragserve.server.app import create_app
from ragserve.server.middleware import HostGuard

if TYPE_CHECKING:
    from ragserve.pipeline import Pipeline
    from ragserve.server.service import Service
    from ragserve.settings import ServerSettings

_BACKLOG = 128
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket: whoever connects from now on waits until the application answers."""

    socket: socket.socket
    host: str
    port: int

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()


def bind(settings: ServerSettings) -> Listener:
    """Takes the address before anything is loaded. Raises PortInUse and AddressUnavailable."""
    host, port = settings.host, settings.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise AddressUnavailable(
            f"{host!r} is not an address of this machine.",
            hint="Use 127.0.0.1, 0.0.0.0 or a name of this machine.",
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # on Linux
            # Accepted connections inherit it. What a client leaves unread is let go, also after its request.
            milliseconds = int(1000 * settings.stall_seconds)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _bind_error(error, host, port) from error
    return Listener(listener, host, listener.getsockname()[1])


def serve_forever(pipeline: Pipeline, listener: Listener, *, say: Callable[[str], None]) -> int:
    """Serves until a signal comes, and returns the exit code: 0 after SIGTERM, 130 after Ctrl-C.

    `say` gets a sentence when the models are loaded. Raises what kept them from being loaded. A signal while
    they are being loaded ends the process, for nothing can interrupt that.
    """
    settings = pipeline.settings.server
    app = create_app(pipeline)
    service: Service = app.state.service
    hosts = known_hosts(listener, settings.allowed_hosts)
    _log_to_stderr(access=settings.access_log)
    config = uvicorn.Config(
        HostGuard(app, hosts=hosts) if hosts else app,
        loop="asyncio",
        log_config=None,
        access_log=settings.access_log,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=1,  # after draining, which is ours, only idle connections are left
    )
    server = _DrainingServer(config, service, say)
    server.run(sockets=[listener.socket])
    if service.failure is not None and not service.traffic.draining:
        raise service.failure
    return server.exit_code


class _DrainingServer(uvicorn.Server):
    """On the first signal finishes what has begun while /readyz says 503; on the second, stops at once."""

    def __init__(self, config: uvicorn.Config, service: Service, say: Callable[[str], None]) -> None:
        super().__init__(config)
        self.exit_code = 0
        self._service = service
        self._say = say
        self._told_ready = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGINT:
            self.exit_code = 130
        if not self._service.traffic.draining:
            self._service.traffic.drain(self._service.settings.drain_seconds)
            return
        self._leave_what_loads()
        self.should_exit = self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        if self._service.ready and not self._told_ready:
            self._told_ready = True
            self._say("Ready.")
        if self._service.traffic.drained:
            self._leave_what_loads()
        if self._service.failure is not None or self._service.traffic.drained:
            self.should_exit = True
        return await super().on_tick(counter)

    def _leave_what_loads(self) -> None:
        """Ends the process if models are being loaded: its threads would be waited for, perhaps for minutes.

        Nothing is lost by that: nobody has been answered, and so there is nothing to keep.
        """
        if self._service.loading:
            os._exit(self.exit_code)


def _bind_error(error: OSError, host: str, port: int) -> AddressUnavailable | PortInUse:
    if error.errno == errno.EADDRINUSE:
        return PortInUse(
            f"Port {port} on {host} is in use.",
            hint="Stop what listens there, or use another --port (0 picks one).",
        )
    if error.errno == errno.EACCES:
        return AddressUnavailable(
            f"Port {port} on {host} needs privileges that this process does not have.",
            hint="Use a port above 1023.",
        )
    return AddressUnavailable(
        f"Cannot listen on {host} port {port}: {error.strerror}.", hint="Use 127.0.0.1."
    )


def known_hosts(listener: Listener, allowed: tuple[str, ...]) -> frozenset[str]:
    """Returns the Host headers to answer for; empty for any.

    The address that is listened on decides: 127.1 and this machine's name may be loopback too.
    """
    bound = listener.socket.getsockname()[0]
    own = _LOOPBACK_NAMES | {listener.host, bound}
    if allowed:
        return own | frozenset(allowed)
    return own if _is_loopback(bound) else frozenset()


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    # IPv4 in IPv6's clothes, as in ::ffff:127.0.0.1, is not loopback by itself to older Pythons.
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


def _log_to_stderr(*, access: bool) -> None:
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "loggers": {
                "ragserve": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
                "uvicorn.error": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
                "uvicorn.access": {
                    "handlers": ["stderr"] if access else [],
                    "level": "INFO",
                    "propagate": False,
                },
            },
        }
    )
