from __future__ import annotations

import pytest
import torch

from generator.model.attention import sdpa
from generator.training.attention import training_attention


@pytest.mark.parametrize("kind", ["free", "causal", "masked"])
@pytest.mark.parametrize("num_kv_heads", [4, 2, 1])
def test_values_and_gradients_are_those_of_pytorch(kind: str, num_kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 4, 7, 8), (2, num_kv_heads, 7, 8), (2, num_kv_heads, 7, 8)]
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    mask = None
    if kind == "masked":
        mask = torch.rand(2, 1, 7, 7, generator=generator) > 0.4
        mask |= torch.eye(7, dtype=torch.bool)
    weight = torch.randn(shapes[0], generator=generator, dtype=torch.float64)
    found = []
    for kernel in (sdpa, training_attention):
        leaves = [x.clone().requires_grad_() for x in inputs]
        attended = kernel(*leaves, mask=mask, causal=kind == "causal")
        (attended * weight).sum().backward()
        found.append([attended.detach(), *(leaf.grad for leaf in leaves)])
    for theirs, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)
