"""Attention on the CPU without copies: keys are read where they lie, once for all heads that share them.

What a query sees is cut into parts (long runs of slots, the rest, its own piece of the prompt), each part is
attended to on its own, and the results are weighted by their log-sum-exp (the split of FlashDecoding).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from generator.cache.memory import Segment
from generator.cache.pool import KVPool
from generator.model.attention import AttentionContext
from generator.model.attention_backend import AttentionBackend, RaggedBatch, RaggedContext, Span

_LONG_RUN = 128  # slots; shorter runs are cheaper to copy together than to attend to one by one


class CpuBackend(AttentionBackend):
    """PyTorch's flash attention for the CPU, over views of the pool."""

    name = "cpu"

    def context(self, batch: RaggedBatch, pool: KVPool) -> AttentionContext:
        """See `AttentionBackend.context`."""
        return _CpuContext(batch, pool)


class _CpuContext(RaggedContext):
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
        segments = span.segments[group]
        if span.num_tokens == 1 and len(segments) == 1:  # by far the most frequent call
            return _attend_one(query, *self.pool.read(layer, segments))
        if span.num_tokens == 1:
            return self._attend_unmasked(layer, segments, query)[0].to(query.dtype)
        num_visible = span.start + span.num_tokens - span.first_visible[group]
        window = self.pool.groups[group].window
        if window is not None and num_visible > window:  # not every token sees the same past
            return super().attend_span(layer, group, span, query, key, value)
        own, own_weight = _attend_causal(query, key, value)
        past = _without_last(segments, span.num_tokens)
        if not past:
            return own.to(query.dtype)
        seen, seen_weight = self._attend_unmasked(layer, past, query)
        return _merge([(seen, seen_weight), (own, own_weight)]).to(query.dtype)

    def _attend_unmasked(
        self, layer: int, segments: Sequence[Segment], query: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Every query (1, Hq, T, D) sees all of the segments; also returns log-sum-exp (1, Hq, T, 1)."""
        parts = [
            _attend_shared(query, *self.pool.read(layer, part)) for part in _parts_worth_a_call(segments)
        ]
        if len(parts) == 1:
            return parts[0]
        return _merge(parts), torch.logsumexp(torch.stack([weight for _, weight in parts]), dim=0)


def _attend_one(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """A single query (1, Hq, 1, D) over all of the keys."""
    rows = query.view(1, key.shape[1], -1, key.shape[3])
    attended, _ = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(rows, key, value)
    return attended.reshape(query.shape)


def _attend_shared(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """No mask: the query heads of a group become rows of one query, so their keys are read once."""
    _, num_heads, num_tokens, head_dim = query.shape
    rows = query.reshape(1, key.shape[1], -1, head_dim)
    attended, weight = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(rows, key, value)
    return (
        attended.reshape(1, num_heads, num_tokens, head_dim),
        weight.reshape(1, num_heads, num_tokens, 1),
    )


def _attend_causal(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A piece looks at itself: the groups become a batch over one copy of the keys (stride 0)."""
    _, num_heads, num_tokens, head_dim = query.shape
    num_kv_heads = key.shape[1]
    per_group = num_heads // num_kv_heads
    grouped = query.view(num_kv_heads, per_group, num_tokens, head_dim).transpose(0, 1)
    attended, weight = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        grouped, key.expand(per_group, -1, -1, -1), value.expand(per_group, -1, -1, -1), is_causal=True
    )
    return (
        attended.transpose(0, 1).reshape(1, num_heads, num_tokens, head_dim),
        weight.transpose(0, 1).reshape(1, num_heads, num_tokens, 1),
    )


def _merge(parts: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """The attention over all parts together, float32, from each part's result and log-sum-exp."""
    shares = torch.softmax(torch.stack([weight.float() for _, weight in parts]), dim=0)
    return sum(share * attended.float() for share, (attended, _) in zip(shares, parts, strict=True))


def _parts_worth_a_call(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Each long run alone, in place; all short ones together."""
    if len(segments) == 1:
        return [list(segments)]
    parts = [[segment] for segment in segments if segment.length >= _LONG_RUN]
    short = [segment for segment in segments if segment.length < _LONG_RUN]
    return [*parts, short] if short else parts


def _without_last(segments: Sequence[Segment], num_slots: int) -> list[Segment]:
    """Segments less the last slots of them."""
    kept = sum(segment.length for segment in segments) - num_slots
    result = []
    for start, length in segments:
        if kept <= 0:
            break
        result.append(Segment(start, min(length, kept)))
        kept -= length
    return result
