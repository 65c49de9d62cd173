from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Encoding, Tokenizer

from indexer.tokenization import LONGEST_UNIT, ChunkTokenizer, joins_previous

ADVERSARIAL = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.sampled_from(
            [
                "word ",
                "[SEP]",
                "[MASK] ",
                "naïve ",
                "\u0301",
                "\u200d",
                "👩‍👩‍👧‍👦",
                "🇩🇪",
                "日本語",
                "\n\n",
                "\x85",
                "\x1c",
            ]
        ),
        st.text(alphabet="abcXYZ019+/", min_size=80, max_size=260),
    ),
    max_size=12,
).map("".join)


def brute_force_count(tokenizer: ChunkTokenizer, text: str) -> int:
    return len(reference(tokenizer.path).encode(text, add_special_tokens=False).ids)


@functools.cache
def reference(path: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@settings(deadline=None)
@given(text=ADVERSARIAL)
def test_counts_equal_those_of_the_whole_text(minilm_tokenizer: ChunkTokenizer, text: str) -> None:
    assert minilm_tokenizer.count(text) == brute_force_count(minilm_tokenizer, text)


@settings(deadline=None)
@given(text=ADVERSARIAL)
def test_counts_equal_those_of_the_whole_text_for_a_byte_level_tokenizer(
    byte_level_tokenizer: ChunkTokenizer, text: str
) -> None:
    assert byte_level_tokenizer.count(text) == brute_force_count(byte_level_tokenizer, text)


@settings(deadline=None)
@given(text=ADVERSARIAL)
def test_units_are_ordered_short_and_cover_all_that_is_not_blank(
    minilm_tokenizer: ChunkTokenizer, text: str
) -> None:
    position = 0
    for unit in minilm_tokenizer.units(text, 0, len(text)):
        assert text[position : unit.start].strip() == ""
        assert unit.start < unit.end <= unit.start + 2 * LONGEST_UNIT
        position = unit.end
    assert text[position:].strip() == ""


@settings(deadline=None)
@given(words=st.lists(st.text(alphabet="abcdefgh.,-'é", min_size=1, max_size=LONGEST_UNIT), max_size=30))
def test_units_of_ordinary_words_add_up_to_the_count(
    minilm_tokenizer: ChunkTokenizer, words: list[str]
) -> None:
    text = " ".join(words)
    total = sum(unit.tokens for unit in minilm_tokenizer.units(text, 0, len(text)))
    assert total == brute_force_count(minilm_tokenizer, text)


def test_truncation_and_padding_of_the_file_are_ignored(minilm_tokenizer: ChunkTokenizer) -> None:
    specification = json.loads(minilm_tokenizer.path.read_text())
    assert specification["truncation"]["max_length"] == 128
    assert minilm_tokenizer.count("word " * 500) == 500
    assert minilm_tokenizer.count("word") == 1


def test_plain_words_are_counted_without_loading_the_library(minilm_tokenizer: ChunkTokenizer) -> None:
    program = (
        "import sys; from indexer.tokenization import ChunkTokenizer; t = ChunkTokenizer(sys.argv[1]);"
        "print(t.num_special_tokens, t.count('The unbelievable ferry leaves at 9:15.'), end=' ');"
        "print('tokenizers' in sys.modules, t.count('na\u00efve'), 'tokenizers' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(minilm_tokenizer.path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = brute_force_count(minilm_tokenizer, "The unbelievable ferry leaves at 9:15.")
    assert run.stdout.split() == ["2", str(expected), "False", "1", "True"]


@pytest.mark.parametrize("template", [["A"], ["[CLS]", "A", "[SEP]"], ["[CLS]", "[CLS]", "A"], None])
def test_special_tokens_are_counted_as_the_library_counts_them(
    minilm_tokenizer: ChunkTokenizer, tmp_path: Path, template: list[str] | None
) -> None:
    specification = json.loads(minilm_tokenizer.path.read_text())
    if template is None:
        specification["post_processor"] = None
    else:
        specification["post_processor"]["single"] = [
            {"Sequence" if name == "A" else "SpecialToken": {"id": name, "type_id": 0}} for name in template
        ]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(specification))
    counted = ChunkTokenizer(path).num_special_tokens
    assert counted == reference(path).num_special_tokens_to_add(is_pair=False)


def test_special_tokens_are_counted_apart(minilm_tokenizer: ChunkTokenizer) -> None:
    assert minilm_tokenizer.num_special_tokens == 2
    assert minilm_tokenizer.count("") == 0


@settings(deadline=None)
@given(text=ADVERSARIAL, max_tokens=st.integers(0, 30))
def test_truncating_keeps_a_prefix_within_the_limit(
    minilm_tokenizer: ChunkTokenizer, text: str, max_tokens: int
) -> None:
    prefix = minilm_tokenizer.truncate(text, max_tokens)
    assert text.lstrip().startswith(prefix)
    assert brute_force_count(minilm_tokenizer, prefix) <= max_tokens


@pytest.mark.parametrize("cluster", ["e\u0301", "👩\u200d👧", "👍\U0001f3fd", "🇩🇪", "각", "❤\ufe0f", "\r\n"])
def test_no_cut_parts_what_is_read_as_one_character(cluster: str) -> None:
    text = f"x{cluster}y"
    inside = range(2, 1 + len(cluster))
    assert all(joins_previous(text, position) for position in inside)
    assert not joins_previous(text, 1)
    assert not joins_previous(text, 1 + len(cluster))


def test_neighbouring_flags_may_be_parted_between_them() -> None:
    text = "🇩🇪🇫🇷"
    assert [joins_previous(text, position) for position in (1, 2, 3)] == [True, False, True]


@pytest.mark.parametrize("unit", ["A", "漢", "👩‍👩‍👧 ", "a\u0301", "Zm9v/+", "\u0301", "the quick fox "])
def test_pathological_text_is_tokenised_once_in_slices(
    minilm_tokenizer: ChunkTokenizer, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    tokenizer = ChunkTokenizer(minilm_tokenizer.path)
    text = unit * (100_000 // len(unit))
    lengths: list[int] = []
    original = tokenizer._tokenizer

    class Recording:
        def encode(self, part: str, **options: bool) -> Encoding:
            lengths.append(len(part))
            return original.encode(part, **options)

    tokenizer._tokenizer = tokenizer._counts._tokenizer = Recording()
    assert sum(unit.end - unit.start for unit in tokenizer.units(text, 0, len(text))) <= len(text)
    assert sum(lengths) <= len(text)
    assert max(lengths, default=0) < 5_000  # plain words are counted without the tokenizer


def test_the_memory_of_words_is_bounded(
    minilm_tokenizer: ChunkTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.tokenization._REMEMBERED_WORDS", 50)
    tokenizer = ChunkTokenizer(minilm_tokenizer.path)
    text = " ".join(f"w{number}" for number in range(500))
    assert tokenizer.count(text) == brute_force_count(tokenizer, text)
    assert len(tokenizer._counts) <= 50
