"""Reads the words of the documents in `text/`: a little Markdown, one piece a paragraph."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TEXT_FOLDER = Path(__file__).parent / "text"
PieceKind = Literal["h1", "h2", "text", "caption", "bullets", "steps", "table", "line"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A heading or a paragraph (`text`), a list (`items`) or a table (`rows`, the head first)."""

    kind: PieceKind
    text: str = ""
    items: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def read_pieces(name: str) -> list[Piece]:
    """The pieces of `text/<name>.md`, which blank lines separate."""
    source = (TEXT_FOLDER / f"{name}.md").read_text(encoding="utf-8")
    return [_piece(block) for block in re.split(r"\n{2,}", source.strip())]


def _piece(block: str) -> Piece:
    joined = " ".join(line.strip() for line in block.splitlines())
    if heading := re.fullmatch(r"(#{1,2}) (.+)", joined):
        return Piece("h1" if len(heading[1]) == 1 else "h2", heading[2])
    if joined == "---":
        return Piece("line")
    if block.startswith("| "):
        head, _, *body = [
            tuple(cell.strip() for cell in line.strip("| ").split("|")) for line in block.splitlines()
        ]
        return Piece("table", rows=(head, *body))
    for kind, mark in (("bullets", r"- "), ("steps", r"\d+\. ")):
        if re.match(mark, block):
            items = re.split(rf"\n(?={mark})", block)
            return Piece(kind, items=tuple(" ".join(re.sub(rf"^{mark}", "", item).split()) for item in items))
    return Piece("caption" if re.match(r"Table \d+\.", joined) else "text", joined)
