"""A model whose rows know nothing of each other: every matrix product has the same number of rows.

A library chooses by the shape of a product how to sum, so the last bits of a row depend on how many rows lie
beside it, which under bfloat16 is enough to change a token now and then. Where there is only one shape there
is nothing to choose ("Defeating nondeterminism in LLM inference", Thinking Machines Lab 2025).
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from generator.model.transformer import Transformer

ROW_TILE = 32  # rows a product: few enough that a decode step still mostly reads weights


class FixedRows(nn.Module):
    """A row-wise function, called on `ROW_TILE` rows at a time; zeros fill the last tile."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        rows = hidden.reshape(-1, hidden.shape[-1])
        num_rows = len(rows)
        if num_padding := -num_rows % ROW_TILE:
            rows = F.pad(rows, (0, 0, 0, num_padding))
        tiles = [self.function(tile) for tile in rows.split(ROW_TILE)]
        output = tiles[0] if len(tiles) == 1 else torch.cat(tiles)
        return output[:num_rows].view(*hidden.shape[:-1], -1)


def with_fixed_rows(model: Transformer) -> Transformer:
    """The same model over the same weights, its matrix products on fixed tiles. `model` is left as it is.

    Layers that are exchanged in `model` later (an adapter, int8 weights) are not in what is returned.
    """
    products = [
        product
        for layer in model.layers
        for product in (layer.attention.qkv, layer.attention.output, layer.mlp.up, layer.mlp.down)
    ]
    if model.lm_head is not None:
        products.append(model.lm_head)
    # What a deep copy is told to have copied already, it takes as it is.
    known: dict[int, object] = {id(weight): weight for weight in (*model.parameters(), *model.buffers())}
    known |= {id(product): FixedRows(product) for product in products}
    fixed = copy.deepcopy(model, known)
    if model.lm_head is None:
        fixed.lm_head = FixedRows(model.project)
    return fixed
