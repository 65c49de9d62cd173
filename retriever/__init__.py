"""Questions to chunks: dense and lexical search made one, behind a cache that knows when it is right.

from indexer import Index, SentenceTransformerEmbedder
from retriever import Retriever

embedder = SentenceTransformerEmbedder()
with Index.open(".ragserve", embedder=embedder) as index:
    result = Retriever(index, embedder).search("what is X?", k=5)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retriever.batching import BatchPrefetcher
    from retriever.cache import CacheStats, RetrievalCache
    from retriever.errors import RetrieverError
    from retriever.lookahead import LookaheadRetriever
    from retriever.lookahead_sources import HeadingFollowUps, LookaheadSource, QueuedQueries
    from retriever.retriever import Retriever
    from retriever.settings import RetrievalSettings
    from retriever.types import Hit, SearchResult

# Where each name is defined; imported when first asked for, so that importing the package costs nothing.
_HOMES = {
    "BatchPrefetcher": "batching",
    "CacheStats": "cache",
    "HeadingFollowUps": "lookahead_sources",
    "Hit": "types",
    "LookaheadRetriever": "lookahead",
    "LookaheadSource": "lookahead_sources",
    "QueuedQueries": "lookahead_sources",
    "RetrievalCache": "cache",
    "RetrievalSettings": "settings",
    "Retriever": "retriever",
    "RetrieverError": "errors",
    "SearchResult": "types",
}

__all__ = [
    "BatchPrefetcher",
    "CacheStats",
    "HeadingFollowUps",
    "Hit",
    "LookaheadRetriever",
    "LookaheadSource",
    "QueuedQueries",
    "RetrievalCache",
    "RetrievalSettings",
    "Retriever",
    "RetrieverError",
    "SearchResult",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
