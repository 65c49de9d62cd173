"""Attention whose result for a token depends on its sequence and its position, and on nothing else.

Queries attend in tiles at fixed positions: [0, 16), [16, 32) and so on. A tile always has all its rows and
all the keys up to its end; what a step does not compute, or nobody has computed yet, is zero and masked. So
every call for a tile has the same shape and mask, and a token the same place in it, whether it comes as part
of a prompt, of a piece of one, or as the newest token of an answer.
"""

from __future__ import annotations

import torch

from generator.cache.pool import KVPool
from generator.model.attention import AttentionContext, sdpa
from generator.model.attention_backend import AttentionBackend, RaggedBatch, RaggedContext, Span
from generator.model.masks import visibility

QUERY_TILE = 16  # positions


class FixedBackend(AttentionBackend):
    """For deterministic engines, on every device. Slower than others: each call computes a whole tile."""

    name = "fixed"

    def context(self, batch: RaggedBatch, pool: KVPool) -> AttentionContext:
        """See `AttentionBackend.context`."""
        return _FixedContext(batch, pool)


class _FixedContext(RaggedContext):
    def __init__(self, batch: RaggedBatch, pool: KVPool) -> None:
        super().__init__(batch, pool)
        self._masks: dict[tuple[int, int], torch.Tensor] = {}  # by first key and query; for all layers

    def attend_span(
        self,
        layer: int,
        group: int,
        span: Span,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
    ) -> torch.Tensor:
        """See `RaggedContext.attend_span`."""
        kv_group, known = self.pool.groups[group], span.first_visible[group]
        stored_key, stored_value = self.pool.read(layer, span.segments[group])  # positions [known, end)
        end = span.start + span.num_tokens
        attended = []
        for tile in range(span.start - span.start % QUERY_TILE, end, QUERY_TILE):
            tile_end = tile + QUERY_TILE
            first_key = kv_group.first_visible(tile)
            mask = self._mask(first_key, tile, kv_group.window)
            tile_attended = sdpa(
                _cut(query, span.start, tile, tile_end),
                _cut(stored_key, known, first_key, tile_end),
                _cut(stored_value, known, first_key, tile_end),
                mask=mask,
                causal=False,
            )
            attended.append(tile_attended[:, :, max(span.start - tile, 0) : end - tile])
        return attended[0] if len(attended) == 1 else torch.cat(attended, dim=2)

    def _mask(self, first_key: int, tile: int, window: int | None) -> torch.Tensor:
        """(1, 1, QUERY_TILE, keys): queries from position `tile`, keys from `first_key` to the tile's end."""
        if (first_key, tile) not in self._masks:
            self._masks[first_key, tile] = visibility(
                [tile - first_key],
                num_new=QUERY_TILE,
                num_keys=tile + QUERY_TILE - first_key,
                window=window,
                device=self.batch.token_ids.device,
            )
        return self._masks[first_key, tile]


def _cut(heads: torch.Tensor, first: int, start: int, end: int) -> torch.Tensor:
    """Positions [start, end) of (1, H, T, D), whose first position is `first`; zeros where it has none."""
    low, high = max(first, start), min(first + heads.shape[2], end)
    cut = heads.new_zeros(1, heads.shape[1], end - start, heads.shape[3])
    cut[:, :, low - start : high - start] = heads[:, :, low - first : high - first]
    return cut
