"""Normalisation layers."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from generator.model.config import ModelConfig


class RMSNorm(nn.Module):
    """Divide by the root mean square over the last dimension, then scale; the mean is taken in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Normalise (..., size)."""
        return F.rms_norm(hidden, self.weight.shape, self.weight, self.eps)


def build_norm(config: ModelConfig) -> nn.Module:
    """The configured norm over the hidden size."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.hidden_size, config.norm_eps)
    return nn.LayerNorm(config.hidden_size, config.norm_eps)
