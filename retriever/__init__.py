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
    from retriever.compound_questions import SubQuestions, sub_questions
    from retriever.cross_encoder import CrossEncoderReranker
    from retriever.errors import RetrieverError
    from retriever.late_interaction import LateInteractionReranker
    from retriever.lookahead import LookaheadRetriever
    from retriever.lookahead_sources import DraftQueries, HeadingFollowUps, LookaheadSource, QueuedQueries
    from retriever.read_ahead import ReadAhead
    from retriever.reranking import Reranker
    from retriever.retriever import Retriever
    from retriever.settings import RetrievalSettings
    from retriever.typed_query import PastQueries, TypedText
    from retriever.types import Hit, PassagePart, SearchResult

# Where each name is defined; imported when first asked for, so that importing the package costs nothing.
_HOMES = {
    "BatchPrefetcher": "batching",
    "CacheStats": "cache",
    "CrossEncoderReranker": "cross_encoder",
    "DraftQueries": "lookahead_sources",
    "HeadingFollowUps": "lookahead_sources",
    "Hit": "types",
    "LateInteractionReranker": "late_interaction",
    "LookaheadRetriever": "lookahead",
    "LookaheadSource": "lookahead_sources",
    "PassagePart": "types",
    "PastQueries": "typed_query",
    "QueuedQueries": "lookahead_sources",
    "ReadAhead": "read_ahead",
    "Reranker": "reranking",
    "RetrievalCache": "cache",
    "RetrievalSettings": "settings",
    "Retriever": "retriever",
    "RetrieverError": "errors",
    "SearchResult": "types",
    "SubQuestions": "compound_questions",
    "TypedText": "typed_query",
    "sub_questions": "compound_questions",
}

__all__ = [
    "BatchPrefetcher",
    "CacheStats",
    "CrossEncoderReranker",
    "DraftQueries",
    "HeadingFollowUps",
    "Hit",
    "LateInteractionReranker",
    "LookaheadRetriever",
    "LookaheadSource",
    "PassagePart",
    "PastQueries",
    "QueuedQueries",
    "ReadAhead",
    "Reranker",
    "RetrievalCache",
    "RetrievalSettings",
    "Retriever",
    "RetrieverError",
    "SearchResult",
    "SubQuestions",
    "TypedText",
    "sub_questions",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
