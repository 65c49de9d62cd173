"""Linear layers that know what a single row is: a matrix-vector product, which decoding consists of."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """`nn.Linear`, faster for one row of bfloat16 on a CPU."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        return linear(hidden, self.weight, self.bias)


def linear(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`F.linear`, by PyTorch's own matrix-vector kernel where that is faster.

    `F.linear` sends one bfloat16 row on a CPU through a matrix product, which reads the weights at half of
    memory bandwidth or less. Both sum in float32 and round once. In float32 the two are equally fast, and
    one row keeps the sums it has among others.
    """
    is_row = hidden.numel() == hidden.shape[-1]
    if is_row and hidden.dtype == weight.dtype == torch.bfloat16 and hidden.device.type == "cpu":
        row = hidden.reshape(-1)
        product = torch.mv(weight, row) if bias is None else torch.addmv(bias, weight, row)
        return product.view(*hidden.shape[:-1], -1)
    return F.linear(hidden, weight, bias)
