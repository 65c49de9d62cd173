"""What a cache's entries are found by, and about how many bytes they occupy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from indexer.types import Filters
from retriever.cache_lists import ListEntry
from retriever.settings import RetrievalSettings
from retriever.types import Hit


class Space(NamedTuple):
    """Queries that may share lists: vectors of one embedder, over the chunks that pass the same filters."""

    embedder: str  # fingerprint
    filters: Filters | None


class ExactKey(NamedTuple):
    """All that a result depends on, but for the corpus."""

    space: Space
    text: str
    k: int
    settings: RetrievalSettings


class VectorKey(NamedTuple):
    """A query whose vector is kept, whatever it was asked of."""

    embedder: str
    text: str


class ListKey(NamedTuple):
    """A query whose list is kept."""

    space: Space
    text: str


class CalibrationKey(NamedTuple):
    """Requests whose approximate answers are judged by the same experience."""

    embedder: str
    k: int
    settings: RetrievalSettings


CacheKey = ExactKey | ListKey | VectorKey


def bytes_of_filters(filters: Filters | None) -> int:
    """Of the filters in a key, as each request brings its own: they may be longer than what is kept."""
    if filters is None:
        return 0
    texts = [filters.path_glob or "", *(filters.kinds or ()), *(filters.document_ids or ())]
    return 300 + sum(4 * len(text) + 120 for text in texts)


def bytes_of_list(key: ListKey, entry: ListEntry) -> int:
    """Of a query's list, with its key."""
    return entry.size + bytes_of_filters(key.space.filters)


def bytes_of_vector(key: VectorKey, vector: np.ndarray) -> int:
    """Of a query's vector, in the table of vectors and in the ledger."""
    return vector.nbytes + 4 * len(key.text) + 400


def bytes_of_hits(key: ExactKey, hits: tuple[Hit, ...]) -> int:
    """Of a result: a character may take 4 bytes, and each object some 50."""
    chunks = [hit.chunk for hit in hits]
    texts = sum(len(text) for one in chunks for text in (one.text, *one.uris, *one.heading_path))
    pieces = sum(len(hit.parts) + len(hit.chunk.boxes) for hit in hits)
    size = 4 * (len(key.text) + texts) + 1000 * (1 + len(hits)) + 250 * pieces
    return size + bytes_of_filters(key.space.filters)
