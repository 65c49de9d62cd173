"""What the trainer asks of a task; it knows nothing else of questions, text or tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import nn

from generator.training.ceiling import layer_flops_per_token

M = TypeVar("M", bound=nn.Module)
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class StepBatches(Generic[B]):
    """The micro-batches whose gradients make one optimiser step."""

    batches: list[B]  # those of one process
    divisor: int  # of the step's loss: examples (or target tokens) in the batches of all processes


class Task(ABC, Generic[M, B]):
    """A model to build, batches to learn from, a loss, and figures to judge it by."""

    @property
    @abstractmethod
    def num_steps(self) -> int:
        """Optimiser steps that the data and the configuration amount to."""

    @property
    def micro_batches_per_step(self) -> int | None:
        """How many processes can share a step; None: as many as there are."""
        return None

    @abstractmethod
    def build_model(self) -> M:
        """The model where training starts; what must not change has `requires_grad` off."""

    @abstractmethod
    def batches(self, step: int, *, rank: int = 0, num_processes: int = 1) -> StepBatches[B]:
        """The batches of a step: a pure function of its arguments, called in a background thread.

        Of several processes each gets every `num_processes`-th micro-batch, beginning with its rank.
        """

    @abstractmethod
    def loss(self, model: M, batch: B) -> tuple[torch.Tensor, dict[str, float]]:
        """Sum of the examples' losses, and sums to log, "examples" and "tokens" among them."""

    @abstractmethod
    def validate(self, model: M) -> dict[str, float]:
        """Figures on held-out data; the best checkpoint is the one with the lowest "loss"."""

    def names(self, step: int) -> list[list[str]]:
        """What a person calls the examples of a step (their questions), by micro-batch of all processes."""
        return []

    def flops(self, model: M, sums: Mapping[str, float]) -> float:
        """FLOPs of the training steps that counted `sums`."""
        return layer_flops_per_token(model) * sums.get("tokens", 0.0)

    def save_model(self, model: M, folder: Path) -> Path | None:
        """Write what was trained in the form that others load, in `folder`; None where there is none."""
        return None
