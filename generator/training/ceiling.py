"""What the device could do at best: the yardstick beside a run's speed."""

from __future__ import annotations

import time

import torch
from torch import nn

_SIDE = {"cpu": 1024, "cuda": 8192}


def measure_flop_ceiling(device: torch.device, dtype: torch.dtype, *, seconds: float = 0.15) -> float:
    """FLOP/s of square matrix products in `dtype`, the best of some rounds that take `seconds` together."""
    side = _SIDE.get(device.type, 4096)
    left, right = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    _timed_product(left, right)  # loads kernels
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < seconds:
        best = min(best, _timed_product(left, right))
    return 2 * side**3 / best if best < float("inf") else 2 * side**3 / _timed_product(left, right)


def layer_flops_per_token(model: nn.Module) -> float:
    """FLOPs of a training step per token: 6 for each trained weight, 4 for each frozen one.

    Embeddings are looked up, not multiplied, and count for nothing; attention's own products are left out
    (Kaplan et al., arXiv 2001.08361, section 2.1).
    """
    looked_up = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return float(
        sum(
            parameter.numel() * (6 if parameter.requires_grad else 4)
            for parameter in model.parameters()
            if parameter.ndim >= 2 and id(parameter) not in looked_up
        )
    )


def _timed_product(left: torch.Tensor, right: torch.Tensor) -> float:
    began = time.perf_counter()
    torch.matmul(left, right)
    if left.is_cuda:
        torch.cuda.synchronize(left.device)
    return time.perf_counter() - began
