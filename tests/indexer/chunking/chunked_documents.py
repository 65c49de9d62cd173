"""Documents put together from blocks, and the texts of their chunks."""

from __future__ import annotations

from collections.abc import Sequence

from indexer.chunking import ChunkDraft
from indexer.types import Block, ParsedDocument

SENTENCE = "The quick brown fox jumps over the lazy dog near the old river bank today. "


def document(*parts: tuple[str, str] | tuple[str, str, dict], **fields: object) -> ParsedDocument:
    """A document from (kind, text[, block fields]) parts, two newlines between them."""
    text, blocks = "", []
    for kind, content, *rest in parts:
        text += "\n\n" if text else ""
        blocks.append(
            Block(kind=kind, start=len(text), end=len(text) + len(content), **(rest[0] if rest else {}))
        )
        text += content
    return ParsedDocument(text, tuple(blocks), **fields)


def texts(parsed: ParsedDocument, drafts: Sequence[ChunkDraft]) -> list[str]:
    return [parsed.text[draft.start : draft.end] for draft in drafts]
