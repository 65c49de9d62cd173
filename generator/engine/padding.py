"""How many rows a step's tokens are computed in: a few sizes instead of every number."""

from __future__ import annotations

import torch

from generator.model.fixed_rows import ROW_TILE

_TILE = 16  # rows of a matrix tile (AMX): to the processor, fewer are as many


def padded_rows(num_tokens: int, *, device: torch.device, dtype: torch.dtype, deterministic: bool) -> int:
    """The number of rows for `num_tokens`, at least as many.

    oneDNN, which multiplies half precision on the CPU, builds a kernel for each new shape, and that takes
    longer than a small product itself. A single row needs none, and float32 goes another way.
    """
    if deterministic:
        return -(-num_tokens // ROW_TILE) * ROW_TILE
    if device.type != "cpu" or dtype == torch.float32:
        return num_tokens
    if num_tokens <= _TILE:
        return 1 << (num_tokens - 1).bit_length()
    return -(-num_tokens // _TILE) * _TILE
