"""Two ways to make a ParsedDocument: assemble it block by block, or mark blocks in a text that exists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from indexer.parsers.failures import check_characters, no_text, nothing_readable
from indexer.parsers.normalise import normalise_text, one_line
from indexer.parsers.options import ParseOptions
from indexer.types import Block, BlockKind, Box, Import, ParsedDocument

SEPARATOR = "\n\n"
_LONGEST_TITLE = 200  # characters


class DocumentBuilder:
    """Assembles a document block by block; what it builds keeps every promise about offsets."""

    def __init__(self, *, name: str, options: ParseOptions) -> None:
        self.name = name
        self.options = options
        self.blocks: list[Block] = []
        self._pieces: list[str] = []
        self._length = 0
        self._warnings: dict[str, None] = {}  # an ordered set

    def add(
        self,
        kind: BlockKind,
        text: str,
        *,
        level: int = 0,
        page: int | None = None,
        name: str = "",
        signature: str = "",
    ) -> None:
        """Append a block; text that is blank after normalisation is left out."""
        text = normalise_text(text).rstrip()
        body = text.lstrip("\n") if kind == "code" else text.lstrip()
        if body.strip():
            self._append(
                kind, body, level=level, page=page, name=one_line(normalise_text(name)), signature=signature
            )

    def heading(self, text: str, *, level: int, page: int | None = None) -> None:
        """Append a heading; it is always one line."""
        self.add("heading", one_line(normalise_text(text)), level=max(1, level), page=page)

    def add_lines(
        self,
        kind: BlockKind,
        lines: Iterable[tuple[str, Box]],
        *,
        level: int = 0,
        name: str = "",
        signature: str = "",
    ) -> None:
        """Append a block of placed lines: line i of its text lies in box i."""
        kept = [(one_line(normalise_text(text)), box) for text, box in lines]
        kept = [(text, box) for text, box in kept if text]
        if kept:
            boxes = tuple(box for _, box in kept)
            self._append(
                kind,
                "\n".join(text for text, _ in kept),
                level=level,
                page=boxes[0].page,
                name=name,
                boxes=boxes,
                signature=one_line(normalise_text(signature)),
            )

    def drop_last(self) -> None:
        """Take the last block back: a heading below which nothing came."""
        self.blocks.pop()
        self._pieces.pop()
        self._length = self.blocks[-1].end if self.blocks else 0

    def add_document(self, document: ParsedDocument, *, name: str, level: int) -> None:
        """Append a document within this one, a file called `name`: its headings below `level`, no pages."""
        for block in document.blocks:
            if block.kind == "furniture":  # of pages that are none here
                continue
            text = document.text[block.start : block.end]
            is_heading = block.kind == "heading"
            self.add(
                block.kind,
                text,
                level=block.level + level if is_heading else block.level,
                name=block.name,
                signature=block.signature,
            )
        for warning in document.warnings:
            self.warn(f"{name}: {warning}")

    def warn(self, sentence: str) -> None:
        """Record something that the reader of this document should know; the same sentence is kept once."""
        self._warnings[sentence] = None

    @property
    def length(self) -> int:
        """Characters so far."""
        return self._length

    @property
    def is_empty(self) -> bool:
        """Whether no block has been added yet."""
        return not self.blocks

    def build(
        self, *, format: str, parser: str, title: str = "", metadata: Mapping[str, str] | None = None
    ) -> ParsedDocument:
        """The document; raises NoExtractableText when nothing was added."""
        if not self.blocks:
            raise nothing_readable(self.name)
        return ParsedDocument(
            text=SEPARATOR.join(self._pieces),
            blocks=tuple(self.blocks),
            title=document_title(title, self.blocks, self._pieces.__getitem__),
            format=format,
            parser=parser,
            metadata=clean_metadata(metadata or {}),
            warnings=tuple(self._warnings),
        )

    def _append(self, kind: BlockKind, text: str, **block: Any) -> None:
        start = self._length + len(SEPARATOR) if self.blocks else 0
        self._length = start + len(text)
        check_characters(self._length, self.name, self.options)
        self._pieces.append(text)
        self.blocks.append(Block(kind, start, self._length, **block))


def source_document(
    text: str,
    blocks: Sequence[Block],
    *,
    name: str,
    format: str,
    parser: str,
    title: str = "",
    warnings: Iterable[str] = (),
    metadata: Mapping[str, str] | None = None,
    imports: Iterable[Import] = (),
) -> ParsedDocument:
    """A document whose text is the file's own (normalised) text, with blocks that point into it."""
    if not blocks:
        raise no_text(name)
    return ParsedDocument(
        text=text,
        blocks=tuple(blocks),
        title=document_title(title, blocks, lambda i: text[blocks[i].start : blocks[i].end]),
        format=format,
        parser=parser,
        metadata=clean_metadata(metadata or {}),
        warnings=tuple(warnings),
        imports=tuple(imports),
    )


def document_title(title: str, blocks: Sequence[Block], text_of: Callable[[int], str]) -> str:
    """What the file says its title is, else its only heading of the highest level; "" if it says nothing.

    A file's name is no title: it changes while the content stays, and copies of one content have several.
    """
    title = one_line(normalise_text(title))
    if not title:
        levels = [block.level for block in blocks if block.kind == "heading"]
        if levels and levels.count(min(levels)) == 1:
            top = next(
                i for i, block in enumerate(blocks) if block.kind == "heading" and block.level == min(levels)
            )
            title = one_line(text_of(top))
    return title[:_LONGEST_TITLE]


def clean_metadata(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """Metadata on single lines of bounded length, without empty values."""
    cleaned = {key: one_line(normalise_text(str(value)))[:1000] for key, value in metadata.items()}
    return MappingProxyType({key: value for key, value in cleaned.items() if value})
