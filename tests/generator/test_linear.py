"""One row of bfloat16 takes another kernel than many; what comes out must not show it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from generator.model.linear import Linear


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 1, 40), (40,), (1, 40), (2, 3, 40), (1, 0, 40)])
def test_a_layer_is_the_rounded_product_whatever_the_number_of_rows(
    shape: tuple[int, ...], dtype: torch.dtype, bias: bool
) -> None:
    torch.manual_seed(0)
    layer, hidden = Linear(40, 24, bias=bias).to(dtype), torch.randn(shape).to(dtype)
    found = layer(hidden)
    offset = layer.bias.float() if bias else None
    expected = F.linear(hidden.float(), layer.weight.float(), offset)
    assert found.shape == expected.shape
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected.to(dtype), rtol=2**-7, atol=2**-8)


def test_one_row_in_float32_is_bit_for_bit_what_pytorch_computes() -> None:
    torch.manual_seed(0)
    layer, hidden = Linear(40, 24), torch.randn(1, 40)
    assert torch.equal(layer(hidden), F.linear(hidden, layer.weight, layer.bias))


def test_a_row_can_be_trained_on() -> None:
    layer = Linear(8, 3).to(torch.bfloat16)
    layer(torch.ones(1, 8, dtype=torch.bfloat16)).sum().backward()
    assert torch.equal(layer.weight.grad, torch.ones(3, 8, dtype=torch.bfloat16))
