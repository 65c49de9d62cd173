"""GET /healthz: the process answers. GET /readyz: it can take work."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Request

from ragserve.errors import ServerDraining, ServerNotReady
from ragserve.server.schemas import ErrorResponse
from ragserve.server.service import service_of

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> dict[str, str]:
    """Answers 200 as long as the process runs."""
    return {"status": "ok", "version": version("ragserve")}


@router.get("/readyz", summary="Can it take work?", responses={503: {"model": ErrorResponse}})
async def readyz(request: Request) -> dict[str, str]:
    """Answers 200 once the models are loaded; 503 before that, and again while the server shuts down."""
    service = service_of(request)
    if service.traffic.draining:
        raise ServerDraining("The server is shutting down.", hint="Send requests elsewhere.")
    if service.failure is not None:
        raise ServerNotReady(f"The models cannot be loaded: {service.failure}", hint="Start the server anew.")
    if not service.ready:
        raise ServerNotReady("The models are still being loaded.", hint="Ask again in a moment.")
    return {"status": "ready"}
