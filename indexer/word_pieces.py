"""How many tokens a word of plain ASCII has for a BERT tokenizer, without asking the tokenizer.

Asking costs some ten microseconds a word, most of them on the way to the other language and back. Nearly
all words of most texts are ASCII, and what BERT does with those is short: lower case, punctuation apart, then
the longest known piece, again and again (WordPiece; Wu et al., 2016, arXiv 1609.08144, section 4.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

_LONGEST_REMEMBERED_PART = 64
_ENTRY_BYTES = 200  # of a remembered part besides its characters
# Letters and digits stay together, everything else that can be seen is punctuation and stands alone.
_ASCII_PART = re.compile(r"[A-Za-z0-9]+|[!-/:-@\[-`{-~]")


class WordPieces(NamedTuple):
    """The part of a `tokenizer.json` that decides how ASCII words are divided."""

    vocabulary: Mapping[str, int]
    prefix: str  # of a piece that continues a word
    longest_part: int  # characters; a longer one is a single unknown token
    longest_piece: int
    lowercase: bool
    special: Sequence[str]  # texts that are tokens of their own wherever they occur

    def count(self, word: str) -> int | None:
        """The number of tokens of a word without spaces or control characters; None if it is not plain."""
        if not word.isascii() or any(text in word for text in self.special):
            return None
        total = 0
        for part in _ASCII_PART.findall(word.lower() if self.lowercase else word):
            total += 1 if part in self.vocabulary else len(self.lengths(part))
        return total

    def lengths(self, part: str) -> list[int]:
        """Characters of each token of a part, in lower case where that matters.

        It is one token, the unknown one, where some of it is not known.
        """
        length, start = len(part), 0
        lengths: list[int] = []
        if length > self.longest_part:
            return [length]
        vocabulary, prefix = self.vocabulary, ""
        while start < length:
            for end in range(min(length, start + self.longest_piece), start, -1):
                if prefix + part[start:end] in vocabulary:
                    break
            else:
                return [length]
            lengths.append(end - start)
            prefix, start = self.prefix, end
        return lengths


class PartCounts(dict[str, int]):
    """Tokens of a part, by its text as the model reads it; those that are one token are known from the start.

    The others are counted by `count` and remembered, in `max_bytes`, about.
    """

    def __init__(self, pieces: WordPieces, count: Callable[[str], int], *, max_bytes: int) -> None:
        super().__init__(dict.fromkeys(pieces.vocabulary, 1))
        self.pieces = pieces
        self._count = count
        self._max_bytes = max_bytes
        self._lengths: dict[str, list[int]] = {}
        self.num_bytes = 0  # of what was looked up

    def __missing__(self, part: str) -> int:
        count = self._count(part)
        if len(part) <= _LONGEST_REMEMBERED_PART:
            self._make_room(len(part))
            self[part] = count
        return count

    def lengths(self, part: str) -> list[int]:
        """Characters of each token of a part."""
        lengths = self._lengths.get(part)
        if lengths is None:
            lengths = self.pieces.lengths(part)
            if len(part) <= _LONGEST_REMEMBERED_PART:
                self._make_room(len(part))
                self._lengths[part] = lengths
        return lengths

    def _make_room(self, num_characters: int) -> None:
        self.num_bytes += num_characters + _ENTRY_BYTES
        if self.num_bytes > self._max_bytes:
            self.clear()
            self._lengths.clear()
            self.update(dict.fromkeys(self.pieces.vocabulary, 1))
            self.num_bytes = num_characters + _ENTRY_BYTES


def word_pieces(specification: Mapping[str, Any]) -> WordPieces | None:
    """From a parsed `tokenizer.json`; None where it divides words by other rules than BERT's."""
    model, normalizer = specification.get("model") or {}, specification.get("normalizer") or {}
    pre_tokenizer = specification.get("pre_tokenizer") or {}
    if (model.get("type"), pre_tokenizer.get("type")) != ("WordPiece", "BertPreTokenizer"):
        return None
    if normalizer.get("type") not in (None, "BertNormalizer"):
        return None
    vocabulary: Mapping[str, int] = model["vocab"]
    return WordPieces(
        vocabulary=vocabulary,
        prefix=model["continuing_subword_prefix"],
        longest_part=model["max_input_chars_per_word"],
        longest_piece=max(map(len, vocabulary), default=0),
        lowercase=bool(normalizer.get("lowercase")),
        special=tuple(token["content"] for token in specification.get("added_tokens") or ()),
    )
