"""GET /metrics: what the server, its searches and its generator do, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from ragserve.server.service import service_of

if TYPE_CHECKING:
    from ragserve.server.service import Service
    from retriever.types import Tier

router = APIRouter(tags=["health"])

_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/metrics", summary="Counts for monitoring", response_class=PlainTextResponse)
def metrics(request: Request) -> PlainTextResponse:  # on a thread: the cache may be busy for a moment
    """Returns the requests in progress, the searches made together and those that the cache has spared, what
    audits have found of its answers without proof, and the engine's counts of your model."""
    service = service_of(request)
    figures = {
        "requests_in_flight": service.traffic.num_in_flight,
        **service.search_stats(),
        **_cache_figures(service),
        **{f"generator_{name}": value for name, value in service.pipeline.generation_stats().items()},
    }
    return PlainTextResponse("".join(_lines(figures)), media_type=_MEDIA_TYPE)


_TIERS: tuple[Tier, ...] = ("exact", "certified", "approximate", "miss")


def _cache_figures(service: Service) -> dict[str, float]:
    """What was served from which tier, what the cache holds, and how sure its approximate answers are."""
    cache = service.pipeline.retriever.cache if service.ready else None
    if cache is None:
        return {}
    stats = cache.stats()
    return {
        **{f"searches_{tier}_total": stats.served.get(tier, 0) for tier in _TIERS},
        "cache_bytes": stats.bytes,
        "cache_max_bytes": stats.max_bytes,
        "cache_results": stats.num_results,
        "cache_lists": stats.num_lists,
        "cache_vectors": stats.num_vectors,
        "cache_evictions_total": stats.evictions,
        "cache_audited": stats.audit.num_audited,
        "cache_false_hits": stats.audit.num_false_hits,
        "cache_false_hit_rate": stats.audit.false_hit_rate,
        "cache_false_hit_rate_upper_bound": stats.audit.upper_bound,
        "cache_suspensions": stats.audit.num_suspensions,  # no counter: those of a kind that is forgotten go
    }


def _lines(figures: Mapping[str, float]) -> Iterator[str]:
    for name, value in figures.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        yield f"# TYPE ragserve_{name} {kind}\nragserve_{name} {value}\n"
