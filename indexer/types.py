"""The values that flow through the indexer: a parsed document, its chunks, and what became of each file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

# Furniture runs from page to page (heads, feet, page numbers): text of the document, never of a chunk.
BlockKind = Literal["heading", "text", "list", "table", "code", "image", "furniture"]
ChunkKind = Literal["text", "code", "table", "image"]


class Box(NamedTuple):
    """A rectangle on a page: PDF points or image pixels, origin at the top left, pages counted from 1."""

    page: int
    x0: float
    y0: float
    x1: float
    y1: float


class LineRange(NamedTuple):
    """Lines of a file, counted from 1; both belong to it."""

    first: int
    last: int


class Import(NamedTuple):
    """A name that code has from elsewhere: `np` for numpy, `Path` for pathlib.Path."""

    name: str
    source: str
    start: int  # character offset of its statement in the document's text


@dataclass(frozen=True, slots=True)
class Block:
    """A structural piece of a document.

    Blocks come in order and never overlap; the text between two blocks is separators only.
    """

    kind: BlockKind
    start: int  # character offsets into ParsedDocument.text
    end: int
    level: int = 0  # headings: depth from 1; code: nesting depth
    page: int | None = None  # from 1
    name: str = ""  # code: qualified name ("Flask.route"); tables, sheets and slides: their title
    boxes: tuple[Box, ...] = ()
    signature: str = ""  # code: on one line, with the first line of what documents it; tables that go on from
    # the page before: the header that stands there


class Thumbnail(NamedTuple):
    """A small copy of a picture."""

    width: int  # pixels
    height: int
    rgb: bytes  # 3 * width * height, rows from the top


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """A document as text plus structure.

    The text is NFC, with \\n newlines and no control characters but \\n and \\t.
    """

    text: str
    blocks: tuple[Block, ...]
    title: str = ""
    format: str = ""  # "pdf", "docx", "python"
    parser: str = ""  # what read it: "pypdfium2", "rapidocr"
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    warnings: tuple[str, ...] = ()  # what of the file is missing, or may be: one sentence each
    imports: tuple[Import, ...] = ()  # of code; not kept beyond chunking
    thumbnail: Thumbnail | None = None  # of a picture, if parsing was asked for it; not kept beyond embedding


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document small enough to embed; `text` is the document's normalised text at [start:end).

    `id` is derived from the document, the heading path, the kind and the text, so it survives edits elsewhere
    in the document (the offsets may move; the id and the vector do not).
    """

    id: str
    document_id: str
    uri: str
    text: str
    start: int
    end: int
    page: int | None
    boxes: tuple[Box, ...]
    heading_path: tuple[str, ...]
    kind: ChunkKind
    other_uris: tuple[str, ...] = ()  # further paths of files with this very content
    lines: LineRange | None = None  # of the file, where the document's text is the file's and has no pages

    @property
    def uris(self) -> tuple[str, ...]:
        """All paths of files with this content, the best one first: `uri`, then `other_uris`."""
        return (self.uri, *self.other_uris)


@dataclass(frozen=True, slots=True)
class Filters:
    """Restricts a search. Hashable, so it can be part of a cache key; None means no restriction."""

    path_glob: str | None = None  # matched against the uri, `*` crosses folders
    kinds: frozenset[ChunkKind] | None = None
    document_ids: frozenset[str] | None = None


class ScoredChunkId(NamedTuple):
    """A search hit before its chunk is loaded."""

    chunk_id: str
    score: float


@dataclass(frozen=True, slots=True)
class FileFailure:
    """A file that could not be indexed: why, what to do about it, and a stable machine-readable code."""

    uri: str
    reason: str
    hint: str
    code: str


