"""GET /metrics: what the server, its searches and its generator do, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from ragserve.server.service import service_of

router = APIRouter(tags=["health"])

_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/metrics", summary="Counts for monitoring", response_class=PlainTextResponse)
async def metrics(request: Request) -> PlainTextResponse:
    """Returns the requests in progress, the searches made together, and the engine's counts of your model."""
    service = service_of(request)
    figures = {
        "requests_in_flight": service.traffic.num_in_flight,
        **service.search_stats(),
        **{f"generator_{name}": value for name, value in service.pipeline.generation_stats().items()},
    }
    return PlainTextResponse("".join(_lines(figures)), media_type=_MEDIA_TYPE)


def _lines(figures: Mapping[str, float]) -> Iterator[str]:
    for name, value in figures.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        yield f"# TYPE ragserve_{name} {kind}\nragserve_{name} {value}\n"
