"""A model whose layers are compiled, but for attention: norms, rotations and activations join the products.

On a GPU a decode step otherwise reads and writes the hidden states once for each of them. Attention stays a
call of its own, so every `AttentionContext` works as before.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from generator.errors import UnsupportedOperation
from generator.model.attention import AttentionContext
from generator.model.compiling import check_compiler, compiled
from generator.model.rope import Rotation
from generator.model.transformer import Layer, Transformer


class FusedLayer(nn.Module):
    """`Layer` of a pre-norm model as two functions, what comes before attention and what comes after."""

    def __init__(self, layer: Layer, before: Callable[..., Any], after: Callable[..., Any]) -> None:
        super().__init__()
        self.layer = layer
        self._before = before
        self._after = after

    def forward(
        self, hidden: torch.Tensor, rotation: Rotation | None, context: AttentionContext
    ) -> torch.Tensor:
        """See `Layer.forward`."""
        attention = self.layer.attention
        heads = self._before(attention, self.layer.attention_norm, hidden, rotation)
        attended = context.attend(attention.layer, *heads)
        return self._after(self.layer, hidden, attended)


def check_fusible(model: Transformer) -> None:
    """Raise UnsupportedOperation or CompilerUnavailable where a model's layers cannot be compiled."""
    if model.config.norm_placement != "pre":
        raise UnsupportedOperation("Only layers with their norms in front can be compiled.")
    if model.device.type == "cpu":
        raise UnsupportedOperation(
            "Layers are compiled on GPUs only: the CPU has its own operators for them.",
            hint="Leave compile_layers out.",
        )
    check_compiler(model.device)


def with_fused_layers(model: Transformer, *, backend: str | Callable[..., Any] = "inductor") -> Transformer:
    """The same model over the same weights, its layers compiled as they come to run. `model` stays as it is.

    Layers that are exchanged in `model` later (an adapter, int8 weights) are not in what is returned.
    """
    # Two compiled functions serve all layers: weights are arguments to them.
    before, after = compiled(_before, backend=backend), compiled(_after, backend=backend)
    fused = copy.copy(model)
    fused._modules = dict(model._modules)
    fused.layers = nn.ModuleList(FusedLayer(layer, before, after) for layer in model.layers)
    return fused


def _before(
    attention: nn.Module, norm: nn.Module, hidden: torch.Tensor, rotation: Rotation | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return attention.heads(norm(hidden), rotation)


def _after(layer: Layer, hidden: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    hidden = hidden + layer.attention.join(attended)
    return hidden + layer.mlp(layer.mlp_norm(hidden))
