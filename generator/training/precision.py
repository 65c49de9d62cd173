"""Mixed precision: products in half precision, weights, sums and moments in float32."""

from __future__ import annotations

from typing import Any

import torch

from generator.training.config import PrecisionName

_SMALLEST_SCALE = 2.0**-14  # below it, it is not the scale that makes gradients overflow


class MixedPrecision:
    """Autocast for one run, and for float16 the loss scale that keeps small gradients from vanishing.

    The scale follows Micikevicius et al. (arXiv 1710.03740, section 3.2): a step whose gradients overflow is
    left out and halves it, 2000 good steps in a row double it.
    """

    def __init__(self, name: PrecisionName, device: torch.device) -> None:
        self.dtype = getattr(torch, name)
        self.device = device
        self._scaler = torch.amp.GradScaler(device.type, enabled=name == "float16")

    def autocast(self) -> torch.autocast:
        """Context of the forward pass."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    @property
    def scale(self) -> float:
        """What losses are multiplied with before the backward pass."""
        return float(self._scaler.get_scale())

    @property
    def is_scaled(self) -> bool:
        """Whether an overflowing gradient means a smaller scale, not a run that has gone wrong."""
        return self._scaler.is_enabled() and self.scale > _SMALLEST_SCALE

    def backward(self, loss: torch.Tensor) -> None:
        """Add the (scaled) gradients of a loss."""
        self._scaler.scale(loss).backward()

    def unscale(self, optimizers: list[torch.optim.Optimizer]) -> None:
        """Turn accumulated gradients into those of the loss; once a step."""
        for optimizer in optimizers:
            self._scaler.unscale_(optimizer)

    def update(self) -> None:
        """Adapt the scale to what `unscale` found; once a step, after the optimisers."""
        self._scaler.update()

    def state(self) -> dict[str, Any]:
        """JSON-ready; empty without a scale."""
        return dict(self._scaler.state_dict())

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        if state and self._scaler.is_enabled():
            self._scaler.load_state_dict(state)
