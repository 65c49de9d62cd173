"""The values that the stages of chunking hand to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from indexer.types import Block, Box, ChunkKind

TINY_TOKENS = 16  # less is not worth a chunk of its own: it leads to what follows
CHARACTERS_PER_TOKEN = 24  # a chunk never has more characters per token allowed; bounds what no token counts


@dataclass(frozen=True, slots=True)
class ChunkDraft:
    """A chunk before it has an id: its text is `document.text[start:end]`, embedded along with `context`."""

    start: int
    end: int
    page: int | None
    boxes: tuple[Box, ...]
    heading_path: tuple[str, ...]
    kind: ChunkKind
    context: str


def embedding_text(context: str, text: str) -> str:
    """What is embedded for a chunk: its context, a newline and its text."""
    return f"{context}\n{text}" if context else text


@dataclass(frozen=True, slots=True)
class Budget:
    """How large a chunk's text may be: `tokens` and `characters` at most; merging stops at `target`."""

    tokens: int
    target: int
    characters: int


@dataclass(frozen=True, slots=True)
class Section:
    """Blocks under one heading, the heading (or several in a row with next to no text between them) first."""

    path: tuple[str, ...]
    blocks: tuple[Block, ...]


class Piece(NamedTuple):
    """A stretch of one block that no chunk boundary falls into."""

    start: int
    end: int
    tokens: int
    block: Block
    page: int | None
