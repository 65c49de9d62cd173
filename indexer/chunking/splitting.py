"""Splitting a stretch of text that is too long for one chunk, at its best boundaries, in linear time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate
from operator import attrgetter
from typing import NamedTuple
from zlib import crc32

from indexer.chunking.boundaries import RankBoundary, rank_boundary
from indexer.chunking.values import Budget
from indexer.tokenization import ChunkTokenizer, TokenUnit
from indexer.types import BlockKind

_end_of = attrgetter("end")


class Span(NamedTuple):
    """A stretch of text by character offsets, with its number of tokens."""

    start: int
    end: int
    tokens: int


def split(
    text: str,
    start: int,
    end: int,
    *,
    kind: BlockKind,
    tokenizer: ChunkTokenizer,
    budget: Budget,
    first_tokens: int | None = None,
) -> Iterator[Span]:
    """Cover text[start:end] by spans of at most `budget.target` tokens (the first: `first_tokens`)."""
    rank = rank_boundary(kind)
    units = tokenizer.units(text, start, end)
    buffer: list[TokenUnit] = []
    limit = budget.target if first_tokens is None else first_tokens
    exhausted = False
    while True:
        exhausted = exhausted or _refill(
            buffer, units, limit + budget.target, limit_characters=2 * budget.characters
        )
        if not buffer:
            return
        sums = list(accumulate(unit.tokens for unit in buffer))
        if exhausted and sums[-1] <= limit and buffer[-1].end - buffer[0].start <= budget.characters:
            num_units = len(buffer)
        else:
            rest = budget.target if exhausted else None
            num_units = _best_cut(text, buffer, sums, limit, budget.characters, rank, rest=rest)
        yield Span(buffer[0].start, buffer[num_units - 1].end, sums[num_units - 1])
        del buffer[:num_units]
        limit = budget.target


def _refill(
    buffer: list[TokenUnit], units: Iterator[TokenUnit], limit_tokens: int, *, limit_characters: int
) -> bool:
    """Extend the buffer beyond one of the limits; whether the units ran out before."""
    total = sum(unit.tokens for unit in buffer)
    while total <= limit_tokens and not (buffer and buffer[-1].end - buffer[0].start > limit_characters):
        unit = next(units, None)
        if unit is None:
            return True
        buffer.append(unit)
        total += unit.tokens
    return False


def _best_cut(
    text: str,
    buffer: list[TokenUnit],
    sums: list[int],
    tokens: int,
    characters: int,
    rank: RankBoundary,
    *,
    rest: int | None,
) -> int:
    """How many units of the buffer the next span takes, at least one; `sums` are its running token counts.

    Among the cuts that leave the span at least half full, the best ranked; among equals the one whose
    surroundings hash lowest, so that an edit moves only the cuts near it and later chunks keep their ids and
    vectors. When `rest` tokens can take all that follows, the most even cut wins instead.
    """
    origin, total = buffer[0].start, sums[-1]
    is_tail = rest is not None and total <= tokens + rest
    fill = 0.25 if is_tail else 0.5
    most = min(
        bisect_right(sums, tokens), bisect_right(buffer, origin + characters, key=_end_of), len(buffer) - 1
    )
    least = 1 + min(
        bisect_left(sums, tokens * fill), bisect_left(buffer, origin + characters * fill, key=_end_of)
    )
    if is_tail:
        least = max(least, 1 + bisect_left(sums, total - rest))
    if most <= 1:
        return 1
    cuts = range(max(1, min(least, most)), most + 1)
    ranks = [rank(text, buffer[cut - 1].end, buffer[cut].start) for cut in cuts]
    highest = max(ranks)
    best = [cut for cut, worth in zip(cuts, ranks, strict=True) if worth == highest]
    if is_tail:
        return min(best, key=lambda cut: abs(2 * sums[cut - 1] - total))
    return min(best, key=lambda cut: _fingerprint(text, buffer[cut].start))


def _fingerprint(text: str, position: int) -> int:
    return crc32(text[max(0, position - 16) : position + 16].encode("utf-8", "surrogatepass"))
