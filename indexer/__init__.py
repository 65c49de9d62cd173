"""Files to searchable chunks, durably on disk.

from indexer import Index

with Index.open(".ragserve") as index:
    report = index.ingest(["./corpus"])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from indexer.embedding import Embedder, SentenceTransformerEmbedder
    from indexer.errors import IndexerError
    from indexer.index import Index
    from indexer.types import Chunk, Filters, IngestReport, ScoredChunkId

# Where each name is defined; imported when first asked for, so that importing the package costs nothing.
_HOMES = {
    "Chunk": "types",
    "Embedder": "embedding",
    "Filters": "types",
    "Index": "index",
    "IndexerError": "errors",
    "IngestReport": "types",
    "ScoredChunkId": "types",
    "SentenceTransformerEmbedder": "embedding",
}

__all__ = [
    "Chunk",
    "Embedder",
    "Filters",
    "Index",
    "IndexerError",
    "IngestReport",
    "ScoredChunkId",
    "SentenceTransformerEmbedder",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
