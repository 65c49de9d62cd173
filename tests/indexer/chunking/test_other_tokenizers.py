"""Tokens of whole texts, for BERT tokenizers of all kinds of rules and few pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from indexer.tokenization import ChunkTokenizer

FEW_LETTERS = st.text(alphabet="abcAB1-[]éÉя漢’ ", min_size=1, max_size=14)
OPTIONS = [
    {"lowercase": True},
    {"lowercase": False},
    {"lowercase": False, "strip_accents": True},
    {"lowercase": True, "strip_accents": False},
    {"lowercase": True, "handle_chinese_chars": False},
]


def small(**options: bool) -> Tokenizer:
    """Few pieces, so that many words have a part that is not known, and words beyond 6 characters are not."""
    texts = [
        "[UNK]",
        "a",
        "ab",
        "b",
        "##b",
        "##bc",
        "##1",
        "1",
        "-",
        "A",
        "##A",
        "[",
        "aba",
        "é",
        "##é",
        "я",
        "##漢",
    ]
    vocabulary = {text: number for number, text in enumerate(texts)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=6))
    tokenizer.normalizer = BertNormalizer(**options)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.add_special_tokens(["[A]"])
    return tokenizer


@pytest.fixture(scope="session", params=OPTIONS, ids=str)
def small_tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ChunkTokenizer:
    path = tmp_path_factory.mktemp("small") / "tokenizer.json"
    small(**request.param).save(str(path))
    return ChunkTokenizer(path)


@settings(deadline=None)
@given(text=FEW_LETTERS)
def test_unknown_pieces_long_words_capitals_and_accents_count_as_for_the_tokenizer(
    small_tokenizer: ChunkTokenizer, text: str
) -> None:
    raw = Tokenizer.from_file(str(small_tokenizer.path))
    expected = len(raw.encode(text, add_special_tokens=False))
    assert small_tokenizer.count(text) == expected
    assert small_tokenizer.sums(text).count("", 0, len(text)) == expected
