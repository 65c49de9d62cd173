"""What a retrieval returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from indexer.types import Chunk

# How a result came about; see docs/retrieval.md. Only "approximate" may differ from what "miss" would have
# found.
Tier = Literal["miss", "exact", "certified", "approximate"]


class PassagePart(NamedTuple):
    """A chunk of the index within a longer passage."""

    chunk_id: str
    start: int  # character offsets into the document's normalised text
    end: int
    page: int | None


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found. `score` is comparable within one result; `rank` counts from 1.

    Where neighbours or a section were asked for, `chunk` may be a longer passage, with an id of its own and
    the document's text at [start:end); `parts` then are the chunks that it covers, in order.
    """

    chunk: Chunk
    score: float
    rank: int
    parts: tuple[PassagePart, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits of one query, best first, and how they were found.

    `timings` are seconds by stage, and "total"; of a stage that a batch went through together it is this
    query's equal share. `explanation` is JSON-safe.
    """

    hits: tuple[Hit, ...]
    tier: Tier
    timings: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    explanation: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
