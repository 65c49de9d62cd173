"""POST /expect: what a client will ask next, so that it is found already when it is asked."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from ragserve.server.schemas import ErrorResponse, ExpectRequest, ExpectResponse
from ragserve.server.service import service_of

router = APIRouter(tags=["ask"])


@router.post(
    "/expect",
    status_code=202,
    summary="Say what comes next",
    response_model=ExpectResponse,
    responses={422: {"model": ErrorResponse}, 503: {"model": ErrorResponse}},
)
async def expect(body: ExpectRequest, request: Request) -> JSONResponse:
    """Takes note of the next questions of a session, or of what is being typed, and returns at once.

    Whatever of it pays is searched for in the background. `/ask` and `/search` with the same `session`, `k`,
    `filters` and `use_cache` then have the passages; what they return does not depend on it.
    """
    service = service_of(request)
    queries = [service.pipeline.check_question(query) for query in body.queries]
    k, filters = service.check_k(body.k), body.filters.to_filters() if body.filters else None
    suggestions = await service.expect(
        body.session, queries, body.typed, k=k, filters=filters, use_cache=body.use_cache
    )
    return JSONResponse({"suggestions": suggestions}, status_code=202)
