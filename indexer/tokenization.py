"""Counting tokens the way the embedder does, fast enough to plan chunks with.

Whole-document tokenisation costs about a second a megabyte and hundreds of bytes a token. A chunker needs
only counts, and text repeats its words, so the count of each distinct word is looked up once and remembered:
linear in the text, an order of magnitude faster, and bounded in memory.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from indexer.token_sums import TokenSums
from indexer.word_pieces import PartCounts, WordPieces, word_pieces

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer
    from tokenizers.models import Model

    from indexer.token_windows import WindowReader

LONGEST_UNIT = 24  # characters; a longer run without a space is divided at token boundaries
_SLICE = 4096  # characters of one endless word that are tokenised at a time
_REMEMBERED_WORDS = 100_000
_REMEMBERED_BYTES = 8 << 20  # of parts of words
_WORTH_NUMPY = 500_000  # characters; so many take longer to count word by word than numpy takes to load
_LONGEST_REMEMBERED_WORD = 64
_WORD = re.compile(r"\S+")
# BERT's normaliser deletes these, Python calls some of them whitespace: with them, words do not add up.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_ZERO_WIDTH_JOINER = "\u200d"


class TokenUnit(NamedTuple):
    """An unbreakable stretch of text, a word or a part of a long one, by character offsets."""

    start: int
    end: int
    tokens: int


class ChunkTokenizer:
    """Counts tokens as a `tokenizer.json` does, without truncation or padding, special tokens not included.

    Not thread-safe (it remembers words); make one a worker.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        specification = json.loads(self.path.read_text(encoding="utf-8"))
        self._tokenizer = _LibraryTokenizer(self.path)
        added = _num_special_tokens(specification)
        self.num_special_tokens = self._tokenizer.num_special_tokens if added is None else added
        self.words_add_up = _words_add_up(specification)
        self._pieces = word_pieces(specification)
        self._counts = _WordCounts(self._tokenizer, self._pieces)
        self._reader: WindowReader | None = None  # once it is worth what its library takes to load
        self._num_characters = 0  # of texts that `sums` were asked of

    def count(self, text: str) -> int:
        """Exact number of tokens of `text`; meant for texts of chunk size."""
        if self.is_additive(text):
            return self._sum(text)
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def estimate(self, text: str) -> int:
        """Number of tokens of `text`: exact where `is_additive`, else close; linear however long it is."""
        return self._sum(text)

    def sums(self, text: str) -> TokenSums:
        """The tokens of every stretch of one text."""
        self._num_characters += len(text)
        if self._pieces is None or not self.words_add_up:
            return TokenSums(text, self)
        if self._reader is None and self._num_characters < _WORTH_NUMPY and "numpy" not in sys.modules:
            return TokenSums(text, self)
        from indexer.window_sums import WindowSums

        if self._reader is None:
            self._reader = self._window_reader(self._pieces)
        return WindowSums(text, self, self._reader)

    def is_additive(self, text: str) -> bool:
        """Whether the tokens of `text` are exactly the sum of its words' tokens."""
        return self.words_add_up and _CONTROL.search(text) is None

    def _sum(self, text: str) -> int:
        tokens = None if self._reader is None else self._reader.count(text)
        return sum(map(self._counts.__getitem__, text.split())) if tokens is None else tokens

    def units(self, text: str, start: int, end: int) -> Iterator[TokenUnit]:
        """The words of text[start:end] in order, long ones divided: cutting before any unit is allowed.

        Units add up to the token count of the words they cover as long as no word is cut.
        """
        counts, gap_start = self._counts, start
        for match in _WORD.finditer(text, start, end):
            word_start, word_end = match.span()
            if word_end - word_start > LONGEST_UNIT:
                yield from self._divide(text, word_start, word_end)
            elif self.words_add_up:
                yield TokenUnit(word_start, word_end, counts[text[word_start:word_end]])
            else:
                # Byte-level tokenisers spend tokens on whitespace; it belongs to the word that it precedes.
                gap = text[max(gap_start, word_start - LONGEST_UNIT) : word_start]
                yield TokenUnit(word_start, word_end, counts[gap + text[word_start:word_end]])
            gap_start = word_end

    def truncate(self, text: str, max_tokens: int) -> str:
        """The longest prefix of `text` that ends with a unit and has at most `max_tokens` tokens."""
        is_short = len(text) <= min(_SLICE, LONGEST_UNIT * max_tokens)
        if is_short and self.is_additive(text) and self._sum(text) <= max_tokens:
            return text.strip()
        cut, total = 0, 0
        for unit in self.units(text, 0, len(text)):
            total += unit.tokens
            if total > max_tokens:
                break
            cut = unit.end
        while cut and self.count(text[:cut]) > max_tokens:  # a cut word may cost more than its part did
            cut = max((unit.start for unit in self.units(text, 0, cut)), default=0)
        return text[:cut].strip()

    def _divide(self, text: str, start: int, end: int) -> Iterator[TokenUnit]:
        """The parts of one long word: graphemes whole, at most about LONGEST_UNIT characters each."""
        while start < end:
            slice_end = min(end, start + _SLICE)
            while slice_end < min(end, start + _SLICE + LONGEST_UNIT) and joins_previous(text, slice_end):
                slice_end += 1
            offsets = self._tokenizer.encode(text[start:slice_end], add_special_tokens=False).offsets
            unit_start, tokens = start, 0
            for position, num_starting in _cut_positions(offsets, slice_end - start):
                cut = start + position
                if cut > unit_start and (cut - unit_start >= LONGEST_UNIT or not joins_previous(text, cut)):
                    yield TokenUnit(unit_start, cut, tokens)
                    unit_start, tokens = cut, 0
                tokens += num_starting
            yield TokenUnit(unit_start, slice_end, tokens)
            start = slice_end

    def _num_pieces(self, pieces: WordPieces, part: str) -> int:
        """Tokens of a part of a word: the library is quicker at it, but not worth loading for it."""
        model = self._tokenizer.model
        return len(pieces.lengths(part) if model is None else model.tokenize(part))

    def _window_reader(self, pieces: WordPieces) -> WindowReader:
        from indexer.characters import CharacterTable
        from indexer.token_windows import WindowReader

        characters = CharacterTable(self._tokenizer.parts, lowercase=pieces.lowercase)
        parts = PartCounts(pieces, partial(self._num_pieces, pieces), max_bytes=_REMEMBERED_BYTES)
        return WindowReader(characters, parts, self._counts, longest_unit=LONGEST_UNIT, longest_word=_SLICE)


