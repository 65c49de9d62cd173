"""GET / asks questions in a browser, GET /docs describes the API; neither loads anything else."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}


@router.get("/")
async def index() -> HTMLResponse:
    """Asks POST /ask and shows the answer as it comes."""
    return HTMLResponse(_page("index.html"), headers=_HEADERS)


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Renders /openapi.json."""
    return HTMLResponse(_page("docs.html"), headers=_HEADERS)


@cache
def _page(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
