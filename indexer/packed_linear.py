"""A linear layer whose weights are laid out once for the processor's matrix units."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_USUAL_ROWS = 1024  # what the layout is chosen for; it computes any number


class Linear:
    """x W^T + b: (rows, inputs) to (rows, outputs).

    In bfloat16 on a CPU, oneDNN reorders a plain weight at every call, which takes up to as long as a product
    with few rows, and torch adds bias, activation and residual in passes of their own. Packed, it is all one.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        """(outputs, inputs) and (outputs,)."""
        self._bias = bias
        self._packed = _pack(weight)
        self._weight = weight if self._packed is None else None

    def to(self, dtype: torch.dtype) -> Linear:
        """The same in another dtype."""
        weight = self._weight if self._packed is None else self._packed.to_dense()
        return Linear(weight.to(dtype), self._bias.to(dtype))

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """A new tensor."""
        import torch

        if self._packed is None:
            return torch.nn.functional.linear(rows, self._weight, self._bias)
        return torch.ops.mkldnn._linear_pointwise(rows, self._packed, self._bias, "none", [], "")

    def gelu(self, rows: torch.Tensor) -> torch.Tensor:
        """GELU(x W^T + b), by the error function."""
        import torch

        if self._packed is None:
            return torch.ops.aten.gelu_(self(rows))
        return torch.ops.mkldnn._linear_pointwise(rows, self._packed, self._bias, "gelu", [], "none")

    def plus(self, rows: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """x W^T + b + r, with r (rows, outputs)."""
        import torch

        if self._packed is None:
            return self(rows).add_(residual)
        return torch.ops.mkldnn._linear_pointwise.binary(rows, residual, self._packed, self._bias, "add")


def _pack(weight: torch.Tensor) -> torch.Tensor | None:
    """The weight as oneDNN wants it; None where that is no gain, or where torch or the processor cannot."""
    import torch

    if (
        weight.dtype != torch.bfloat16
        or weight.device.type != "cpu"
        or not torch.backends.mkldnn.is_available()
    ):
        return None
    mkldnn = torch.ops.mkldnn
    if not hasattr(mkldnn, "_linear_pointwise") or not mkldnn._is_mkldnn_bf16_supported():
        return None
    return mkldnn._reorder_linear_weight(weight, _USUAL_ROWS)
