"""A task that takes milliseconds, with every kind of parameter that optimisers tell apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from generator.training.config import OptimizerConfig, OptimizerName, RunConfig, TrainingConfig
from generator.training.task import StepBatches, Task

NAMES = get_args(OptimizerName)
RATES = {"adafactor": 0.05, "lion": 0.01}


class Net(nn.Module):
    """Embedding, two layers, a norm and a head: every kind of parameter that optimisers tell apart."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 6)
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 7)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(tokens)
        for layer in self.layers:
            hidden = hidden + torch.tanh(layer(hidden))
        return self.head(self.norm(hidden))


class SuccessorTask(Task[Net, torch.Tensor]):
    """Which number follows, modulo 7."""

    num_steps = 24

    def build_model(self) -> Net:
        return Net()

    def batches(self, step: int, *, rank: int = 0, num_processes: int = 1) -> StepBatches[torch.Tensor]:
        generator = torch.Generator().manual_seed(step)
        parts = [torch.randint(7, (8,), generator=generator) for _ in range(4)]
        return StepBatches(parts[rank::num_processes], divisor=32)

    def loss(self, model: Net, batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        loss = nn.functional.cross_entropy(model(batch), (batch + 1) % 7, reduction="sum")
        return loss, {"examples": float(len(batch)), "tokens": float(len(batch))}

    def validate(self, model: Net) -> dict[str, float]:
        return {"loss": float(self.loss(model, torch.arange(7))[0]) / 7}


def successor_config(folder: Path, name: Any, **run_changes: Any) -> TrainingConfig:
    run = RunConfig(folder=str(folder), log_steps=1, validate_steps=8, flop_ceiling=1e12, plots=False)
    run = replace(run, **run_changes)
    schedule: Any = "constant" if name == "schedule-free-adamw" else "linear"
    optimizer = OptimizerConfig(name=name, schedule=schedule, learning_rate=RATES.get(name, 0.03))
    return TrainingConfig(run, {"kind": "successor"}, optimizer)
