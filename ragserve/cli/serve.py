"""`ragserve serve`: the HTTP server in the foreground."""

from __future__ import annotations

import os

from ragserve.cli import options as flags
from ragserve.cli import output
from ragserve.cli.exits import ending_on_sigterm, stop
from ragserve.cli.session import open_pipeline, settings_from


@flags.choosing("server.host", "server.port", *flags.ANSWERING, "server.access_log")
def serve(
    *,
    chosen: flags.Chosen,
    as_json: flags.JsonFlag = False,
    debug: flags.DebugFlag = False,
) -> None:
    """Answer questions over HTTP.

    POST /ask, POST /search, GET /healthz, GET /readyz; GET /docs describes them.

    Another process may ingest meanwhile; the server sees the new documents at once. SIGTERM finishes the
    requests that have begun and exits with 0. There is no authentication: keep it on this machine or behind a
    proxy that has some. With --json, one document says where it listens.
    """
    with ending_on_sigterm():  # until the server runs, which finishes what it has begun
        from ragserve.server.run import bind, serve_forever

        settings = settings_from(**chosen)
        with bind(settings.server) as listener, open_pipeline(settings) as pipeline:
            output.note(f"Listening on {listener.url} (documentation at {listener.url}/docs)")
            if as_json:
                output.print_json({"url": listener.url, "port": listener.port, "pid": os.getpid()})
            stop(serve_forever(pipeline, listener, say=output.note))
