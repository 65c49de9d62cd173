"""Splitting goes over whole texts at once; what it finds is what a walk from unit to unit finds."""

from __future__ import annotations

import pytest
import reference_splitting as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from indexer import token_sums, window_sums
from indexer.chunking.splitting import Span, split
from indexer.chunking.values import Budget
from indexer.token_sums import TokenSums
from indexer.tokenization import ChunkTokenizer
from indexer.types import BlockKind

WORDS = st.one_of(
    st.sampled_from(
        ["word", "Dr.", "e.g.", "end.", "end.)", "why?", "he,", "(so)", "“quoted.”", "a|b", "x;", "12.", "-"]
    ),
    st.sampled_from(
        [
            "naïve",
            "漢字かな。",
            "終わり。次",
            "👩‍👩‍👧",
            "🇩🇪🇫🇷",
            "e\u0301",
            "Быстро",
            "[SEP]",
            "x[MASK]y",
            "ﬁn",
            "\u200b",
            "٣",
        ]
    ),
    st.sampled_from(
        ["https://example.org/path/to/a_page.html?q=1", "-" * 50, "漢" * 40, "A1" * 60, "x" * 130, "é" * 30]
    ),
    st.sampled_from(["def", "return", "else:", "}", "fi", "end", "a.b(c)"]),
    st.text(min_size=1, max_size=8),
)
GAPS = st.sampled_from(
    [" ", " ", " ", " ", "\n", "\n    ", "\n\t", "\n\n", "  ", "\n- ", "\n1. ", "\u00a0", " \n", "", "\t"]
)
TEXTS = st.lists(st.tuples(WORDS, GAPS, st.integers(1, 6)), min_size=1, max_size=25).map(
    lambda parts: "".join((word + gap) * times for word, gap, times in parts)
)
KINDS = st.sampled_from(["text", "code", "table", "list"])


@given(
    text=TEXTS,
    kind=KINDS,
    target=st.integers(1, 60),
    characters_per_token=st.sampled_from([2, 6, 24]),
    first_tokens=st.one_of(st.none(), st.integers(1, 60)),
    stretch=st.sampled_from([50, 1 << 16]),
)
@settings(deadline=None, max_examples=150)
def test_the_cuts_are_those_of_a_walk_from_unit_to_unit(
    minilm_tokenizer: ChunkTokenizer,
    raw_tokenizer: Tokenizer,
    text: str,
    kind: BlockKind,
    target: int,
    characters_per_token: int,
    first_tokens: int | None,
    stretch: int,
) -> None:
    budget = Budget(tokens=2 * target, target=target, characters=characters_per_token * target)
    units = reference.units(raw_tokenizer, text, 0, len(text))
    expected = list(reference.split(text, units, kind=kind, budget=budget, first_tokens=first_tokens))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_sums, "STRETCH", stretch)
        patch.setattr(token_sums, "STRETCH", stretch)
        for sums in (minilm_tokenizer.sums(text), TokenSums(text, minilm_tokenizer)):
            found = split(text, 0, len(text), kind=kind, sums=sums, budget=budget, first_tokens=first_tokens)
            assert list(found) == expected


@pytest.mark.parametrize("kind", ["text", "code", "table"])
def test_a_long_text_is_cut_like_a_short_one(
    minilm_tokenizer: ChunkTokenizer, raw_tokenizer: Tokenizer, kind: BlockKind
) -> None:
    lines = [
        f"Line {n} is about a fox, number {n * n}; it has {n % 7} dogs.\n    So it is" for n in range(2_500)
    ]
    text = "\n".join(lines)
    assert len(text) > 2 * window_sums.STRETCH
    budget = Budget(tokens=254, target=192, characters=6096)
    found = list(split(text, 0, len(text), kind=kind, sums=minilm_tokenizer.sums(text), budget=budget))
    units = [
        Span(first + start, first + end, tokens)
        for first, line in _places(lines)
        for start, end, tokens in reference.units(raw_tokenizer, line, 0, len(line))
    ]
    expected: list[Span] = []
    while units:  # the reference adds all of them up at every step
        some = list(reference.split(text, units[:600], kind=kind, budget=budget, first_tokens=None))
        some = some if len(units) <= 600 else some[:-3]
        expected += some
        units = [unit for unit in units if unit.start >= some[-1].end]
    assert found == expected


def _places(lines: list[str]) -> list[tuple[int, str]]:
    places, place = [], 0
    for line in lines:
        places.append((place, line))
        place += len(line) + 1
    return places


def test_nothing_is_no_span(minilm_tokenizer: ChunkTokenizer) -> None:
    budget = Budget(tokens=9, target=9, characters=99)
    assert list(split(" \n", 0, 2, kind="text", sums=minilm_tokenizer.sums(" \n"), budget=budget)) == []
