from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.reader.tokens import Tokens
from generator.reader.windows import cut_windows, most_promising, pack_by_length


def numbered(ids: list[int]) -> Tokens:
    return Tokens("x" * len(ids), ids, [(i, i + 1) for i in range(len(ids))], [False] * len(ids))


@given(
    lengths=st.lists(st.integers(0, 60), max_size=5),
    size=st.integers(2, 20),
    overlap=st.integers(0, 10),
)
def test_windows_cover_every_passage_and_any_stretch_as_long_as_the_overlap(
    lengths: list[int], size: int, overlap: int
) -> None:
    overlap = min(overlap, size - 1)
    windows = cut_windows([numbered(list(range(n))) for n in lengths], size=size, overlap=overlap)
    for index, length in enumerate(lengths):
        mine = [w for w in windows if w.passage == index]
        assert {i for w in mine for i in range(w.begin, w.end)} == set(range(length))
        assert all(0 < len(w) <= size for w in mine)
        for begin in range(length - overlap):
            assert any(w.begin <= begin and begin + overlap <= w.end for w in mine)


def test_an_overlap_as_long_as_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        cut_windows([numbered([1, 2])], size=4, overlap=4)


def test_the_windows_with_the_rarest_shared_pieces_are_kept_in_order() -> None:
    passage = numbered([7, 7, 1, 7, 7, 7, 2, 7, 7, 1])
    windows = cut_windows([passage], size=2, overlap=0)
    chosen = most_promising(windows, [passage], [1, 2], limit=2)
    assert [(w.begin, w.end) for w in chosen] == [(2, 4), (6, 8)]  # the rarer piece 2, then the first with 1


def test_a_long_passage_cannot_crowd_out_the_others() -> None:
    passages = [numbered([1, 2] * 20), numbered([9, 9])]
    windows = cut_windows(passages, size=2, overlap=0)
    assert {w.passage for w in most_promising(windows, passages, [1, 2], limit=3)} == {0, 1}


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(40, 120))
def test_packing_keeps_every_window_once_and_the_budget(lengths: list[int], budget: int) -> None:
    passages = [numbered([0] * n) for n in lengths]
    windows = cut_windows(passages, size=30, overlap=0)
    batches = pack_by_length(windows, extra=5, budget=budget)
    assert sorted(w.passage for batch in batches for w in batch) == sorted(w.passage for w in windows)
    assert all((max(map(len, batch)) + 5) * len(batch) <= budget for batch in batches)
