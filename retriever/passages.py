"""Longer passages around hits: their neighbours, or the section that several of them share.

A passage is the document's own text at [start:end), separators between its chunks included, so whatever is
quoted from it stands in the document like that. Two passages that share a chunk become one. Nothing that the
filters exclude gets in by being next to a hit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, NamedTuple, Protocol

from indexer.types import Chunk, Filters, LineRange
from retriever.settings import RetrievalSettings
from retriever.types import Hit, PassagePart

_MAX_SECTION_CHUNKS = 64  # on either side of a hit; a section that goes on is too long to be returned


class DocumentView(Protocol):
    """What expansion asks of one state of the corpus; indexer's IndexView has it."""

    def around(self, chunk_id: str, before: int, after: int) -> list[Chunk]:
        """A chunk, and up to so many of its document before and after it, in order; [] if it is gone."""
        ...

    def document_text(self, document_id: str) -> str:
        """The document's normalised text."""
        ...


class Expanded(NamedTuple):
    """The passages, and which of them are longer than one chunk and why."""

    hits: tuple[Hit, ...]
    explanation: list[dict[str, Any]]


@dataclass(slots=True)
class _Passage:
    """What a hit grows into."""

    hit: Hit  # the best one in it
    chunks: dict[str, Chunk]  # by id
    ranks: list[int]  # of the hits in it
    how: str = ""

    def absorb(self, other: _Passage) -> None:
        self.chunks |= other.chunks
        self.ranks += other.ranks


def expand(
    view: DocumentView, hits: Sequence[Hit], settings: RetrievalSettings, filters: Filters | None
) -> Expanded:
    """The hits, best first, as passages ranked from 1. There may be fewer passages than hits.

    A hit whose chunk is gone by now stays as it is.
    """
    passages = _sections(view, hits, settings, filters)
    for passage in passages:
        if not passage.how and settings.neighbours:
            chunks = _neighbours(view, passage.hit.chunk, settings.neighbours, filters)
            passage.chunks |= {chunk.id: chunk for chunk in chunks}
            passage.how = "neighbours"
    passages = _merged(passages)
    found = [_as_hit(view, passage, rank) for rank, passage in enumerate(passages, start=1)]
    explanation = [
        {"rank": hit.rank, "how": passage.how, "chunks": len(hit.parts), "hits": sorted(passage.ranks)}
        for hit, passage in zip(found, passages, strict=True)
        if hit.parts
    ]
    return Expanded(tuple(found), explanation)


def _sections(
    view: DocumentView, hits: Sequence[Hit], settings: RetrievalSettings, filters: Filters | None
) -> list[_Passage]:
    """A passage a hit; those that share a section with enough others, and it is not too long, one together.

    The deepest section that holds enough hits is taken; a document without headings is one section.
    """
    passages = {hit.chunk.id: _Passage(hit, {hit.chunk.id: hit.chunk}, [hit.rank]) for hit in hits}
    if settings.section_min_hits is None:
        return list(passages.values())
    sections: dict[tuple[str, tuple[str, ...]], list[Hit]] = {}
    for hit in hits:
        path = hit.chunk.heading_path
        for depth in range(len(path), -1, -1):
            sections.setdefault((hit.chunk.document_id, path[:depth]), []).append(hit)
    for (_, path), inside in sorted(sections.items(), key=lambda item: -len(item[0][1])):
        left = [hit for hit in inside if not passages[hit.chunk.id].how]
        if len(left) < settings.section_min_hits:
            continue
        chunks = {chunk.id: chunk for chunk in _section(view, left[0].chunk, path, settings, filters)}
        together = [hit for hit in left if hit.chunk.id in chunks]
        if len(together) < settings.section_min_hits:  # the heading occurs twice, or the section is too long
            continue
        whole = _Passage(together[0], chunks, [hit.rank for hit in together], "section")
        passages |= dict.fromkeys((hit.chunk.id for hit in together), whole)
    return list({id(passage): passage for passage in passages.values()}.values())


def _section(
    view: DocumentView,
    chunk: Chunk,
    path: tuple[str, ...],
    settings: RetrievalSettings,
    filters: Filters | None,
) -> list[Chunk]:
    """The chunks around one that are under a heading, subsections included; [] if they are too long."""
    near = view.around(chunk.id, _MAX_SECTION_CHUNKS, _MAX_SECTION_CHUNKS)
    section = _contiguous(
        near, chunk.id, lambda other: _passes(other, filters) and other.heading_path[: len(path)] == path
    )
    if not section or section[-1].end - section[0].start > settings.section_max_chars:
        return []
    return section


def _neighbours(view: DocumentView, chunk: Chunk, count: int, filters: Filters | None) -> list[Chunk]:
    near = view.around(chunk.id, count, count)
    return _contiguous(near, chunk.id, lambda other: _passes(other, filters))


def _contiguous(chunks: Sequence[Chunk], chunk_id: str, fits: Callable[[Chunk], bool]) -> list[Chunk]:
    """The run of fitting chunks around one of them; [] if that one is not there or does not fit."""
    middle = next((at for at, chunk in enumerate(chunks) if chunk.id == chunk_id and fits(chunk)), None)
    if middle is None:
        return []
    before = list(takewhile(fits, reversed(chunks[:middle])))
    return [*reversed(before), chunks[middle], *takewhile(fits, chunks[middle + 1 :])]


def _passes(chunk: Chunk, filters: Filters | None) -> bool:
    """Whether a chunk of a document that passes does so itself."""
    return filters is None or filters.kinds is None or chunk.kind in filters.kinds


def _merged(passages: Iterable[_Passage]) -> list[_Passage]:
    """The passages, best first, those that share a chunk as one."""
    found: list[_Passage] = []
    for passage in passages:
        sharing = [other for other in found if not other.chunks.keys().isdisjoint(passage.chunks)]
        if not sharing:
            found.append(passage)
            continue
        for other in (*sharing[1:], passage):
            sharing[0].absorb(other)
        found = [other for other in found if all(other is not merged for merged in sharing[1:])]
    return found


def _as_hit(view: DocumentView, passage: _Passage, rank: int) -> Hit:
    hit, chunks = passage.hit, sorted(passage.chunks.values(), key=lambda chunk: chunk.start)
    if len(chunks) == 1:
        return replace(hit, rank=rank)
    start, end = chunks[0].start, chunks[-1].end
    text = view.document_text(hit.chunk.document_id)[start:end]
    ids = "\n".join(chunk.id for chunk in chunks)
    kinds = {chunk.kind for chunk in chunks}
    merged = replace(
        hit.chunk,
        id=hashlib.sha256(f"passage\n{ids}\n{text}".encode()).hexdigest()[:32],
        text=text,
        start=start,
        end=end,
        page=chunks[0].page,
        boxes=tuple(box for chunk in chunks for box in chunk.boxes),
        heading_path=_common_path([chunk.heading_path for chunk in chunks]),
        kind=kinds.pop() if len(kinds) == 1 else "text",
        lines=_lines(chunks[0], chunks[-1]),
    )
    parts = tuple(PassagePart(chunk.id, chunk.start, chunk.end, chunk.page) for chunk in chunks)
    return replace(hit, chunk=merged, rank=rank, parts=parts)


def _lines(first: Chunk, last: Chunk) -> LineRange | None:
    if first.lines is None or last.lines is None:
        return None
    return LineRange(first.lines.first, last.lines.last)


def _common_path(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    same = takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False))
    return tuple(names[0] for names in same)
