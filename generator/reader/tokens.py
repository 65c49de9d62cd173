"""Word pieces with the characters they came from, and the order in which the reader sees them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # no Unicode text: replaced one for one, so offsets hold


@dataclass(frozen=True, slots=True)
class Tokens:
    """Word pieces of one text, without special tokens; `offsets` are characters [start, end) of each."""

    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]
    continues_word: list[bool]  # whether the piece goes on in the word of the piece before it

    def __len__(self) -> int:
        return len(self.ids)

    def characters(self, first: int, last: int) -> tuple[int, int]:
        """[start, end) in the text of pieces first..last."""
        return self.offsets[first][0], self.offsets[last][1]

    def covering(self, start: int, end: int) -> tuple[int, int] | None:
        """First and last piece that overlap the characters [start, end), or None when none does."""
        inside = [i for i, (s, e) in enumerate(self.offsets) if s < end and e > start]
        return (inside[0], inside[-1]) if inside else None


class ReaderTokenizer:
    """A BERT `tokenizer.json`, read without transformers; offsets are into the text as it was given."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer: Tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # "[SEP]" in a text is text, whoever wrote it
        self.cls_id = self._special("[CLS]")
        self.sep_id = self._special("[SEP]")
        self.mask_id = self._special("[MASK]")
        self.pad_id = self._special("[PAD]")

    @property
    def size(self) -> int:
        """Number of word pieces in the vocabulary."""
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> Tokens:
        """Word pieces of one text."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[Tokens]:
        """Word pieces of several texts."""
        readable = [_LONE_SURROGATE.sub("\ufffd", text) for text in texts]
        return [
            Tokens(text, e.ids, e.offsets, [token.startswith("##") for token in e.tokens])
            for text, e in zip(
                texts, self._tokenizer.encode_batch(readable, add_special_tokens=False), strict=True
            )
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of word pieces: lower case and normalised spacing, so never what a user is shown."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def prefix(self, question_ids: Sequence[int], passage_ids: Sequence[int]) -> list[int]:
        """What the reader reads of one passage: [CLS] question [SEP] passage [SEP]."""
        return [self.cls_id, *question_ids, self.sep_id, *passage_ids, self.sep_id]

    def passage_start(self, num_question_tokens: int) -> int:
        """Index of the passage's first piece in a `prefix`."""
        return num_question_tokens + 2

    def _special(self, token: str) -> int:
        token_id = self._tokenizer.token_to_id(token)
        if token_id is None:
            raise ValueError(f"the tokenizer has no {token}")
        return token_id
