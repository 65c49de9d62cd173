from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from indexer.token_rows import AttentionGroup, TokenRows, lay_out

texts_of_ids = st.lists(st.lists(st.integers(1, 30_000), max_size=70), min_size=1, max_size=40)


def attended_ids(tokens: TokenRows, group: AttentionGroup) -> np.ndarray:
    """(B, T): the token ids as attention sees them, 0 where it sees none."""
    ids = tokens.token_ids[group.rows]
    if group.places is not None:
        ids = torch.zeros(group.num_texts * group.length, dtype=torch.int64).index_copy_(0, group.places, ids)
    grid = ids.view(group.num_texts, group.length)
    return (grid if group.mask is None else grid * group.mask[:, 0, 0]).numpy()


@given(texts=texts_of_ids, length_multiple=st.sampled_from([1, 16]), rows_multiple=st.sampled_from([1, 128]))
def test_every_text_has_its_rows_and_attends_to_itself_alone(
    texts: list[list[int]], length_multiple: int, rows_multiple: int
) -> None:
    tokens = lay_out(texts, length_multiple=length_multiple, rows_multiple=rows_multiple)
    for text, rows in zip(texts, tokens.texts, strict=True):
        assert tokens.token_ids[rows].tolist() == text
        assert tokens.positions[rows].tolist() == list(range(len(text)))
    ends = [group.rows.stop for group in tokens.groups]
    assert [group.rows.start for group in tokens.groups] == [0, *ends[:-1]]
    attended = [row[row > 0].tolist() for group in tokens.groups for row in attended_ids(tokens, group)]
    assert attended == sorted(texts, key=lambda text: -len(text))


@given(texts=texts_of_ids)
def test_padding_has_few_rows(texts: list[list[int]]) -> None:
    tokens = lay_out(texts, length_multiple=16, rows_multiple=1)
    assert sum(map(len, texts)) >= 0.9 * len(tokens.token_ids)
    exact = lay_out(texts, length_multiple=1, rows_multiple=1)
    assert all(len(text) >= 0.8 * group.length for text, group in zip_with_groups(texts, exact))


def zip_with_groups(texts: list[list[int]], tokens: TokenRows) -> list[tuple[list[int], AttentionGroup]]:
    groups = [group for group in tokens.groups for _ in range(group.num_texts)]
    return list(zip(sorted(texts, key=lambda text: -len(text)), groups, strict=True))


@pytest.mark.parametrize(("num_tokens", "num_rows"), [(1, 1), (5, 8), (128, 128), (129, 256), (300, 384)])
def test_rows_are_of_few_numbers_and_never_many_for_nothing(num_tokens: int, num_rows: int) -> None:
    tokens = lay_out([[7] * num_tokens], length_multiple=1, rows_multiple=128)
    assert len(tokens.token_ids) == len(tokens.positions) == num_rows
    assert len(lay_out([[7] * num_tokens], length_multiple=1, rows_multiple=1).token_ids) == num_tokens
