"""The bodies of requests and responses. The latter document what `to_dict` makes; a test compares."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from indexer.types import ChunkKind, Filters

_MAX_DOCUMENT_IDS = 1000
_MAX_EXPECTED = 32
_SessionName = Annotated[str, Field(min_length=1, max_length=64)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class FiltersBody(_Body):
    """Restricts the search; what is absent restricts nothing."""

    path_glob: Annotated[
        str | None, Field(max_length=4096, description="Glob on the uri; * crosses folders.")
    ] = None
    kinds: Annotated[list[ChunkKind] | None, Field(max_length=4)] = None
    document_ids: Annotated[list[str] | None, Field(max_length=_MAX_DOCUMENT_IDS)] = None

    def to_filters(self) -> Filters:
        """Returns the same as the indexer takes it."""
        return Filters(
            path_glob=self.path_glob,
            kinds=frozenset(self.kinds) if self.kinds is not None else None,
            document_ids=frozenset(self.document_ids) if self.document_ids is not None else None,
        )


class _Question(_Body):
    k: Annotated[
        int | None, Field(strict=True, description="Passages to retrieve; default: the server's.")
    ] = None
    filters: FiltersBody | None = None
    use_cache: Annotated[bool, Field(description="False always runs the true search.")] = True


class _Asked(_Question):
    session: Annotated[
        _SessionName | None, Field(description="Any name; for passages that `POST /expect` has prepared.")
    ] = None


class SearchRequest(_Asked):
    """A query to find passages for."""

    query: Annotated[str, Field(validation_alias=AliasChoices("query", "question"))]


class AskRequest(_Asked):
    """A question to answer."""

    question: Annotated[str, Field(validation_alias=AliasChoices("question", "query"))]
    stream: Annotated[bool, Field(description="True answers with server-sent events.")] = False
    rounds: Annotated[
        int,
        Field(strict=True, description="Times to retrieve, each with what was answered before; at most 4."),
    ] = 1


class ExpectRequest(_Question):
    """What a session will ask next."""

    session: _SessionName
    queries: Annotated[list[str], Field(max_length=_MAX_EXPECTED, description="In the order of asking.")] = []
    typed: Annotated[
        str | None, Field(description="The text of the next question so far, sent when the typing pauses.")
    ] = None


class ExpectResponse(BaseModel):
    """What may be offered to ask: the session's past questions that begin so, headings near its hits."""

    suggestions: list[str]


class BoxModel(BaseModel):
    """A rectangle on a page, origin top left."""

    page: int
    x0: float
    y0: float
    x1: float
    y1: float


class ChunkModel(BaseModel):
    """A passage; `text` is the document's normalised text at [start:end).

    `uris` are all files with this content; `uri` is the first of them. `lines` are the first and the last
    line of the file, from 1, where it is text or code without pages.
    """

    id: str
    document_id: str
    uri: str
    uris: list[str]
    text: str
    start: int
    end: int
    page: int | None
    lines: list[int] | None
    boxes: list[BoxModel]
    heading_path: list[str]
    kind: ChunkKind


class PassagePartModel(BaseModel):
    """A chunk of the index within a longer passage."""

    chunk_id: str
    start: int
    end: int
    page: int | None


class HitModel(BaseModel):
    """A passage and how well it fits; `parts` are the chunks that it consists of, if they are several."""

    rank: int
    score: float
    chunk: ChunkModel
    parts: list[PassagePartModel]


class SearchResponse(BaseModel):
    """The nearest passages, best first."""

    hits: list[HitModel]
    tier: Literal["miss", "exact", "certified", "approximate"]
    timings: dict[str, float]
    explanation: dict[str, Any]


class CitationModel(BaseModel):
    """Verbatim evidence for the `[mark]` in the answer."""

    mark: int
    chunk_id: str
    document_id: str
    uri: str
    uris: list[str]
    page: int | None
    lines: list[int] | None
    quote: str
    start: int
    end: int


class RetrievalModel(BaseModel):
    """How the passages were found."""

    tier: Literal["miss", "exact", "certified", "approximate"]
    timings: dict[str, float]
    explanation: dict[str, Any]
    num_dropped_citations: int


class UsageModel(BaseModel):
    """Tokens read and written."""

    num_prompt_tokens: int
    num_output_tokens: int


class AskResponse(BaseModel):
    """An answer and what it rests on."""

    question: str
    answer: str
    supported: bool
    confidence: float
    citations: list[CitationModel]
    hits: list[HitModel]
    retrieval: RetrievalModel
    usage: UsageModel
    timings: dict[str, float]


class ErrorDetail(BaseModel):
    """What went wrong, and what to do about it."""

    code: str
    message: str
    hint: str


class ErrorResponse(BaseModel):
    """The form of every error."""

    error: ErrorDetail
