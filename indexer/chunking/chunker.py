"""A parsed document into chunks that the embedder can read whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from indexer.chunking.boxes import boxes_within, union_lines
from indexer.chunking.context import ContextWriter, block_title, code_scope
from indexer.chunking.merging import Group, SectionMerger
from indexer.chunking.splitting import split
from indexer.chunking.values import (
    CHARACTERS_PER_TOKEN,
    TINY_TOKENS,
    Budget,
    ChunkDraft,
    Piece,
    Section,
)
from indexer.tokenization import ChunkTokenizer, joins_previous
from indexer.types import Block, Box, ChunkKind, ParsedDocument

CHUNKER_VERSION = "4"  # rises whenever the same document would be cut differently
DEFAULT_TARGET_TOKENS = 192  # docs/chunking.md says what was measured
MIN_MAX_TOKENS = 16
_CHUNK_KINDS: Mapping[str, ChunkKind] = {
    "code": "code",
    "table": "table",
    "image": "image",
}  # others are text
_WHOLE_UP_TO = 2  # targets: longer blocks are split even if the embedder could read them whole


def chunk_document(
    document: ParsedDocument,
    tokenizer: ChunkTokenizer,
    *,
    max_tokens: int,
    target_tokens: int = DEFAULT_TARGET_TOKENS,
) -> list[ChunkDraft]:
    """Cut a document at its structure; with context and special tokens, no chunk exceeds `max_tokens`.

    The chunks are in order, do not overlap and cover all non-blank text of the blocks, but for furniture.
    Small neighbours of a section are merged up to `target_tokens`; a block of up to twice that stays whole if
    it fits `max_tokens`. Linear in the text.
    """
    if max_tokens < MIN_MAX_TOKENS:
        raise ValueError(f"max_tokens must be at least {MIN_MAX_TOKENS}, got {max_tokens}.")
    return list(_Chunker(document, tokenizer, max_tokens=max_tokens, target_tokens=target_tokens).drafts())


class _Chunker:
    def __init__(
        self, document: ParsedDocument, tokenizer: ChunkTokenizer, *, max_tokens: int, target_tokens: int
    ) -> None:
        self._document = document
        self._tokenizer = tokenizer
        self._sums = tokenizer.sums(document.text)
        self._limit = max_tokens - tokenizer.num_special_tokens
        self._target = target_tokens
        self._contexts = ContextWriter(document, tokenizer, max_tokens=max_tokens)

    def drafts(self) -> Iterator[ChunkDraft]:
        for section in self._joined(sections(self._document)):
            merger = SectionMerger(
                self._document.text,
                self._tokenizer,
                self._sums,
                self._contexts,
                self._budget(section.path),
            )
            for group in merger.groups(section):
                yield from self._exact(section.path, group)

    def _joined(self, parts: Iterable[Section]) -> Iterator[Section]:
        """The sections; a tiny one that the next is nested in (a line above the first heading) joins it."""
        tiny: Section | None = None
        for section in parts:
            if tiny and section.path[: len(tiny.path)] == tiny.path and _page(tiny) == _page(section):
                section = Section(section.path, tiny.blocks + section.blocks)
            elif tiny:
                yield tiny
            tiny = section if self._is_tiny(section) else None
            if not tiny:
                yield section
        if tiny:
            yield tiny

    def _is_tiny(self, section: Section) -> bool:
        start, end = section.blocks[0].start, section.blocks[-1].end
        if end - start > TINY_TOKENS * CHARACTERS_PER_TOKEN:
            return False
        return self._sums.estimate(start, end) < TINY_TOKENS

    def _budget(self, path: tuple[str, ...]) -> Budget:
        whole = min(self._limit, _WHOLE_UP_TO * self._target)
        tokens = max(1, whole - self._contexts.section_tokens(path))
        return Budget(
            tokens=tokens, target=min(tokens, self._target), characters=self._limit * CHARACTERS_PER_TOKEN
        )

    def _exact(self, path: tuple[str, ...], group: Sequence[Piece]) -> Iterator[ChunkDraft]:
        """The group as a chunk if its exact token count fits, else its parts.

        The estimates that groups are made by err where a word is cut or a tokenizer reads across words.
        """
        draft = self._draft(path, group)
        num_tokens = self._sums.count(draft.context, draft.start, draft.end)
        if num_tokens <= self._limit:
            yield self._with_imports(draft, room=self._limit - num_tokens)
        elif draft.end - draft.start == 1:
            yield replace(draft, context="")
        else:
            for part in self._smaller(group, num_tokens):
                yield from self._exact(path, part)

    def _with_imports(self, draft: ChunkDraft, *, room: int) -> ChunkDraft:
        """The chunk with the imports that it uses in its context, where there is room left for them."""
        if draft.kind != "code":
            return draft
        context = self._contexts.with_imports(draft.context, draft.start, draft.end, room=room)
        if context == draft.context or self._sums.count(context, draft.start, draft.end) > self._limit:
            return draft
        return replace(draft, context=context)

    def _smaller(self, group: Sequence[Piece], num_tokens: int) -> Iterable[Group]:
        """The group in at least two parts."""
        if len(group) > 1:
            return (list(group[: len(group) // 2]), list(group[len(group) // 2 :]))
        (piece,) = group
        text = self._document.text
        target = max(1, self._limit * self._limit // (2 * num_tokens))
        budget = Budget(tokens=target, target=target, characters=max(1, (piece.end - piece.start) * 2 // 3))
        spans = list(
            split(text, piece.start, piece.end, kind=piece.block.kind, sums=self._sums, budget=budget)
        )
        if len(spans) > 1:
            return ([piece._replace(start=s.start, end=s.end, tokens=s.tokens)] for s in spans)
        middle = _middle(text, piece.start, piece.end)
        return ([piece._replace(end=middle)], [piece._replace(start=middle)])

    def _draft(self, path: tuple[str, ...], group: Sequence[Piece]) -> ChunkDraft:
        text = self._document.text
        first = group[0]
        kinds = {piece.block.kind for piece in group}
        scope = code_scope(group) if kinds == {"code"} else ""
        boxes: list[Box] = []
        for piece in group:
            if piece.block.boxes:
                boxes += boxes_within(piece.block, text, piece.start, piece.end)
        return ChunkDraft(
            start=first.start,
            end=group[-1].end,
            page=first.page,
            boxes=union_lines(boxes) if boxes else (),
            heading_path=(*path, scope) if scope else path,
            kind=_kind(group) if len(kinds) > 1 else _CHUNK_KINDS.get(first.block.kind, "text"),
            context=self._contexts.write(path, group),
        )


def sections(document: ParsedDocument) -> Iterator[Section]:
    """The blocks grouped by the heading they stand under; a heading without text goes to what follows it."""
    open_headings: list[tuple[int, str]] = []
    blocks: list[Block] = []
    has_body = False
    for block in _stripped_blocks(document):
        if block.kind == "heading":
            if has_body:
                yield Section(_path(open_headings), tuple(blocks))
                blocks, has_body = [], False
            while open_headings and open_headings[-1][0] >= max(1, block.level):
                open_headings.pop()
            open_headings.append((max(1, block.level), block_title(document.text, block)))
        else:
            has_body = True
        blocks.append(block)
    if blocks:
        yield Section(_path(open_headings), tuple(blocks))


def _page(section: Section) -> int | None:
    return section.blocks[0].page


def _path(open_headings: Sequence[tuple[int, str]]) -> tuple[str, ...]:
    return tuple(title for _, title in open_headings if title)


def _stripped_blocks(document: ParsedDocument) -> Iterator[Block]:
    """The blocks without surrounding whitespace, blank ones and furniture left out.

    A text without blocks is one block.
    """
    text = document.text
    for block in document.blocks or (Block(kind="text", start=0, end=len(text)),):
        if block.kind == "furniture":
            continue
        start, end = block.start, block.end
        while start < end and text[start].isspace():
            start += 1
        while end > start and text[end - 1].isspace():
            end -= 1
        if start < end:
            yield block if (start, end) == (block.start, block.end) else replace(block, start=start, end=end)


def _kind(group: Sequence[Piece]) -> ChunkKind:
    """The kind that most of the chunk's characters have."""
    lengths: dict[ChunkKind, int] = {"text": 0}
    for piece in group:
        name = _CHUNK_KINDS.get(piece.block.kind, "text")
        lengths[name] = lengths.get(name, 0) + piece.end - piece.start
    return max(lengths, key=lambda name: lengths[name])


def _middle(text: str, start: int, end: int) -> int:
    """A place near the middle of text[start:end] that parts no grapheme, if there is one."""
    middle = (start + end) // 2
    for position in range(middle, end):
        if not joins_previous(text, position):
            return position
    return middle
