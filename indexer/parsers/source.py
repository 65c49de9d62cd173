"""The lines of a text file with their offsets: what the line-oriented parsers cut blocks from."""

from __future__ import annotations

import re

from indexer.parsers.decoding import decode_text
from indexer.parsers.failures import check_characters
from indexer.parsers.normalise import normalise_text
from indexer.parsers.options import ParseOptions
from indexer.types import Block, BlockKind

# Pictures pasted into text formats; a megabyte of base64 is no prose.
# What normalisation would make newlines of, and no editor counts as the end of a line.
_BREAKS = re.compile("[\x0b\x0c\x85\u2028\u2029]+")
_DATA_URI = re.compile(r"(data:[\w.+-]+/[\w.+-]+(?:;[\w=.+-]+)*;base64,)[A-Za-z0-9+/=_-]{100,}")


class SourceLines:
    """A source text and its lines; blocks are made from ranges of line numbers."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.split("\n")
        self._starts: list[int] = []
        position = 0
        for line in self.lines:
            self._starts.append(position)
            position += len(line) + 1

    def __len__(self) -> int:
        return len(self.lines)

    def is_blank(self, number: int) -> bool:
        """Whether the line holds nothing but white space."""
        return not self.lines[number].strip()

    def block(
        self, kind: BlockKind, first: int, stop: int, *, level: int = 0, name: str = ""
    ) -> Block | None:
        """The block of lines [first, stop) without blank lines at its ends; None when they are all blank."""
        while first < stop and self.is_blank(first):
            first += 1
        while stop > first and self.is_blank(stop - 1):
            stop -= 1
        if first == stop:
            return None
        end = self._starts[stop - 1] + len(self.lines[stop - 1].rstrip())
        return Block(kind, self._starts[first], end, level=level, name=name)

    def part(self, kind: BlockKind, number: int, start: int, end: int, *, level: int = 0) -> Block:
        """The block of characters [start, end) of one line."""
        origin = self._starts[number]
        return Block(kind, origin + start, origin + end, level=level)


def read_source(data: bytes, *, name: str, options: ParseOptions) -> tuple[str, list[str]]:
    """The file's normalised text, with the lines of the file, and warnings about how it was decoded."""
    decoded = decode_text(data, name=name)
    text = normalise_text(_without_breaks(decoded.text))
    check_characters(len(text), name, options)
    warnings = []
    if decoded.num_replaced:
        warnings.append(f"{decoded.num_replaced} characters could not be decoded as {decoded.encoding}.")
    return text, warnings


def _without_breaks(text: str) -> str:
    """The text without page feeds and the like: nothing at the ends of lines, a space within them."""

    def instead(match: re.Match[str]) -> str:
        before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
        return "" if before in ("", "\n") or after in ("", "\r", "\n") else " "

    return _BREAKS.sub(instead, text)


def drop_data_uris(text: str) -> str:
    """Empty the base64 payloads of data: URIs; lines stay where they are."""
    return _DATA_URI.sub(r"\1", text) if ";base64," in text else text
