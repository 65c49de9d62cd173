"""Whatever the text is, chunks fit, and making them takes time linear in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from chunked_documents import SENTENCE, texts

from indexer.chunking import chunk_document, embedding_text
from indexer.token_windows import WindowReader
from indexer.tokenization import ChunkTokenizer, TokenUnit
from indexer.types import Block, ParsedDocument
from indexer.window_sums import WindowSums


def test_too_small_a_limit_is_refused(chunk) -> None:
    with pytest.raises(ValueError, match="at least 16"):
        chunk(ParsedDocument("text", ()), max_tokens=8)


@pytest.mark.parametrize(
    "unit",
    [
        "A",
        "Zm9vYmFyCg",
        "漢字仮名",
        "。",
        "👩‍👩‍👧",
        "🇩🇪",
        "a\u0301\u0302",
        "\u0301",
        " \n",
        "x \n\n\n",
        "|a|b|\n",
        "a,",
        "#",
    ],
)
@pytest.mark.parametrize("kind", ["text", "code", "table"])
def test_pathological_text_is_cut_safely(
    chunk, minilm_tokenizer: ChunkTokenizer, unit: str, kind: str
) -> None:
    text = unit * (20_000 // len(unit))
    parsed = ParsedDocument(text, (Block(kind, 0, len(text)),))
    drafts = chunk(parsed)
    assert "".join("".join(texts(parsed, drafts)).split()) == "".join(text.split())
    for draft in drafts:
        tokens = minilm_tokenizer.count(embedding_text(draft.context, text[draft.start : draft.end]))
        assert tokens <= 254
        assert draft.end - draft.start <= 24 * 256


class CountingTokenizer(ChunkTokenizer):
    """Adds up the characters that it is asked about: a measure of work that no busy machine disturbs."""

    work = 0

    def count(self, text: str) -> int:
        self.work += len(text)
        return super().count(text)

    def estimate(self, text: str) -> int:
        self.work += len(text)
        return super().estimate(text)

    def units(self, text: str, start: int, end: int) -> Iterator[TokenUnit]:
        for unit in super().units(text, start, end):
            self.work += unit.end - unit.start
            yield unit


@pytest.mark.parametrize("unit", [SENTENCE, "A", "漢", "x ", "a\n\n", "# \n", "👩‍👩‍👧"])
@pytest.mark.parametrize("kind", ["text", "code", "table", "heading"])
def test_chunking_reads_the_text_a_bounded_number_of_times(
    minilm_tokenizer: ChunkTokenizer, monkeypatch: pytest.MonkeyPatch, unit: str, kind: str
) -> None:
    tokenizer = CountingTokenizer(minilm_tokenizer.path)
    for owner, name in ((WindowReader, "read"), (WindowSums, "_units")):
        monkeypatch.setattr(owner, name, counting(getattr(owner, name), tokenizer))
    text = unit * (60_000 // len(unit))
    blocks = tuple(Block(kind, start, start + 20_000) for start in (0, 20_000, 40_000))
    chunk_document(ParsedDocument(text, blocks), tokenizer, max_tokens=256)
    assert (
        len(text) <= tokenizer.work < 14 * len(text)
    )  # what is counted exactly is also read, and counts twice


def counting(function: Callable[..., object], tokenizer: CountingTokenizer) -> Callable[..., object]:
    """The function, whose last two arguments are where what it is to look at starts and ends."""

    def wrapper(*arguments: object) -> object:
        *_, start, end = arguments
        tokenizer.work += end - start
        return function(*arguments)

    return wrapper