class _LibraryTokenizer:
    """Loaded when it is first needed: a parse worker is done with many a file sooner than that takes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def encode(self, text: str, *, add_special_tokens: bool) -> Encoding:
        return self._loaded.encode(text, add_special_tokens=add_special_tokens)

    @property
    def model(self) -> Model | None:
        """What divides the parts of words; None until the library is loaded."""
        return self._model if "_loaded" in self.__dict__ else None

    def parts(self, text: str) -> list[str]:
        """What the model reads of a text, part by part, each by itself."""
        normalizer = self._loaded.normalizer
        normal = text if normalizer is None else normalizer.normalize_str(text)
        return [part for part, _ in self._loaded.pre_tokenizer.pre_tokenize_str(normal)]

    @property
    def num_special_tokens(self) -> int:
        return self._loaded.num_special_tokens_to_add(is_pair=False)

    @cached_property
    def _model(self) -> Model:
        return self._loaded.model

    @cached_property
    def _loaded(self) -> Tokenizer:
        from tokenizers import Tokenizer

        tokenizer: Tokenizer = Tokenizer.from_file(str(self._path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


class _WordCounts(dict[str, int]):
    """Tokens of a word, computed when first asked for."""

    def __init__(self, tokenizer: _LibraryTokenizer, pieces: WordPieces | None) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self._pieces = pieces

    def __missing__(self, word: str) -> int:
        count = self._pieces.count(word) if self._pieces and len(word) <= _LONGEST_REMEMBERED_WORD else None
        if count is None:
            parts = (word[i : i + _SLICE] for i in range(0, len(word), _SLICE))
            count = sum(len(self._tokenizer.encode(part, add_special_tokens=False)) for part in parts)
        if len(word) <= _LONGEST_REMEMBERED_WORD:
            if len(self) >= _REMEMBERED_WORDS:
                self.clear()
            self[word] = count
        return count


def _num_special_tokens(specification: Mapping[str, Any]) -> int | None:
    """How many tokens are put around a text; None where only the library can tell."""
    processor = specification.get("post_processor") or {}
    if processor.get("type") != "TemplateProcessing":
        return None
    names = [piece["SpecialToken"]["id"] for piece in processor["single"] if "SpecialToken" in piece]
    return sum(len(processor["special_tokens"][name]["ids"]) for name in names)


def _words_add_up(specification: dict) -> bool:
    """Whether this tokenizer splits on whitespace before anything else, so that word counts can be added."""
    pre_tokenizer = (specification.get("pre_tokenizer") or {}).get("type")
    normalizer = (specification.get("normalizer") or {}).get("type")
    added = (str(token.get("content", "")) for token in specification.get("added_tokens") or [])
    return (
        pre_tokenizer == "BertPreTokenizer"
        and normalizer in (None, "BertNormalizer")
        and not any(character.isspace() for content in added for character in content)
    )


def _cut_positions(offsets: Sequence[tuple[int, int]], length: int) -> Iterator[tuple[int, int]]:
    """(position, number of tokens starting there) in order; long stretches without a token start are cut.

    Such stretches are words that the model does not read (over 100 characters: a single unknown token).
    """
    previous = 0
    for start, _ in offsets:
        for position in range(previous + LONGEST_UNIT, start, LONGEST_UNIT):
            yield position, 0
        yield start, 1
        previous = max(previous, start)
    for position in range(previous + LONGEST_UNIT, length, LONGEST_UNIT):
        yield position, 0


def joins_previous(text: str, position: int) -> bool:
    """Whether a cut at `position` would part characters that are read as one (accents, emoji, CR LF)."""
    if not 0 < position < len(text):
        return False
    before, after = text[position - 1], text[position]
    if after < "\u0300":
        return before == "\r" and after == "\n"
    return (
        before == _ZERO_WIDTH_JOINER
        or after == _ZERO_WIDTH_JOINER
        or unicodedata.category(after)[0] == "M"
        or "\U0001f3fb" <= after <= "\U0001f3ff"  # skin tones
        or ("\u1160" <= after <= "\u11ff")  # Hangul vowels and finals
        or _completes_flag(text, position)
    )


def _completes_flag(text: str, position: int) -> bool:
    """Whether the letter at `position` is the second of a pair of regional indicators (a flag)."""
    if not _is_regional_indicator(text[position]):
        return False
    num_before = 0
    while num_before < min(position, LONGEST_UNIT) and _is_regional_indicator(
        text[position - num_before - 1]
    ):
        num_before += 1
    return num_before % 2 == 1


def _is_regional_indicator(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
