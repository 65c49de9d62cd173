"""Splitting as it is defined: unit by unit, every boundary ranked by itself, the tokenizer asked for all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from zlib import crc32

from tokenizers import Tokenizer

from indexer.chunking.boundaries import rank_boundary
from indexer.chunking.splitting import Span
from indexer.chunking.values import Budget
from indexer.tokenization import LONGEST_UNIT, joins_previous
from indexer.types import BlockKind

LONGEST_WORD = 4096


def count_words(tokenizer: Tokenizer, text: str) -> int:
    """The sum over the words, the longest of them in slices."""
    return sum(
        len(tokenizer.encode(word[first : first + LONGEST_WORD], add_special_tokens=False))
        for word in text.split()
        for first in range(0, len(word), LONGEST_WORD)
    )


def units(tokenizer: Tokenizer, text: str, start: int, end: int) -> list[Span]:
    """Words, and long words divided where tokens start."""
    found: list[Span] = []
    for match in re.finditer(r"\S+", text[start:end]):
        first, last = start + match.start(), start + match.end()
        if last - first > LONGEST_UNIT:
            found += _divided(tokenizer, text, first, last)
        else:
            found.append(Span(first, last, count_words(tokenizer, text[first:last])))
    return found


def _divided(tokenizer: Tokenizer, text: str, start: int, end: int) -> Iterator[Span]:
    while start < end:
        stop = min(end, start + LONGEST_WORD)
        while stop < min(end, start + LONGEST_WORD + LONGEST_UNIT) and joins_previous(text, stop):
            stop += 1
        offsets = tokenizer.encode(text[start:stop], add_special_tokens=False).offsets
        num_starting = Counter(start + first for first, _ in offsets)
        unit, tokens, last_token = start, 0, start
        for place in range(start, stop):
            far = (place - last_token) % LONGEST_UNIT == 0
            cuts = place > unit and (place in num_starting or far)
            if cuts and (place - unit >= LONGEST_UNIT or not joins_previous(text, place)):
                yield Span(unit, place, tokens)
                unit, tokens = place, 0
            if place in num_starting:
                tokens, last_token = tokens + num_starting[place], place
        yield Span(unit, stop, tokens)
        start = stop


def split(
    text: str, found: list[Span], *, kind: BlockKind, budget: Budget, first_tokens: int | None
) -> Iterator[Span]:
    """`found` are the units."""
    limit = budget.target if first_tokens is None else first_tokens
    rest_is_known = False
    while found:
        total = sum(unit.tokens for unit in found)
        length = found[-1].end - found[0].start
        rest_is_known = rest_is_known or (total <= limit + budget.target and length <= 2 * budget.characters)
        if rest_is_known and total <= limit and length <= budget.characters:
            cut = len(found)
        else:
            cut = _best_cut(text, found, limit, kind, budget, rest_is_known=rest_is_known)
        yield Span(found[0].start, found[cut - 1].end, sum(unit.tokens for unit in found[:cut]))
        found, limit = found[cut:], budget.target


def _best_cut(
    text: str, found: list[Span], limit: int, kind: BlockKind, budget: Budget, *, rest_is_known: bool
) -> int:
    sums = list(accumulate(unit.tokens for unit in found))
    lengths = [unit.end - found[0].start for unit in found]
    total = sums[-1]
    is_tail = rest_is_known and total <= limit + budget.target
    fill = 0.25 if is_tail else 0.5
    fitting = [
        n for n in range(1, len(found)) if sums[n - 1] <= limit and lengths[n - 1] <= budget.characters
    ]
    most = fitting[-1] if fitting else 1
    filled = [
        n
        for n in range(1, len(found) + 1)
        if sums[n - 1] >= limit * fill or lengths[n - 1] >= budget.characters * fill
    ]
    least = filled[0] if filled else len(found) + 1
    if is_tail:
        least = max(least, next(n for n in range(1, len(found) + 1) if total - sums[n - 1] <= budget.target))
    cuts = range(max(1, min(least, most)), most + 1)
    rank = rank_boundary(kind)
    if most <= 1:
        return 1
    ranks = {n: rank(text, found[n - 1].end, found[n].start) for n in cuts}
    best = [n for n, worth in ranks.items() if worth == max(ranks.values())]
    breaks_line = (
        kind in ("code", "table") and "\n" not in text[found[best[0] - 1].end : found[best[0]].start]
    )
    if is_tail and breaks_line:
        return _best_cut(text, found, limit, kind, budget, rest_is_known=False)
    if is_tail:
        return min(best, key=lambda n: abs(2 * sums[n - 1] - total))
    return min(best, key=lambda n: _fingerprint(text, found[n].start))


def _fingerprint(text: str, place: int) -> int:
    return crc32(text[max(0, place - 16) : place + 16].encode("utf-8", "surrogatepass"))