FileState = Literal["indexed", "failed", "skipped"]
IngestStage = Literal["discover", "index", "prune", "checkpoint"]


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What became of a file when it was last looked at."""

    uri: str
    status: FileState
    size: int  # bytes
    document_id: str | None  # what a search finds for it; a failed file may still have its last good version
    code: str = ""  # of a failed or skipped file: stable and machine readable
    reason: str = ""
    hint: str = ""
    checked_at: float = 0.0  # Unix seconds


@dataclass(frozen=True, slots=True)
class PartialFile:
    """A file that is indexed, but not whole: what is missing or may be, one sentence each."""

    uri: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest did: indexed + unchanged + skipped + failed files were found."""

    indexed: int  # files that were read, new or changed
    unchanged: int
    removed: int  # files that are gone and were taken out
    skipped: int  # files that are deliberately not documents
    failed: tuple[FileFailure, ...]
    chunks: int  # of the files counted in `indexed`
    seconds: float
    missing: int = 0  # files that are gone and were kept, because pruning was not asked for
    embedded: int = 0  # texts that had to be embedded; the others were embedded before
    bytes: int = 0  # read from the files counted in `indexed`
    parse_seconds: float = 0.0  # summed over the worker processes, chunking included
    embed_seconds: float = 0.0
    commit_seconds: float = 0.0
    wait_seconds: float = 0.0  # in which there was nothing to embed or commit
    partial: int = 0  # of the files counted in `indexed`: something of them is missing, `doctor` says what

    @property
    def found(self) -> int:
        """All files that were looked at."""
        return self.indexed + self.unchanged + self.skipped + len(self.failed)


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote."""

    documents: int
    chunks: int
    files: int  # those that are no document included
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import brought in."""

    documents: int
    chunks: int
    files: int  # those that are no document included
    embedded: int  # texts that had to be embedded; the others came with a vector or had one already
    seconds: float


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Files with the same or nearly the same text."""

    similarity: float  # estimated; 1: the same
    uris: tuple[str, ...]  # the first ones
    files: int  # all of them


@dataclass(frozen=True, slots=True)
class NearDuplicatesReport:
    """The groups of files that are alike, the most alike first."""

    groups: tuple[NearDuplicates, ...]  # the first ones
    total: int  # how many there are


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A state of an index that was kept under a name."""

    name: str
    created_at: float  # Unix seconds
    generation: int  # of the index when it was made
    files: int
    documents: int
    chunks: int
    bytes: int = 0
    sha256: str = ""  # of the copy of the catalog
    damaged: bool = False  # what it holds cannot be told, and it cannot be restored


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """How far an ingest is; sent after every batch."""

    stage: IngestStage
    files_found: int
    files_done: int
    all_found: bool  # until then, `files_found` still grows
    chunks: int
    bytes: int
    seconds: float

    @property
    def chunks_per_second(self) -> float:
        """The rate since the start."""
        return self.chunks / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class IndexChanges:
    """Chunks that came and went since a generation.

    A chunk that is in both was changed in place: its vector, or the paths that it is found under. Apply the
    removals first. Where `complete` is false the history does not reach back that far: start anew.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    generation: int
    complete: bool = True


@dataclass(frozen=True, slots=True)
class ApproximateIndexStats:
    """How an index searches that does not compare all vectors, and how many of the nearest it finds."""

    chunks: int  # in it
    removed: int  # of them, those that went since it was made
    recent: int  # beside it; these are all compared
    recall_target: float
    k: int
    recall: float  # of the k nearest, measured on queries that were made from the corpus
    num_probes: int  # lists that are looked through for k
    rerank_depth: int  # candidates that are compared again by their stored vectors for k


@dataclass(frozen=True, slots=True)
class IndexStats:
    """What is in an index."""

    path: str
    generation: int
    files: Mapping[FileState, int]
    documents: int
    chunks: int
    chunks_by_kind: Mapping[ChunkKind, int]
    documents_by_format: Mapping[str, int]
    embeddings: int
    dimension: int | None  # None until something was embedded
    embedder: str | None
    catalog_bytes: int
    checkpoint_bytes: int
    last_ingest: Mapping[str, Any] | None  # when, of what, how it ended
    approximate: ApproximateIndexStats | None = None  # None: all vectors are compared
    images: int = 0  # pictures that can be found by what they show
    image_embedder: str | None = None  # None: there are none


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that `verify` found wrong."""

    check: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The outcome of `verify`: sound if there are no findings."""

    findings: tuple[Finding, ...]
    checks: tuple[str, ...]  # all that were run
    chunks: int
    seconds: float
    recall: float | None = None  # share of the 10 nearest chunks that searches find; None without chunks
    reembedded: int = 0  # chunks whose text was embedded again

    @property
    def ok(self) -> bool:
        """True if nothing is wrong."""
        return not self.findings
