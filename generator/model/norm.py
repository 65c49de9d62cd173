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
        self._eps = torch.tensor(eps, dtype=torch.float32, device="cpu")  # no buffer, so no cast reaches it

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Normalise (..., size)."""
        if hidden.device.type == "cpu" and not torch.is_grad_enabled():
            return self._infer_on_cpu(hidden)
        return F.rms_norm(hidden, self.weight.shape, self.weight, self.eps)

    def _infer_on_cpu(self, hidden: torch.Tensor) -> torch.Tensor:
        """`F.rms_norm` in a third of its operators, of which PyTorch has a kernel on GPUs only."""
        length = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True, dtype=torch.float32)
        scale = torch.addcmul(self._eps, length, length, value=1 / hidden.shape[-1]).rsqrt_()
        return torch.mul(hidden * scale, self.weight, out=torch.empty_like(hidden))


def build_norm(config: ModelConfig) -> nn.Module:
    """The configured norm over the hidden size."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.hidden_size, config.norm_eps)
    return nn.LayerNorm(config.hidden_size, config.norm_eps)
