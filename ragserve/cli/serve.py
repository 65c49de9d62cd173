"""`ragserve serve`: the HTTP server in the foreground."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ragserve.cli import options as flags
from ragserve.cli import output
from ragserve.cli.exits import stop
from ragserve.cli.session import open_pipeline, settings_from


def serve(
    index: flags.IndexFlag = None,
    host: Annotated[
        str | None, typer.Option("--host", metavar="HOST", help="Address to listen on. [default: 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="PORT", help="Port to listen on; 0 picks a free one. [default: 8000]"),
    ] = None,
    k: flags.KFlag = None,
    generator: flags.GeneratorFlag = None,
    adapter: flags.AdapterFlag = None,
    embedder: flags.EmbedderFlag = None,
    device: flags.DeviceFlag = None,
    dtype: flags.DtypeFlag = None,
    quantization: flags.QuantizationFlag = None,
    access_log: Annotated[
        bool | None,
        typer.Option("--access-log/--no-access-log", help="Write a line for every request. [default: no]"),
    ] = None,
    as_json: flags.JsonFlag = False,
    debug: flags.DebugFlag = False,
) -> None:
    """Answer questions over HTTP.

    POST /ask, POST /search, GET /healthz, GET /readyz; GET /docs describes them.

    Another process may ingest meanwhile; the server sees the new documents at once. SIGTERM finishes the
    requests that have begun and exits with 0. There is no authentication: keep it on this machine or behind a
    proxy that has some. With --json, one document says where it listens.
    """
    from ragserve.server.run import bind, serve_forever

    settings = settings_from(
        index=index,
        k=k,
        generator=generator,
        adapter=adapter,
        embedder=embedder,
        device=device,
        dtype=dtype,
        quantization=quantization,
        **{"server.host": host, "server.port": port, "server.access_log": access_log},
    )
    with bind(settings.server) as listener, open_pipeline(settings) as pipeline:
        output.note(f"Listening on {listener.url} (documentation at {listener.url}/docs)")
        if as_json:
            output.print_json({"url": listener.url, "port": listener.port, "pid": os.getpid()})
        stop(serve_forever(pipeline, listener, say=output.note))
