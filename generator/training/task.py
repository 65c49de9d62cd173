"""What the trainer asks of a task; it knows nothing else of questions, text or tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class StepBatches(Generic[B]):
    """The micro-batches whose gradients make one optimiser step."""

    batches: list[B]
    num_examples: int  # in all of them; the step's loss is the mean over these


class Task(ABC, Generic[M, B]):
    """A model to build, batches to learn from, a loss, and figures to judge it by."""

    @property
    @abstractmethod
    def num_steps(self) -> int:
        """Optimiser steps that the data and the configuration amount to."""

    @abstractmethod
    def build_model(self) -> M:
        """The model where training starts; what must not change has `requires_grad` off."""

    @abstractmethod
    def batches(self, step: int) -> StepBatches[B]:
        """The batches of a step: a pure function of the step, called in a background thread."""

    @abstractmethod
    def loss(self, model: M, batch: B) -> tuple[torch.Tensor, dict[str, float]]:
        """Sum of the examples' losses, and sums to log, "examples" and "tokens" among them."""

    @abstractmethod
    def validate(self, model: M) -> dict[str, float]:
        """Figures on held-out data."""
