"""POST /search: the passages alone."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from ragserve.answers import search_to_dict
from ragserve.server.disconnects import gone, unless_disconnected
from ragserve.server.schemas import ErrorResponse, SearchRequest, SearchResponse
from ragserve.server.service import service_of

router = APIRouter(tags=["ask"])


@router.post(
    "/search",
    summary="Find passages",
    response_model=SearchResponse,
    responses={422: {"model": ErrorResponse}, 503: {"model": ErrorResponse}},
)
async def search(body: SearchRequest, request: Request) -> Response:
    """Returns the k passages nearest to a query, best first."""
    service = service_of(request)
    query, k = service.pipeline.check_question(body.query), service.check_k(body.k)
    filters = body.filters.to_filters() if body.filters else None
    searching = service.search(query, k=k, filters=filters, use_cache=body.use_cache, session=body.session)
    result = await unless_disconnected(searching, request.receive)
    return gone() if result is None else JSONResponse(search_to_dict(result))
