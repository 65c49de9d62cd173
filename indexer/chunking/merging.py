"""Grouping the blocks of a section into chunks: small neighbours together, long ones split."""

from __future__ import annotations

from collections.abc import Iterator

from indexer.chunking.boxes import boxes_within
from indexer.chunking.context import ContextWriter
from indexer.chunking.splitting import Span, split
from indexer.chunking.values import TINY_TOKENS, Budget, Piece, Section
from indexer.tokenization import ChunkTokenizer
from indexer.types import Block

Group = list[Piece]


class SectionMerger:
    """Turns one section into groups of pieces, each group within the budget, in order."""

    def __init__(self, text: str, tokenizer: ChunkTokenizer, contexts: ContextWriter, budget: Budget) -> None:
        self._text = text
        self._tokenizer = tokenizer
        self._contexts = contexts
        self._budget = budget
        self._separator_tokens = 0 if tokenizer.words_add_up else 1  # the newlines between two blocks

    def groups(self, section: Section) -> Iterator[Group]:
        """The section's chunks, lagging by one so that a small last one can join the one before it."""
        previous: Group = []
        for group in self._greedy(section):
            if previous and self._is_small(group) and self._fit(previous, group, self._budget.tokens):
                previous = previous + group
                continue
            if previous:
                yield previous
            previous = group
        if previous:
            yield previous

    def _greedy(self, section: Section) -> Iterator[Group]:
        current: Group = []
        for block in section.blocks:
            for piece in self._pieces(block, current):
                if not current or self._joins(current, piece):
                    current.append(piece)
                else:
                    yield current
                    current = [piece]
        if current:
            yield current

    def _pieces(self, block: Block, current: Group) -> Iterator[Piece]:
        """The block whole if it can be, else in parts, the first of them sized to join `current`."""
        budget = self._budget
        room = self._room_after(current, block)
        if block.end - block.start <= budget.characters:
            tokens = self._tokenizer.estimate(self._text[block.start : block.end])
            whole = Piece(block.start, block.end, tokens, block, block.page)
            header = self._contexts.continuation(whole)
            if header:  # of a table that goes on from the page before
                tokens += self._tokenizer.count(header)
                whole = whole._replace(tokens=tokens)
            must_join = room is not None and _only_leads(current)
            if tokens <= budget.tokens and (not must_join or self._fit(current, [whole], budget.tokens)):
                yield whole
                return
        for number, span in enumerate(self._spans(block, room)):
            piece = Piece(
                span.start, span.end, span.tokens, block, _page(block, self._text, span.start, span.end)
            )
            if number:
                header = self._tokenizer.count(self._contexts.continuation(piece))
                piece = piece._replace(tokens=span.tokens + header)
            yield piece

    def _spans(self, block: Block, room: int | None) -> Iterator[Span]:
        budget, text = self._budget, self._text
        target = budget.target
        if block.kind in ("table", "code"):  # each further part repeats the header
            probe = Piece(block.start + 1, block.end, 0, block, block.page)
            target = max(target // 2, target - self._tokenizer.count(self._contexts.continuation(probe)))
        limits = Budget(tokens=budget.tokens, target=target, characters=budget.characters)
        return split(
            text,
            block.start,
            block.end,
            kind=block.kind,
            tokenizer=self._tokenizer,
            budget=limits,
            first_tokens=room,
        )

    def _room_after(self, current: Group, block: Block) -> int | None:
        """Tokens that the block's first part may have so that it joins `current`; None if it starts anew."""
        taken = _tokens(current)
        if not current or current[0].page != block.page or taken > self._budget.target // 2:
            return None
        return self._budget.target - taken

    def _joins(self, current: Group, piece: Piece) -> bool:
        limit = self._budget.tokens if _only_leads(current) else self._budget.target
        return self._fit(current, [piece], limit)

    def _fit(self, first: Group, second: Group, max_tokens: int) -> bool:
        """Whether two neighbours make one chunk: on the same page and within the limits."""
        return (
            first[0].page == second[0].page
            and _tokens(first) + _tokens(second) + self._separator_tokens <= max_tokens
            and second[-1].end - first[0].start <= self._budget.characters
        )

    def _is_small(self, group: Group) -> bool:
        return _tokens(group) < self._budget.target // 4


def _tokens(group: Group) -> int:
    return sum(piece.tokens for piece in group)


def _only_leads(group: Group) -> bool:
    """Whether the group is nothing by itself: headings, or a few words that introduce what follows."""
    return _tokens(group) < TINY_TOKENS or all(piece.block.kind == "heading" for piece in group)


def _page(block: Block, text: str, start: int, end: int) -> int | None:
    """The page that a part of a block starts on: a paragraph may run over a page's end."""
    boxes = boxes_within(block, text, start, end) if start > block.start else ()
    return boxes[0].page if boxes else block.page
