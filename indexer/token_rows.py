"""Where the tokens of several texts are among the rows that a transformer's layers compute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_LEAST_RATIO = 0.8  # of the shortest to the longest text that attend together
_LEAST_DENSITY = 0.9  # of tokens to places, above which moving padding out costs more than computing it


@dataclass(frozen=True, slots=True)
class AttentionGroup:
    """Texts of about one length, which attend as one batch, padded to one length."""

    rows: slice  # theirs among all rows
    num_texts: int  # B
    length: int  # T, padding included
    mask: torch.Tensor | None  # (B, 1, 1, T) bool: what is attended to; None: there is no padding
    places: torch.Tensor | None  # (N,): of each row among the B T; None: padding has rows too


@dataclass(frozen=True, slots=True)
class TokenRows:
    """A batch of texts as rows, one a token, the longest text first. The last rows may belong to none."""

    token_ids: torch.Tensor  # (R,) int64
    positions: torch.Tensor  # (R,) int64: each token's in its text
    texts: tuple[slice, ...]  # the rows of each text, in the order in which the texts were given
    groups: tuple[AttentionGroup, ...]


def lay_out(texts: Sequence[Sequence[int]], *, length_multiple: int, rows_multiple: int) -> TokenRows:
    """Rows for texts of token ids. Multiples above 1 are for processors that are slow at odd sizes: of the
    length of what attends together, and of the number of rows."""
    import torch

    lengths = np.array([len(text) for text in texts])
    starts = np.zeros(len(texts), np.int64)
    token_ids, positions, groups = [], [], []
    num_rows = 0
    for numbers in _alike(lengths):
        length = _rounded_up(int(lengths[numbers[0]]), length_multiple)
        is_token = np.arange(length) < lengths[numbers, None]  # (B, T)
        is_dense = lengths[numbers].sum() >= _LEAST_DENSITY * is_token.size
        is_row = np.ones_like(is_token) if is_dense else is_token
        ids = np.zeros(is_token.shape, np.int64)
        ids[is_token] = np.concatenate([texts[number] for number in numbers])
        token_ids.append(ids[is_row])
        positions.append(np.nonzero(is_row)[1])
        ends = num_rows + np.cumsum(is_row.sum(axis=1))
        starts[numbers] = ends - is_row.sum(axis=1)
        groups.append(
            AttentionGroup(
                rows=slice(num_rows, int(ends[-1])),
                num_texts=len(numbers),
                length=length,
                mask=None if is_token.all() else torch.from_numpy(is_token)[:, None, None, :],
                places=None if is_dense else torch.from_numpy(np.flatnonzero(is_token)),
            )
        )
        num_rows = int(ends[-1])
    nothing = np.zeros(_rounded_up(num_rows, rows_multiple) - num_rows, np.int64)
    return TokenRows(
        token_ids=torch.from_numpy(np.concatenate([*token_ids, nothing])),
        positions=torch.from_numpy(np.concatenate([*positions, nothing])),
        texts=tuple(slice(start, start + length) for start, length in zip(starts, lengths, strict=True)),
        groups=tuple(groups),
    )


def _alike(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """The numbers of texts of about one length, the longest texts first."""
    order = np.argsort(-lengths, kind="stable")
    first = 0
    while first < len(order):
        same = lengths[order[first:]] >= _LEAST_RATIO * lengths[order[first]]  # all True, then all False
        yield order[first : first + int(same.sum())]
        first += int(same.sum())


def _rounded_up(number: int, multiple: int) -> int:
    """To a multiple; a number below it only to a power of two."""
    multiple = min(multiple, 1 << (number - 1).bit_length())
    return -(-number // multiple) * multiple
