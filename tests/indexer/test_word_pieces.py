"""Tokens of ASCII words, counted without the tokenizer, are those that the tokenizer gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, Whitespace

from indexer.tokenization import ChunkTokenizer
from indexer.word_pieces import WordPieces, word_pieces

ASCII_WORDS = st.text(alphabet=[chr(code) for code in range(33, 127)], min_size=1, max_size=30)
FEW_LETTERS = st.text(alphabet="abcAB1-[]", min_size=1, max_size=14)


def shipped(tokenizer: ChunkTokenizer) -> tuple[Tokenizer, WordPieces]:
    return load(Tokenizer.from_file(str(tokenizer.path)))


def load(tokenizer: Tokenizer) -> tuple[Tokenizer, WordPieces]:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    pieces = word_pieces(json.loads(tokenizer.to_str()))
    assert pieces is not None
    return tokenizer, pieces


def small(*, lowercase: bool) -> Tokenizer:
    """Few pieces, so that many words have a part that is not known, and words beyond 6 characters are not."""
    texts = ["[UNK]", "a", "ab", "b", "##b", "##bc", "##1", "1", "-", "A", "##A", "[", "aba"]
    vocabulary = {text: number for number, text in enumerate(texts)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=6))
    tokenizer.normalizer = BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.add_special_tokens(["[A]"])
    return tokenizer


@settings(deadline=None)
@given(word=ASCII_WORDS)
def test_any_ascii_word_has_as_many_tokens_as_for_the_tokenizer(
    minilm_tokenizer: ChunkTokenizer, word: str
) -> None:
    tokenizer, pieces = shipped(minilm_tokenizer)
    assert pieces.count(word) in (None, len(tokenizer.encode(word, add_special_tokens=False)))
    assert pieces.count(word) is not None or "[" in word


@pytest.mark.parametrize("lowercase", [True, False])
@settings(deadline=None)
@given(word=FEW_LETTERS)
def test_unknown_pieces_long_words_and_capitals_count_as_the_tokenizer_counts_them(
    lowercase: bool, word: str
) -> None:
    tokenizer, pieces = load(small(lowercase=lowercase))
    expected = len(tokenizer.encode(word, add_special_tokens=False))
    assert pieces.count(word) == (None if "[A]" in word else expected)


@pytest.mark.parametrize("word", ["naïve", "日本", "[SEP]", "x[MASK]y"])
def test_what_is_not_plain_is_left_to_the_tokenizer(minilm_tokenizer: ChunkTokenizer, word: str) -> None:
    assert shipped(minilm_tokenizer)[1].count(word) is None


def test_a_tokenizer_that_divides_by_other_rules_is_not_imitated(
    byte_level_tokenizer: ChunkTokenizer,
) -> None:
    assert word_pieces(json.loads(Path(byte_level_tokenizer.path).read_text(encoding="utf-8"))) is None
    other = small(lowercase=True)
    other.pre_tokenizer = Whitespace()
    assert word_pieces(json.loads(other.to_str())) is None
