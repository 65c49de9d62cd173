"""The feed-forward half of a transformer layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from generator.model.config import ModelConfig
from generator.model.linear import Linear


class MLP(nn.Module):
    """Gated (SwiGLU: down(act(gate x) * up x)) or plain (down(act(up x))).

    Gate and up are one matrix, gate's rows first, because one large product is faster than two small ones.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        inner, bias = config.intermediate_size, config.mlp_bias
        self.gated = config.mlp_gated
        self.activation = _activation(config.activation)
        self.up = Linear(config.hidden_size, 2 * inner if self.gated else inner, bias=bias)
        self.down = Linear(inner, config.hidden_size, bias=bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, T, hidden) to (B, T, hidden)."""
        inner = self.up(hidden)
        if self.gated:
            gate, up = inner.chunk(2, dim=-1)
            return self.down(self.activation(gate) * up)
        return self.down(self.activation(inner))


def _activation(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    if name == "silu":
        return F.silu
    if name == "gelu":
        return F.gelu
    return _gelu_tanh


def _gelu_tanh(inner: torch.Tensor) -> torch.Tensor:
    return F.gelu(inner, approximate="tanh")
