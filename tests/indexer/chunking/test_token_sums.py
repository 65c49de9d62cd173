"""What is added up over a text at once is what the tokenizer says of each stretch of it."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import chain

import pytest
import reference_splitting as reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from indexer import window_sums
from indexer.token_sums import TokenSums
from indexer.token_windows import WindowReader
from indexer.tokenization import ChunkTokenizer
from indexer.word_pieces import PartCounts, word_pieces

FRAGMENTS = st.one_of(
    st.text(max_size=20),
    st.text(alphabet=[chr(code) for code in range(32, 127)], max_size=60),
    st.text(alphabet="Éàçßøİı’“—…漢字かな。، ۱Жж\u0301\u200d\ufb01K", max_size=30),
    st.sampled_from(
        ["[SEP]", "[MASK] ", "👩‍👩‍👧‍👦", "🇩🇪", "각", "\n\n", "\x85", "\x1c", "a\x07b", "\x0b", "\u3000"]
    ),
)
TEXTS = st.lists(FRAGMENTS, max_size=12).map("".join)


@st.composite
def stretches(draw: st.DrawFn) -> tuple[str, int, int]:
    text = draw(TEXTS)
    start = draw(st.integers(0, len(text)))
    return text, start, draw(st.integers(start, len(text)))


@given(stretch=stretches(), context=st.sampled_from(["", "Guide > Linux", "naïve [SEP]", "a\x1cb"]))
@settings(deadline=None, max_examples=200)
def test_a_count_is_that_of_the_tokenizer(
    minilm_tokenizer: ChunkTokenizer, raw_tokenizer: Tokenizer, stretch: tuple[str, int, int], context: str
) -> None:
    text, start, end = stretch
    whole = f"{context}\n{text[start:end]}" if context else text[start:end]
    expected = len(raw_tokenizer.encode(whole, add_special_tokens=False))
    assert minilm_tokenizer.sums(text).count(context, start, end) == expected


@given(stretch=stretches())
@settings(deadline=None, max_examples=200)
def test_an_estimate_is_the_sum_over_the_words(
    minilm_tokenizer: ChunkTokenizer, raw_tokenizer: Tokenizer, stretch: tuple[str, int, int]
) -> None:
    text, start, end = stretch
    assume(minilm_tokenizer.is_additive(text))
    expected = reference.count_words(raw_tokenizer, text[start:end])
    assert minilm_tokenizer.sums(text).estimate(start, end) == expected
    assert TokenSums(text, minilm_tokenizer).estimate(start, end) == expected


@given(stretch=stretches())
@settings(deadline=None, max_examples=200)
def test_units_are_those_of_the_tokenizer(
    minilm_tokenizer: ChunkTokenizer, raw_tokenizer: Tokenizer, stretch: tuple[str, int, int]
) -> None:
    text, start, end = stretch
    assume(minilm_tokenizer.is_additive(text))
    found = minilm_tokenizer.sums(text).units(start, end)
    units = [unit for some in found for unit in zip(*some, strict=True)]
    assert units == reference.units(raw_tokenizer, text, start, end)


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_sums, "LONGEST_WINDOW", 100)
    monkeypatch.setattr(window_sums, "STRETCH", 30)
    monkeypatch.setattr(window_sums, "_MARGIN", 20)


@pytest.mark.usefixtures("small_windows")
def test_windows_move_with_what_is_asked_for(
    minilm_tokenizer: ChunkTokenizer, raw_tokenizer: Tokenizer
) -> None:
    text = "Some words, naïve ones; [SEP] and_a_long_one_that_is_not_short_at_all. 漢字 too…\n" * 12
    sums = minilm_tokenizer.sums(text)
    blanks = [place for place, character in enumerate(text) if character.isspace()]
    for start, end in chain(
        zip(blanks, blanks[3:], strict=False), zip(blanks[::-1], blanks[:2:-1], strict=False)
    ):
        first, last = min(start, end), max(start, end)
        assert sums.estimate(first, last) == reference.count_words(raw_tokenizer, text[first:last])
    found = [unit for some in sums.units(0, len(text)) for unit in zip(*some, strict=True)]
    assert found == reference.units(raw_tokenizer, text, 0, len(text))


@pytest.mark.parametrize("unit", ["Zm9v/+", "a", "漢", "a\u0301", "=", "👩‍👩‍👧"])
def test_a_word_without_end_is_tokenised_in_slices(
    minilm_tokenizer: ChunkTokenizer, raw_tokenizer: Tokenizer, unit: str
) -> None:
    text = "so " + unit * (2 * reference.LONGEST_WORD // len(unit) + 7) + " it is"
    sums = minilm_tokenizer.sums(text)
    assert sums.estimate(0, len(text)) == reference.count_words(raw_tokenizer, text)
    assert sums.estimate(len(text) - 6, len(text)) == 2
    found = [unit for some in sums.units(0, len(text)) for unit in zip(*some, strict=True)]
    assert found == reference.units(raw_tokenizer, text, 0, len(text))


def test_a_long_text_is_read_once_and_a_window_at_a_time(
    minilm_tokenizer: ChunkTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    read = WindowReader.read

    def recording(self: WindowReader, text: str, start: int, end: int) -> object:
        lengths.append(end - start)
        return read(self, text, start, end)

    monkeypatch.setattr(WindowReader, "read", recording)
    text = "one two three, four. " * 60_000
    sums = minilm_tokenizer.sums(text)
    for start in range(0, len(text), 2_100):
        assert sums.estimate(start, start + 2_100) == 600
    assert max(lengths) <= window_sums.LONGEST_WINDOW
    assert sum(lengths) <= 1.2 * len(text)


def test_the_memory_of_parts_is_bounded(
    minilm_tokenizer: ChunkTokenizer, raw_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.tokenization._REMEMBERED_BYTES", 10_000)
    tokenizer = ChunkTokenizer(minilm_tokenizer.path)
    text = " ".join(f"w{number}" for number in range(500))
    expected = len(raw_tokenizer.encode(text, add_special_tokens=False))
    assert tokenizer.sums(text).estimate(0, len(text)) == expected
    pieces = word_pieces(json.loads(minilm_tokenizer.path.read_text(encoding="utf-8")))
    assert pieces is not None
    parts = PartCounts(pieces, lambda part: len(pieces.lengths(part)), max_bytes=10_000)
    assert [parts[f"w{number}"] for number in range(500)] == [
        len(raw_tokenizer.encode(f"w{number}", add_special_tokens=False)) for number in range(500)
    ]
    assert len(parts) <= len(pieces.vocabulary) + 10_000 // 100


def test_little_text_is_chunked_without_loading_numpy_and_much_with_it(
    minilm_tokenizer: ChunkTokenizer,
) -> None:
    program = (
        "import sys; from indexer.tokenization import ChunkTokenizer\n"
        "from indexer.chunking import chunk_document; from indexer.types import ParsedDocument\n"
        "t = ChunkTokenizer(sys.argv[1]); text = 'It is so. ' * 10_000\n"
        "for number in range(8):\n"
        "    chunks = chunk_document(ParsedDocument(text, ()), t, max_tokens=256)\n"
        "    print(len(chunks), hash(tuple(chunks)), 'numpy' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(minilm_tokenizer.path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    counts, hashes, loaded = zip(*(line.split() for line in run.stdout.splitlines()), strict=True)
    assert loaded[0] == "False"
    assert loaded[-1] == "True"
    assert len(set(counts)) == len(set(hashes)) == 1
