"""What a question turns into: an answer, its citations, and the events it arrives by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generator.types import Usage
    from indexer.types import Chunk, LineRange
    from retriever.types import Hit, SearchResult


@dataclass(frozen=True, slots=True)
class Citation:
    """Verbatim evidence: `quote` is the document's normalised text at [start:end), always.

    `mark` is the n of the `[n]` in the answer's text, which is the rank of the passage among the hits.
    """

    mark: int
    chunk_id: str
    document_id: str
    uri: str
    page: int | None
    quote: str
    start: int
    end: int
    other_uris: tuple[str, ...] = ()  # further paths of files with the same content
    lines: LineRange | None = None  # of the file that the quote is on, where it has lines and no pages

    @property
    def uris(self) -> tuple[str, ...]:
        """All paths that say this, the best one first."""
        return (self.uri, *self.other_uris)

    def to_dict(self) -> dict[str, Any]:
        """Returns the citation's JSON form."""
        return {
            "mark": self.mark,
            "chunk_id": self.chunk_id,
            "document_id": self.document_id,
            "uri": self.uri,
            "uris": list(self.uris),
            "page": self.page,
            "lines": _lines_to_list(self.lines),
            "quote": self.quote,
            "start": self.start,
            "end": self.end,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and what it rests on.

    `supported` is False when the passages do not answer; `hits` then are the nearest there is. A citation
    that did not hold against the document is dropped and counted in `num_dropped_citations`.
    """

    question: str
    text: str
    supported: bool
    confidence: float  # in [0, 1]
    citations: tuple[Citation, ...]
    retrieval: SearchResult
    usage: Usage
    timings: Mapping[str, float]  # seconds: retrieval, queue, load, first_token, generation, total
    num_dropped_citations: int = 0
    draft: str = ""  # the few words behind the text, also where they were too doubtful to be given; if any

    @property
    def hits(self) -> tuple[Hit, ...]:
        """The passages that the answer was made from, best first."""
        return self.retrieval.hits

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form that `query --json`, `POST /ask` and the `final` event share."""
        return {
            "question": self.question,
            "answer": self.text,
            "supported": self.supported,
            "confidence": round(self.confidence, 4),
            "citations": [citation.to_dict() for citation in self.citations],
            "hits": [hit_to_dict(hit) for hit in self.hits],
            "retrieval": {
                **_retrieval_details(self.retrieval),
                "num_dropped_citations": self.num_dropped_citations,
            },
            "usage": {
                "num_prompt_tokens": self.usage.num_prompt_tokens,
                "num_output_tokens": self.usage.num_output_tokens,
            },
            "timings": _rounded(self.timings),
        }


@dataclass(frozen=True, slots=True)
class RetrievalEvent:
    """First event of a streamed answer: the passages are found."""

    result: SearchResult

    def to_dict(self) -> dict[str, Any]:
        """Returns the data of the `retrieval` event."""
        return search_to_dict(self.result)


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """A piece of the answer's text, in order."""

    text: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the data of the `token` event."""
        return {"text": self.text}


@dataclass(frozen=True, slots=True)
class FinalEvent:
    """Last event of a streamed answer; its text is the tokens' texts put together."""

    answer: Answer

    def to_dict(self) -> dict[str, Any]:
        """Returns the data of the `final` event."""
        return self.answer.to_dict()


AnswerEvent = RetrievalEvent | TokenEvent | FinalEvent


def search_to_dict(result: SearchResult) -> dict[str, Any]:
    """Returns the JSON form that `search --json`, `POST /search` and the `retrieval` event share."""
    return {"hits": [hit_to_dict(hit) for hit in result.hits], **_retrieval_details(result)}


def hit_to_dict(hit: Hit) -> dict[str, Any]:
    """Returns a hit's JSON form."""
    return {
        "rank": hit.rank,
        "score": round(hit.score, 6),
        "chunk": _chunk_to_dict(hit.chunk),
        "parts": [part._asdict() for part in hit.parts],
    }


def _chunk_to_dict(chunk: Chunk) -> dict[str, Any]:
    return {
        "id": chunk.id,
        "document_id": chunk.document_id,
        "uri": chunk.uri,
        "uris": list(chunk.uris),
        "text": chunk.text,
        "start": chunk.start,
        "end": chunk.end,
        "page": chunk.page,
        "lines": _lines_to_list(chunk.lines),
        "boxes": [box._asdict() for box in chunk.boxes],
        "heading_path": list(chunk.heading_path),
        "kind": chunk.kind,
    }


def _lines_to_list(lines: LineRange | None) -> list[int] | None:
    return None if lines is None else list(lines)


def _retrieval_details(result: SearchResult) -> dict[str, Any]:
    return {
        "tier": result.tier,
        "timings": _rounded(result.timings),
        "explanation": _json_safe(result.explanation),
    }


def _json_safe(value: Any) -> Any:
    """Returns the same with null for infinity and NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_safe(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in seconds.items()}
