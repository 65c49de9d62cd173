"""Boolean attention masks, (B or 1, 1, T, S), True where a query may look at a key."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def visibility(
    starts: Sequence[int], *, num_new: int, num_keys: int, window: int | None, device: torch.device
) -> torch.Tensor:
    """Causal mask for rows whose `num_new` tokens begin at `starts` among `num_keys` stored keys.

    Keys past a row's own tokens (left over by padding or by a longer row) are invisible by causality alone.
    """
    start = torch.tensor(starts, device=device)[:, None, None, None]
    query = start + torch.arange(num_new, device=device)[:, None]
    key = torch.arange(num_keys, device=device)
    visible = key <= query
    if window is not None:
        visible &= key > query - window
    return visible


def prefix_visibility(prefix_lengths: torch.Tensor, lengths: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """Prefix-LM mask: the first `prefix_lengths` (B,) tokens see each other, later ones all that is before.

    Right-padded rows: keys at or past `lengths` (B,) are hidden from everybody, so padding queries still see
    the prefix and never produce NaN.
    """
    index = torch.arange(num_tokens, device=lengths.device)
    causal = index[None, :, None] >= index[None, None, :]
    in_prefix = index[None, None, :] < prefix_lengths[:, None, None]
    real = index[None, None, :] < lengths[:, None, None]
    return ((causal | in_prefix) & real)[:, None]
