"""The tokens of every stretch of a text by running sums, and where it may be cut.

The text is looked at a window at a time, by a few calls that each go over all of it: what its characters are,
which words they make, how many tokens each of those has, and the running sum of them. What a stretch has is
the difference of two sums. The window moves on with what is asked for, so memory is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from indexer.characters import OTHER
from indexer.token_sums import STRETCH, TokenSums, Units
from indexer.token_windows import Window, WindowReader, word_edges

if TYPE_CHECKING:
    from indexer.tokenization import ChunkTokenizer, TokenUnit

LONGEST_WINDOW = 1 << 18  # characters that are looked at together
_MARGIN = 1 << 14  # of a window before what is asked for: the end of the chunk before is asked for next


class _Arrays(NamedTuple):
    """Units as arrays, their offsets in the window."""

    starts: np.ndarray  # (n,) int64
    ends: np.ndarray  # (n,) int64
    tokens: np.ndarray  # (n,)


class WindowSums(TokenSums):
    """The same in one pass over the text, for tokenizers whose words need not be asked for one by one."""

    def __init__(self, text: str, tokenizer: ChunkTokenizer, reader: WindowReader) -> None:
        super().__init__(text, tokenizer)
        self._reader = reader
        self._window = reader.read(text, 0, min(len(text), LONGEST_WINDOW))
        self._context, self._context_tokens = "", 0  # of the last chunk: many have the same

    def estimate(self, start: int, end: int) -> int:
        """By the sums, where they hold."""
        tokens = self._tokens(start, end)
        return super().estimate(start, end) if tokens is None else tokens

    def count(self, context: str, start: int, end: int) -> int:
        """By the sums, where they hold."""
        tokens = self._tokens(start, end)
        if tokens is None or not self._tokenizer.is_additive(context):
            return super().count(context, start, end)
        if context != self._context:
            self._context, self._context_tokens = context, self._tokenizer.estimate(context)
        return tokens + self._context_tokens

    def units(self, start: int, end: int) -> Iterator[Units]:
        """A stretch at a time; the tokenizer is asked about odd words only."""
        while start < end:
            window = self._window_of(start, min(end, start + STRETCH))
            stop = end if end - start <= STRETCH else 1 + window.last_space(start, start + STRETCH)
            if stop:
                if units := self._units(window, start, stop):
                    yield units
            else:  # all of it is one word
                stop = self._end_of_word(start, end)
                yield from super().units(start, stop)
            start = stop

    def _tokens(self, start: int, end: int) -> int | None:
        """Of text[start:end] by the sums, if they hold for it: it cuts no word, and none in it is odd."""
        window = self._window
        if start < window.start or end > window.end:
            if end - start > LONGEST_WINDOW - _MARGIN:
                return None
            window = self._window_of(start, end)
        text = self._text
        if (
            (start and not text[start - 1].isspace() and self._cuts_word(start))
            or (end < len(text) and not text[end].isspace() and self._cuts_word(end))
            or window.has_odd(start, end)
        ):
            return None
        return window.tokens(start, end)

    def _window_of(self, start: int, end: int) -> Window:
        if start < self._window.start or end > self._window.end:
            first = max(0, start - _MARGIN)
            self._window = self._reader.read(self._text, first, min(len(self._text), first + LONGEST_WINDOW))
        return self._window

    def _cuts_word(self, position: int) -> bool:
        text = self._text
        return 0 < position < len(text) and not (text[position - 1].isspace() or text[position].isspace())

    def _end_of_word(self, start: int, end: int) -> int:
        text = self._text
        while start < end and not text[start].isspace():
            start += 1
        return start

    def _units(self, window: Window, start: int, end: int) -> Units | None:
        """The units of text[start:end]; None if there are none."""
        origin = start - window.start
        kinds = window.kinds[origin : end - window.start]
        starts, ends = word_edges(kinds)
        if not len(starts):
            return None
        starts, ends = starts + origin, ends + origin
        whole = _Arrays(starts, ends, window.sums[ends] - window.sums[starts])
        long = ends - starts > self._reader.longest_unit
        asked = np.zeros(len(starts), bool)
        asked[0] |= self._cuts_word(start)
        asked[-1] |= self._cuts_word(end)
        if odd := window.odd_within(start, end):
            asked[starts.searchsorted(np.array(odd) - window.start, "right") - 1] = True
        if long.any():
            others = np.zeros(len(starts), bool)
            others[starts.searchsorted((kinds & OTHER).nonzero()[0] + origin, "right") - 1] = True
            asked |= others & long
        parts = []
        if asked.any():
            parts.append(self._asked(window, starts[asked], ends[asked]))
        if (divided := long & ~asked).any():
            parts.append(_Arrays(*self._reader.divide(window, starts[divided], ends[divided])))
        if parts:
            regular = ~(asked | long)
            parts.append(_Arrays(*(values[regular] for values in whole)))
            whole = _in_order(parts)
        starts, ends = whole.starts + window.start, whole.ends + window.start
        return Units(starts.tolist(), ends.tolist(), whole.tokens.tolist())

    def _asked(self, window: Window, starts: np.ndarray, ends: np.ndarray) -> _Arrays:
        """The units of words that the tokenizer has to be asked about."""
        units: list[TokenUnit] = []
        for start, end in zip((starts + window.start).tolist(), (ends + window.start).tolist(), strict=True):
            units += self._tokenizer.units(self._text, start, end)
        found = np.array(units, np.int64).T
        return _Arrays(found[0] - window.start, found[1] - window.start, found[2])


def _in_order(parts: list[_Arrays]) -> _Arrays:
    starts, ends, tokens = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.argsort(starts, kind="stable")
    return _Arrays(starts[order], ends[order], tokens[order])
