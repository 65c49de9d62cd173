"""Trading time for memory: layers are computed again in the backward pass."""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from generator.model.transformer import Layer


def checkpoint_layers(model: nn.Module) -> int:
    """Keep only the inputs of each transformer layer (arXiv 1604.06174); returns how many layers there are.

    About a third more time for a step, and activations for one layer instead of all.
    """
    layers = [module for module in model.modules() if isinstance(module, Layer)]
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)  # type: ignore[method-assign]
    return len(layers)
