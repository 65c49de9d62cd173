"""How many tokens a word of plain ASCII has for a BERT tokenizer, without asking the tokenizer.

Asking costs some ten microseconds a word, most of them on the way to the other language and back. Nearly
all words of most texts are ASCII, and what BERT does with those is short: lower case, punctuation apart, then
the longest known piece, again and again (WordPiece; Wu et al., 2016, arXiv 1609.08144, section 4.1).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

# Letters and digits stay together, everything else that can be seen is punctuation and stands alone.
_ASCII_PART = re.compile(r"[A-Za-z0-9]+|[!-/:-@\[-`{-~]")


class WordPieces(NamedTuple):
    """The part of a `tokenizer.json` that decides how ASCII words are divided."""

    vocabulary: Mapping[str, int]
    prefix: str  # of a piece that continues a word
    longest_part: int  # characters; a longer one is a single unknown token
    longest_piece: int
    lowercase: bool
    special: Collection[str]  # texts that are tokens of their own wherever they occur

    def count(self, word: str) -> int | None:
        """The number of tokens of a word without spaces or control characters; None if it is not plain."""
        if not word.isascii() or any(text in word for text in self.special):
            return None
        total = 0
        for part in _ASCII_PART.findall(word.lower() if self.lowercase else word):
            total += 1 if part in self.vocabulary else self._pieces(part)
        return total

    def _pieces(self, part: str) -> int:
        """Of what is not a token as a whole; one, the unknown token, where some of it is not known."""
        length, start, pieces = len(part), 0, 0
        if length > self.longest_part:
            return 1
        while start < length:
            prefix = self.prefix if start else ""
            for end in range(min(length, start + self.longest_piece), start, -1):
                if prefix + part[start:end] in self.vocabulary:
                    start, pieces = end, pieces + 1
                    break
            else:
                return 1
        return pieces


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
