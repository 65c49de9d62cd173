"""Ask your own documents: `Pipeline.open(folder)`, `.ingest(paths)`, `.search(query)`, `.ask(question)`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragserve.answers import Answer, AnswerEvent, Citation, FinalEvent, RetrievalEvent, TokenEvent
    from ragserve.errors import RagserveError
    from ragserve.pipeline import Pipeline
    from ragserve.session import Session
    from ragserve.settings import ServerSettings, Settings

_HOMES = {
    "Answer": "answers",
    "AnswerEvent": "answers",
    "Citation": "answers",
    "FinalEvent": "answers",
    "Pipeline": "pipeline",
    "RagserveError": "errors",
    "RetrievalEvent": "answers",
    "ServerSettings": "settings",
    "Session": "session",
    "Settings": "settings",
    "TokenEvent": "answers",
}
__all__ = [
    "Answer",
    "AnswerEvent",
    "Citation",
    "FinalEvent",
    "Pipeline",
    "RagserveError",
    "RetrievalEvent",
    "ServerSettings",
    "Session",
    "Settings",
    "TokenEvent",
]


def __getattr__(name: str) -> Any:
    """Imports a name when it is first used, so that `ragserve --help` pays for none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
