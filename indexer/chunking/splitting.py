"""Splitting a stretch of text that is too long for one chunk, at its best boundaries, in linear time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple
from zlib import crc32

from indexer.chunking.boundaries import Boundaries
from indexer.chunking.values import Budget
from indexer.token_sums import TokenSums, Units
from indexer.types import BlockKind


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
    sums: TokenSums,
    budget: Budget,
    first_tokens: int | None = None,
) -> Iterator[Span]:
    """Cover text[start:end] by spans of at most `budget.target` tokens (the first: `first_tokens`)."""
    stretches = sums.units(start, end)
    found = next(stretches, None)
    if found is None:
        return
    ahead = _Ahead(text, kind, found)
    limit = budget.target if first_tokens is None else first_tokens
    first, exhausted = 0, False
    while True:
        while not exhausted and not ahead.reaches(first, limit + budget.target, 2 * budget.characters):
            found = next(stretches, None)
            if found is None:
                exhausted = True
            else:
                ahead, first = ahead.followed_by(found, first), 0
        if first == ahead.num_units:
            return
        if exhausted and ahead.fits(first, limit, budget.characters):
            cut = ahead.num_units
        else:
            rest = budget.target if exhausted else None
            cut = ahead.best_cut(first, limit, budget.characters, rest=rest)
        yield ahead.span(first, cut)
        first, limit = cut, budget.target


class _Ahead:
    """Units that lie ahead. They are numbered from 0; cut `n` lies between the units n - 1 and n."""

    def __init__(self, text: str, kind: BlockKind, units: Units) -> None:
        self._text = text
        self._kind: BlockKind = kind
        self._units = units
        self.num_units = len(units.starts)
        self._boundaries = Boundaries(text, kind, units)
        self._starts, self._ends = units.starts, units.ends
        self._sums = list(accumulate(units.tokens, initial=0))  # before each unit, and of all

    def followed_by(self, units: Units, first: int) -> _Ahead:
        """The units from `first`, and those that follow them."""
        both = (mine[first:] + more for mine, more in zip(self._units, units, strict=True))
        return _Ahead(self._text, self._kind, Units(*both))

    def reaches(self, first: int, tokens: int, characters: int) -> bool:
        """Whether the units from `first` have more than so many tokens, or characters."""
        return not self.fits(first, tokens, characters)

    def fits(self, first: int, tokens: int, characters: int) -> bool:
        """Whether the units from `first` have at most so many tokens and characters."""
        return first == self.num_units or (
            self._sums[-1] - self._sums[first] <= tokens
            and self._ends[-1] - self._starts[first] <= characters
        )

    def span(self, first: int, cut: int) -> Span:
        """From unit `first` up to the cut."""
        return Span(self._starts[first], self._ends[cut - 1], self._sums[cut] - self._sums[first])

    def best_cut(self, first: int, tokens: int, characters: int, *, rest: int | None) -> int:
        """Where the span that starts with unit `first` ends, after at least one unit.

        Among the cuts that leave the span at least half full, the best ranked; among equals the one whose
        surroundings hash lowest, so that an edit moves only the cuts near it and later chunks keep their ids
        and vectors. When `rest` tokens can take all that follows, the most even cut wins instead, unless it
        would break a line of code or a row of a table where one more span breaks none.
        """
        sums, ends, last = self._sums, self._ends, self.num_units
        before, origin = sums[first], self._starts[first]
        total = sums[last] - before
        is_tail = rest is not None and total <= tokens + rest
        fill = 0.25 if is_tail else 0.5
        most = min(
            bisect_right(sums, before + tokens, first + 1, last + 1) - 1,
            bisect_right(ends, origin + characters, first, last),
            last - 1,
        )
        least = 1 + min(
            bisect_left(sums, before + tokens * fill, first + 1, last + 1) - 1,
            bisect_left(ends, origin + characters * fill, first, last),
        )
        if rest is not None and is_tail:
            least = max(least, bisect_left(sums, before + total - rest, first + 1, last + 1))
        if most <= first + 1:
            return first + 1
        best = self._boundaries.best(max(first + 1, min(least, most)), most)
        if is_tail and not self._breaks_line(best[0]):
            return min(best, key=lambda cut: abs(2 * (sums[cut] - before) - total))
        if is_tail:
            return self.best_cut(first, tokens, characters, rest=None)
        return min(best, key=lambda cut: _fingerprint(self._text, self._starts[cut]))

    def _breaks_line(self, cut: int) -> bool:
        """Whether a cut is within a line, where lines count."""
        is_in_line = "\n" not in self._text[self._ends[cut - 1] : self._starts[cut]]
        return self._kind in ("code", "table") and is_in_line


def _fingerprint(text: str, position: int) -> int:
    return crc32(text[max(0, position - 16) : position + 16].encode("utf-8", "surrogatepass"))
