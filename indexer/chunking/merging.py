"""Grouping the blocks of a section into chunks: small neighbours together, long ones split."""

from __future__ import annotations

from collections.abc import Iterator

from indexer.chunking.boxes import boxes_within
from indexer.chunking.context import ContextWriter
from indexer.chunking.splitting import Span, split
from indexer.chunking.values import TINY_TOKENS, Budget, Piece, Section
from indexer.token_sums import TokenSums
from indexer.tokenization import ChunkTokenizer
from indexer.types import Block

Group = list[Piece]


class SectionMerger:
    """Turns one section into groups of pieces, each group within the budget, in order."""

    def __init__(
        self, text: str, tokenizer: ChunkTokenizer, sums: TokenSums, contexts: ContextWriter, budget: Budget
    ) -> None:
        self._text = text
        self._tokenizer = tokenizer
        self._sums = sums
        self._contexts = contexts
        self._budget = budget
        self._separator_tokens = 0 if tokenizer.words_add_up else 1  # the newlines between two blocks

    def groups(self, section: Section) -> Iterator[Group]:
        """The section's chunks, lagging by one so that a small last one can join the one before it."""
        budget = self._budget
        previous: Group = []
        taken = 0
        for group, tokens in self._greedy(section):
            if (
                previous
                and tokens < budget.target // 4
                and self._fit(previous, taken, group[0].page, group[-1].end, tokens, budget.tokens)
            ):
                previous, taken = previous + group, taken + tokens
                continue
            if previous:
                yield previous
            previous, taken = group, tokens
        if previous:
            yield previous

    def _greedy(self, section: Section) -> Iterator[tuple[Group, int]]:
        """The groups without a look at what follows, each with its tokens."""
        budget = self._budget
        current: Group = []
        taken = 0
        for block in section.blocks:
            room = None  # tokens that its first part may have so that it joins; None if it starts anew
            if current and taken <= budget.target // 2 and current[0].page == block.page:
                room = budget.target - taken
            whole = self._whole(block, current, taken, must_join=room is not None)
            for piece in self._parts(block, room) if whole is None else (whole,):
                if current:
                    limit = budget.tokens if _only_leads(current, taken) else budget.target
                    if not self._fit(current, taken, piece.page, piece.end, piece.tokens, limit):
                        yield current, taken
                        current, taken = [], 0
                current.append(piece)
                taken += piece.tokens
        if current:
            yield current, taken

    def _whole(self, block: Block, current: Group, taken: int, *, must_join: bool) -> Piece | None:
        """The block as one piece, if it can be: if it could join what only leads to it, it has to."""
        budget = self._budget
        if block.end - block.start > budget.characters:
            return None
        tokens = self._sums.estimate(block.start, block.end)
        whole = Piece(block.start, block.end, tokens, block, block.page)
        if header := self._contexts.continuation(whole):  # of a table that goes on from the page before
            tokens += self._tokenizer.count(header)
            whole = whole._replace(tokens=tokens)
        if tokens > budget.tokens:
            return None
        if must_join and _only_leads(current, taken):
            return whole if self._fit(current, taken, block.page, block.end, tokens, budget.tokens) else None
        return whole

    def _parts(self, block: Block, room: int | None) -> Iterator[Piece]:
        """The block in parts, the first of them of at most `room` tokens."""
        for number, span in enumerate(self._spans(block, room)):
            piece = Piece(
                span.start, span.end, span.tokens, block, _page(block, self._text, span.start, span.end)
            )
            if number and (header := self._contexts.continuation(piece)):
                piece = piece._replace(tokens=span.tokens + self._tokenizer.count(header))
            yield piece

    def _spans(self, block: Block, room: int | None) -> Iterator[Span]:
        budget, text = self._budget, self._text
        target = budget.target
        if block.kind in ("table", "code"):  # each further part repeats the header
            probe = Piece(block.start + 1, block.end, 0, block, block.page)
            target = max(target // 2, target - self._tokenizer.count(self._contexts.continuation(probe)))
        limits = Budget(tokens=budget.tokens, target=target, characters=budget.characters)
        return split(
            text, block.start, block.end, kind=block.kind, sums=self._sums, budget=limits, first_tokens=room
        )

    def _fit(
        self, group: Group, taken: int, page: int | None, end: int, tokens: int, max_tokens: int
    ) -> bool:
        """Whether a group and what follows it make one chunk: on the same page and within the limits."""
        return (
            group[0].page == page
            and taken + tokens + self._separator_tokens <= max_tokens
            and end - group[0].start <= self._budget.characters
        )


def _only_leads(group: Group, tokens: int) -> bool:
    """Whether the group is nothing by itself: headings, or a few words that introduce what follows."""
    return tokens < TINY_TOKENS or (
        group[0].block.kind == "heading" and all(piece.block.kind == "heading" for piece in group)
    )


def _page(block: Block, text: str, start: int, end: int) -> int | None:
    """The page that a part of a block starts on: a paragraph may run over a page's end."""
    boxes = boxes_within(block, text, start, end) if start > block.start else ()
    return boxes[0].page if boxes else block.page
