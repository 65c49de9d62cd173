"""The application: routes, error forms and bounds around one pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI

from ragserve.server import ask, expect, health, metrics, pages, search
from ragserve.server.errors import install_handlers
from ragserve.server.middleware import Admission, BodyLimit
from ragserve.server.service import Service

if TYPE_CHECKING:
    from ragserve.pipeline import Pipeline


def create_app(pipeline: Pipeline) -> FastAPI:
    """Returns the application for a pipeline, which stays the caller's to close.

    Models are loaded in the background when the application starts, or else by the first request.
    """
    service = Service(pipeline)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await asyncio.to_thread(service.close)  # what it waits for may need the event loop to end

    app = FastAPI(
        title="ragserve",
        summary="Ask your own documents.",
        version=version("ragserve"),
        docs_url=None,  # FastAPI's page loads its scripts from the network; ours does not
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    for resource in (ask, search, expect, health, metrics, pages):
        app.include_router(resource.router)
    install_handlers(app)
    app.add_middleware(
        BodyLimit, max_bytes=service.settings.max_body_bytes, max_seconds=service.settings.stall_seconds
    )
    app.add_middleware(Admission, traffic=service.traffic)
    return app
