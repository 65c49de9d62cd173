"""Attention for training on CPU: PyTorch's fused backward pass is several times slower there than this."""

from __future__ import annotations

from typing import Any

import torch

from generator.model.attention import sdpa


class _Attention(torch.autograd.Function):
    """softmax(query key^T / sqrt(D)) value, keeping the probabilities for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        # Under mixed precision the inputs are half precision already; the softmax rounds only its result, and
        # the probabilities that the backward pass reads are those that the forward pass used.
        with torch.autocast(query.device.type, enabled=False):
            scale = query.shape[-1] ** -0.5
            scores = torch.matmul(query * scale, key.transpose(-1, -2))
            if mask is not None:
                scores.masked_fill_(~mask, torch.finfo(scores.dtype).min)
            weights = torch.softmax(scores, dim=-1)
            ctx.save_for_backward(query, key, value, weights)
            return torch.matmul(weights, value)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        query, key, value, weights = ctx.saved_tensors
        scale = query.shape[-1] ** -0.5
        grad_value = torch.matmul(weights.transpose(-1, -2), gradient)
        grad_weights = torch.matmul(gradient, value.transpose(-1, -2))
        # Masked scores have weight 0, so they get no gradient from the softmax either.
        grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
        grad_query = torch.matmul(grad_scores, key) * scale
        grad_key = torch.matmul(grad_scores.transpose(-1, -2), query) * scale
        return grad_query, grad_key, grad_value, None


def training_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, mask: torch.Tensor | None, causal: bool
) -> torch.Tensor:
    """An `AttentionKernel` with a backward pass made of plain matrix products.

    It holds the (B, H, T, S) probabilities, so it is for short sequences; grouped heads are repeated. On
    other devices than the CPU it is PyTorch's own, which is fast there.
    """
    if query.device.type != "cpu":
        return sdpa(query, key, value, mask=mask, causal=causal)
    # Under mixed precision rotary positions leave queries and keys in float32.
    query, key = query.to(value.dtype), key.to(value.dtype)
    if key.shape[1] != query.shape[1]:
        repeats = query.shape[1] // key.shape[1]
        key, value = (x.repeat_interleave(repeats, dim=1) for x in (key, value))
    if causal:
        num_tokens = query.shape[2]
        mask = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=query.device).tril()
    return _Attention.apply(query, key, value, mask)
