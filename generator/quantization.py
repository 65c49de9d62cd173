"""Weight-only int8: half the bytes of bfloat16 to read at every decode step.

Each output channel (row) of a matrix has one scale, symmetric around zero: W = q * scale, q in [-127, 127].
Activations keep their precision. On CPUs with int8 dot products an activation row becomes two int8 rows, a
coarse one and 1/254 of it: 15 bits below the row's maximum, finer than the rounding of bfloat16. Both go
through one integer product, which reads the weights once and whose sums are exact, so a row's result does not
depend on the other rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
from torch import nn
from torch.nn import functional as F

from generator.errors import UnknownQuantization, UnsupportedOperation
from generator.lora import LoraLinear
from generator.model.transformer import Transformer

Quantization = Literal["none", "int8"]
QUANTIZATIONS: tuple[str, ...] = get_args(Quantization)

_LEVELS = 127
_FINE = 254  # fine steps in a coarse one: half of it, to either side, fills int8
_BLOCK_ROWS = 64  # rows a product; their float32 results stay near the core
_FEW_ROWS = 4  # up to here aten's int8 kernel beats converting the weights


def check_quantization(name: str) -> Quantization:
    """The quantisation behind a name."""
    if name not in QUANTIZATIONS:
        raise UnknownQuantization(
            f"Unknown quantization {name!r}.", hint=f"Use one of {', '.join(QUANTIZATIONS)}."
        )
    return name  # type: ignore[return-value]


def quantize_rows(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, K) floats as int8 and float32 scales (N,): `q * scale[:, None]` is within half a scale of them."""
    full = weight.detach().float()
    scale = (full.abs().amax(dim=1) / _LEVELS).clamp(min=torch.finfo(torch.float32).tiny)
    return (full / scale[:, None]).round_().to(torch.int8), scale


class Int8Product(ABC):
    """x @ (q * scale).T on one kind of hardware; holds the weights as that hardware likes them."""

    @abstractmethod
    def __init__(self, quantized: torch.Tensor, scale: torch.Tensor) -> None:
        """Take int8 (N, K) and float32 (N,)."""

    @abstractmethod
    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """(M, K) to (M, N), in the dtype of `hidden`."""

    @property
    @abstractmethod
    def num_bytes(self) -> int:
        """Memory that the weights and scales take."""


class ConvertingProduct(Int8Product):
    """The reference, on any device: convert, multiply, scale. A compiler makes one pass of it."""

    def __init__(self, quantized: torch.Tensor, scale: torch.Tensor) -> None:
        self.quantized, self.scale = quantized, scale

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """See `Int8Product`."""
        return F.linear(hidden, self.quantized.to(hidden.dtype)) * self.scale.to(hidden.dtype)

    @property
    def num_bytes(self) -> int:
        """See `Int8Product`."""
        return self.quantized.nbytes + self.scale.nbytes


