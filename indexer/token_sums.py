"""How many tokens any stretch of one text has, and where it may be cut."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from indexer.tokenization import ChunkTokenizer, TokenUnit

STRETCH = 1 << 16  # characters whose units are found together


class Units(NamedTuple):
    """Unbreakable stretches of text in order, words and parts of long ones: between any two may be a cut."""

    starts: list[int]  # character offsets
    ends: list[int]
    tokens: list[int]


class TokenSums:
    """The tokens of one text by any tokenizer, which is asked of every stretch anew."""

    def __init__(self, text: str, tokenizer: ChunkTokenizer) -> None:
        self._text = text
        self._tokenizer = tokenizer

    def estimate(self, start: int, end: int) -> int:
        """Tokens of text[start:end], as `ChunkTokenizer.estimate` has them."""
        return self._tokenizer.estimate(self._text[start:end])

    def count(self, context: str, start: int, end: int) -> int:
        """Exact number of tokens of text[start:end] below its context, if there is one."""
        text = self._text[start:end]
        return self._tokenizer.count(f"{context}\n{text}" if context else text)

    def units(self, start: int, end: int) -> Iterator[Units]:
        """What text[start:end] may be cut into, many units at a time."""
        return _together(self._tokenizer.units(self._text, start, end))


def _together(units: Iterator[TokenUnit]) -> Iterator[Units]:
    while some := list(islice(units, STRETCH // 16)):
        yield Units(*map(list, zip(*some, strict=True)))
