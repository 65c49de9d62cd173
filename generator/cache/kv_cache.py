"""The contiguous key/value cache: one pre-allocated block, a row a sequence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from generator.errors import CacheFull, OutOfMemory
from generator.model.config import ModelConfig


class KVCache:
    """Keys and values of a batch, (layers, batch, kv heads, max length, head dim) each, allocated once.

    Rows fill from the left and have their own lengths, which live on the host: no step waits for the device
    to learn them. A forward pass appends layer by layer and advances once; `truncate` takes tokens back (the
    padding of a ragged batch, a rejected draft), and what lies beyond a row's length is overwritten later.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.keys = keys
        self.values = values
        self.lengths: tuple[int, ...] = (0,) * keys.shape[1]

    @classmethod
    def from_model_config(
        cls,
        config: ModelConfig,
        batch_size: int,
        max_length: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> KVCache:
        """An empty cache for `batch_size` rows of up to `max_length` tokens."""
        shape = (config.num_layers, batch_size, config.num_kv_heads, max_length, config.head_dim)
        try:
            # Zeros, because a masked weight of 0 times uninitialised NaN would still be NaN.
            keys, values = (torch.zeros(shape, device=device, dtype=dtype) for _ in range(2))
        except RuntimeError as error:  # torch.OutOfMemoryError is one, and the CPU allocator raises it plain
            num_bytes = 2 * math.prod(shape) * dtype.itemsize
            raise OutOfMemory(
                f"A key/value cache of {batch_size} x {max_length} tokens needs {num_bytes / 1e9:.1f} GB.",
                hint="Use fewer prompts at once, shorter ones, or fewer new tokens.",
            ) from error
        return cls(keys, values)

    @property
    def batch_size(self) -> int:
        """Number of rows."""
        return self.keys.shape[1]

    @property
    def max_length(self) -> int:
        """Tokens that fit into a row."""
        return self.keys.shape[3]

    @property
    def uniform(self) -> bool:
        """Whether all rows are equally long, which spares masks and scattered writes."""
        return min(self.lengths) == max(self.lengths)

    @property
    def num_bytes(self) -> int:
        """Memory held, in bytes."""
        return 2 * self.keys.numel() * self.keys.element_size()

    def append(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Store (B, Hkv, T, D) behind each row; returns views (B, Hkv, S, D) up to the longest row."""
        num_new = key.shape[2]
        end = max(self.lengths) + num_new
        if end > self.max_length:
            raise CacheFull(
                f"{end} tokens do not fit into a key/value cache of {self.max_length}.",
                hint="Shorten the prompt, ask for fewer new tokens, or allocate a longer cache.",
            )
        keys, values = self.keys[layer], self.values[layer]
        if self.uniform:
            keys[:, :, end - num_new : end] = key
            values[:, :, end - num_new : end] = value
        else:
            row = torch.arange(self.batch_size, device=keys.device)[:, None]
            column = torch.tensor(self.lengths, device=keys.device)[:, None]
            column = column + torch.arange(num_new, device=keys.device)
            # Advanced indices around a slice put the slice last: (B, T, Hkv, D).
            keys[row, :, column] = key.transpose(1, 2)
            values[row, :, column] = value.transpose(1, 2)
        return keys[:, :, :end], values[:, :, :end]

    def advance(self, num_tokens: int) -> None:
        """Make the tokens that all layers appended part of every row."""
        self.lengths = tuple(length + num_tokens for length in self.lengths)

    def truncate(self, lengths: Sequence[int]) -> None:
        """Forget each row's tokens at and past `lengths`; a row cannot grow this way."""
        if len(lengths) != self.batch_size:
            raise ValueError(f"{len(lengths)} lengths for {self.batch_size} rows")
        for current, wanted in zip(self.lengths, lengths, strict=True):
            if not 0 <= wanted <= current:
                raise ValueError(f"cannot truncate a row of {current} tokens to {wanted}")
        self.lengths = tuple(lengths)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these, in place: row `rows[i]` becomes row `i`, never further back."""
        if any(source < target for target, source in enumerate(rows)):
            raise ValueError(f"rows may only move towards the front, not as in {list(rows)}")
        for target, source in enumerate(rows):
            if source != target:
                self.keys[:, target] = self.keys[:, source]
                self.values[:, target] = self.values[:, source]
        self.keys, self.values = self.keys[:, : len(rows)], self.values[:, : len(rows)]
        self.lengths = tuple(self.lengths[row] for row in rows)

    def reset(self) -> None:
        """Forget everything; the memory stays allocated."""
        self.lengths = (0,) * self.batch_size
