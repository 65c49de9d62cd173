"""Attention: projections, and the seam through which every way of attending plugs in.

Three parts, each replaceable without the others:

- `Attention` projects hidden states to query, key and value heads and back. It knows nothing of caches.
- `AttentionContext` says what the tokens of one forward pass attend to and where their keys and values are
  kept. One object a pass, asked once a layer. `DenseContext` serves plain batches, with or without `KVCache`.
- `AttentionKernel` does the sums. `sdpa` is the reference; a trainer or a device may bring its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F

from generator.cache.kv_cache import KVCache
from generator.model.config import ModelConfig
from generator.model.linear import Linear
from generator.model.masks import visibility
from generator.model.norm import RMSNorm
from generator.model.rope import Rotation, rotate


class AttentionKernel(Protocol):
    """softmax(query @ key.T / sqrt(D)) @ value over grouped heads."""

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        mask: torch.Tensor | None,
        causal: bool,
    ) -> torch.Tensor:
        """Attend with (B, Hq, T, D) queries over (B, Hkv, S, D) keys and values; returns (B, Hq, T, D).

        `mask` is boolean, broadcastable to (B, 1, T, S), True where a query may look. `causal` is only ever
        set without a mask and with T == S.
        """


def sdpa(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, mask: torch.Tensor | None, causal: bool
) -> torch.Tensor:
    """PyTorch's scaled dot product attention, never copying key/value heads."""
    batch, num_heads, num_tokens, head_dim = query.shape
    num_kv_heads = key.shape[1]
    if num_tokens == 1 and num_heads != num_kv_heads:
        # Decode: the query heads of a group share their keys, so they become the rows of one small query.
        grouped = query.reshape(batch, num_kv_heads, num_heads // num_kv_heads, head_dim)
        attended = F.scaled_dot_product_attention(grouped, key, value, attn_mask=mask)
        return attended.reshape(batch, num_heads, 1, head_dim)
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=causal, enable_gqa=num_heads != num_kv_heads
    )


class AttentionContext(ABC):
    """What the tokens of one forward pass attend to."""

    @abstractmethod
    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Keep new keys and values (B, Hkv, T, D) where needed and attend with the queries (B, Hq, T, D)."""


class DenseContext(AttentionContext):
    """A rectangular batch: causal by default, any boolean mask when given, over a `KVCache` when given."""

    def __init__(
        self,
        config: ModelConfig,
        kernel: AttentionKernel,
        *,
        mask: torch.Tensor | None = None,
        cache: KVCache | None = None,
    ) -> None:
        self.config = config
        self.kernel = kernel
        self.mask = mask
        self.cache = cache
        self._masks: dict[int | None, torch.Tensor | None] = {}  # by window: layers of one kind share it

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See `AttentionContext.attend`."""
        num_new = query.shape[2]
        if self.cache is not None:
            key, value = self.cache.append(layer, key, value)
        if self.mask is not None:
            return self.kernel(query, key, value, mask=self.mask, causal=False)
        num_keys = key.shape[2]
        window = self.config.window(layer)
        if window is not None and window >= num_keys:
            window = None
        if num_new == 1 and (self.cache is None or self.cache.uniform):
            # The one new token sees everything in its window: cut the keys instead of masking them.
            if window is not None:
                key, value = key[:, :, -window:], value[:, :, -window:]
            return self.kernel(query, key, value, mask=None, causal=False)
        if window is None and num_new == num_keys:
            return self.kernel(query, key, value, mask=None, causal=True)
        if window not in self._masks:
            starts = self.cache.lengths if self.cache is not None else (0,)
            self._masks[window] = visibility(
                starts, num_new=num_new, num_keys=num_keys, window=window, device=query.device
            )
        return self.kernel(query, key, value, mask=self._masks[window], causal=False)


class Attention(nn.Module):
    """Grouped-query self-attention of one layer.

    Query, key and value are one matrix with rows in that order: one product reads the input once.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        self.num_heads = (config.num_heads, config.num_kv_heads)
        self.num_turning = (
            sum(self.num_heads),
            config.num_kv_heads,
        )  # by rotary positions, and not
        self.uses_rope = config.uses_rope(layer)
        self.qkv = Linear(config.hidden_size, config.query_size + 2 * config.kv_size, bias=config.qkv_bias)
        self.output = Linear(config.query_size, config.hidden_size, bias=config.output_bias)
        self.query_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else None
        self.key_norm = RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else None

    def forward(
        self, hidden: torch.Tensor, rotation: Rotation | None, context: AttentionContext
    ) -> torch.Tensor:
        """(B, T, hidden) to (B, T, hidden)."""
        attended = context.attend(self.layer, *self.heads(hidden, rotation))
        return self.join(attended)

    def heads(
        self, hidden: torch.Tensor, rotation: Rotation | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query (B, Hq, T, D), key and value (B, Hkv, T, D) of (B, T, hidden), turned by their positions."""
        heads = self.qkv(hidden).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        # (B, H, T, D) views, query and key still side by side: they are turned together.
        turning, value = heads.split(self.num_turning, dim=1)
        if self.query_norm is not None and self.key_norm is not None:
            query, key = turning.split(self.num_heads, dim=1)
            turning = torch.cat((self.query_norm(query), self.key_norm(key)), dim=1)
        if rotation is not None and self.uses_rope:
            turning = rotate(turning, rotation)
        query, key = turning.split(self.num_heads, dim=1)
        return query, key, value

    def join(self, attended: torch.Tensor) -> torch.Tensor:
        """(B, Hq, T, D) to (B, T, hidden)."""
        return self.output(attended.transpose(1, 2).flatten(2))