class AtenProduct(ConvertingProduct):
    """aten's kernel for few bfloat16 rows, on CPUs without int8 dot products; otherwise the reference."""

    def __init__(self, quantized: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__(quantized, scale)
        # The kernel reads whole vector registers, beyond the end of a matrix that is not made of them.
        self._fits = all(size % 32 == 0 for size in quantized.shape)
        self._rounded_scale = scale.to(torch.bfloat16)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """See `Int8Product`."""
        if self._fits and hidden.dtype == torch.bfloat16 and len(hidden) <= _FEW_ROWS:
            return torch._weight_int8pack_mm(hidden, self.quantized, self._rounded_scale)
        return super().__call__(hidden)


class IntegerProduct(Int8Product):
    """oneDNN's int8 product, for CPUs with VNNI or AMX, over the two int8 rows of each activation row."""

    def __init__(self, quantized: torch.Tensor, scale: torch.Tensor) -> None:
        self.scale = scale
        self._num_bytes = quantized.nbytes + scale.nbytes
        self._packed = torch.ops.onednn.qlinear_prepack(quantized, None)
        self._zero_points = torch.zeros(len(scale), dtype=torch.int32)
        self._multiply = torch.ops.onednn.qlinear_pointwise.default

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """See `Int8Product`."""
        if len(hidden) <= _BLOCK_ROWS:
            return self._block(hidden)
        return torch.cat([self._block(block) for block in hidden.split(_BLOCK_ROWS)])

    def _block(self, hidden: torch.Tensor) -> torch.Tensor:
        rows, step = _two_int8_rows(hidden)
        product = self._multiply(
            rows, 1.0, 0, self._packed, self.scale, self._zero_points, None,  # input and weights
            1.0, 0, torch.float32, "none", [], "",  # output, nothing fused
        )  # fmt: skip
        coarse, fine = product.chunk(2)
        return torch.add(coarse, fine, alpha=1 / _FINE).mul_(step).to(hidden.dtype)

    @property
    def num_bytes(self) -> int:
        """See `Int8Product`."""
        return self._num_bytes


def _two_int8_rows(hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(M, K) as int8 (2M, K), coarse rows then fine ones, and the coarse step of each row, float32 (M, 1).

    hidden = step * (coarse + fine / 254), within step / 508.
    """
    step = torch.linalg.vector_norm(hidden, torch.inf, -1, True, dtype=torch.float32)
    step = step.mul_(1 / _LEVELS).clamp_(min=torch.finfo(torch.float32).tiny)
    scaled = hidden / step
    parts = scaled.new_empty(2, *scaled.shape)
    torch.round(scaled, out=parts[0])
    torch.sub(scaled, parts[0], out=parts[1])
    parts[1].mul_(_FINE).round_()
    return parts.to(torch.int8).flatten(0, 1), step


class Int8Linear(nn.Module):
    """A linear layer whose weights are int8; inference only, and not part of a state dict."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, product: type[Int8Product]) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.product = product(*quantize_rows(weight))
        self.bias = bias

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        output = self.product(hidden.reshape(-1, self.in_features)).view(*hidden.shape[:-1], -1)
        return output if self.bias is None else output + self.bias

    @property
    def num_bytes(self) -> int:
        """Memory held."""
        return self.product.num_bytes + (self.bias.nbytes if self.bias is not None else 0)

    def extra_repr(self) -> str:
        """Shown when the model is printed."""
        return f"{self.in_features}, {self.out_features}, {type(self.product).__name__}"


@torch.no_grad()
def quantize_int8(model: Transformer, *, product: type[Int8Product] | None = None) -> int:
    """Replace every linear layer of `model`, in place; returns how many.

    Each is released before the next is made. Embeddings keep their dtype, because a step reads only rows of
    them; a head tied to them gets int8 weights of its own.
    """
    if any(isinstance(module, LoraLinear) for module in model.modules()):
        raise UnsupportedOperation(
            "An adapter lies beside the weights that should be quantised.", hint="Merge it first."
        )
    kind = product or fastest_product(model.device)
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for name in linears:
        linear = model.get_submodule(name)
        parent, _, child = name.rpartition(".")
        bias = linear.bias.detach() if linear.bias is not None else None
        setattr(model.get_submodule(parent), child, Int8Linear(linear.weight, bias, kind))
    if model.lm_head is None:
        model.lm_head = Int8Linear(model.embed_tokens.weight, None, kind)
        return len(linears) + 1
    return len(linears)


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all weights, quantised ones included."""
    plain = sum(weight.nbytes for weight in model.parameters())
    return plain + sum(module.num_bytes for module in model.modules() if isinstance(module, Int8Linear))


def fastest_product(device: torch.device) -> type[Int8Product]:
    """What multiplies int8 weights fastest on a device, among what gives right results there."""
    if device.type != "cpu":
        return ConvertingProduct
    for kind in (IntegerProduct, AtenProduct):
        if _is_right(kind):
            return kind
    return ConvertingProduct


def _is_right(kind: type[Int8Product]) -> bool:
    """Whether a product that rests on private operators of PyTorch works here, tried on extreme values.

    CPUs without int8 dot products saturate in oneDNN's product, which extreme values bring out.
    """
    weight = torch.linspace(-1, 1, 48 * 64).reshape(48, 64).sign() * torch.linspace(0.5, 1, 64)
    hidden = torch.linspace(0.9, 1, 3 * 64, dtype=torch.bfloat16).reshape(3, 64)
    try:
        found = kind(*quantize_rows(weight))(hidden)
    except (RuntimeError, AttributeError, TypeError, NotImplementedError):
        return False
    expected = ConvertingProduct(*quantize_rows(weight))(hidden.float())
    return bool(((found - expected).abs() <= 0.02 * expected.abs()).all())
