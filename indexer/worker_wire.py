"""What crosses the pipe between the ingest and its parse workers: JSON, and nothing that could run code."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from indexer.chunking.values import ChunkDraft
from indexer.types import Block, Box, Import, ParsedDocument, Thumbnail

Message = dict[str, Any]


def encode(message: Mapping[str, Any]) -> bytes:
    """A message as bytes. Lone surrogates (of undecodable file names) survive, as JSON escapes them."""
    return json.dumps(message, separators=(",", ":")).encode("ascii")


def decode(data: bytes) -> Message:
    """The message that `encode` was given."""
    return json.loads(data)


def document_to_json(document: ParsedDocument) -> Message:
    """A document as JSON values."""
    return {
        "text": document.text,
        "blocks": [
            [b.kind, b.start, b.end, b.level, b.page, b.name, b.boxes, b.signature] for b in document.blocks
        ],
        "title": document.title,
        "format": document.format,
        "parser": document.parser,
        "metadata": dict(document.metadata),
        "warnings": list(document.warnings),
        "imports": document.imports,
        "thumbnail": _thumbnail_to_json(document.thumbnail),
    }


def document_from_json(values: Message) -> ParsedDocument:
    """The document that `document_to_json` was given."""
    return ParsedDocument(
        text=values["text"],
        blocks=tuple(
            Block(kind, start, end, level, page, name, _boxes(boxes), signature)
            for kind, start, end, level, page, name, boxes, signature in values["blocks"]
        ),
        title=values["title"],
        format=values["format"],
        parser=values["parser"],
        metadata=MappingProxyType(values["metadata"]),
        warnings=tuple(values["warnings"]),
        imports=tuple(Import(*each) for each in values["imports"]),
        thumbnail=_thumbnail_from_json(values["thumbnail"]),
    )


def drafts_to_json(drafts: Sequence[ChunkDraft]) -> list[list[Any]]:
    """Chunks as JSON values."""
    return [[d.start, d.end, d.page, d.boxes, d.heading_path, d.kind, d.context] for d in drafts]


def drafts_from_json(values: list[list[Any]]) -> tuple[ChunkDraft, ...]:
    """The chunks that `drafts_to_json` was given."""
    return tuple(
        ChunkDraft(start, end, page, _boxes(boxes), tuple(heading_path), kind, context)
        for start, end, page, boxes, heading_path, kind, context in values
    )


def _thumbnail_to_json(thumbnail: Thumbnail | None) -> list[Any] | None:
    if thumbnail is None:
        return None
    return [thumbnail.width, thumbnail.height, base64.b64encode(thumbnail.rgb).decode("ascii")]


def _thumbnail_from_json(values: list[Any] | None) -> Thumbnail | None:
    if values is None:
        return None
    width, height, rgb = values
    return Thumbnail(width, height, base64.b64decode(rgb))


def _boxes(values: list[list[float]]) -> tuple[Box, ...]:
    return tuple(Box(*box) for box in values)
