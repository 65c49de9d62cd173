from __future__ import annotations

import builtins
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn

from generator.training.checkpoint import load_checkpoint
from generator.training.config import OptimizerConfig, OptimizerName, RunConfig, TrainingConfig
from generator.training.errors import InvalidTrainingConfig, OptimizerMissing
from generator.training.optimizers import MuonWithAdamW, build_optimizer
from generator.training.schedule import learning_rate
from generator.training.task import StepBatches, Task
from generator.training.trainer import LAST, Trainer

from .test_training import interrupt_after, losses

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


def flattened(value: Any) -> Any:
    """Tensors as lists with their strides, so that `==` compares everything."""
    if isinstance(value, torch.Tensor):
        return value.tolist(), value.stride()
    if isinstance(value, dict):
        return {key: flattened(item) for key, item in value.items()}
    return [flattened(item) for item in value] if isinstance(value, list | tuple) else value


def config(folder: Path, name: Any, **changes: Any) -> TrainingConfig:
    run = RunConfig(folder=str(folder), log_steps=1, validate_steps=8, flop_ceiling=1e12, plots=False)
    schedule: Any = "constant" if name == "schedule-free-adamw" else "linear"
    optimizer = OptimizerConfig(name=name, schedule=schedule, learning_rate=RATES.get(name, 0.03), **changes)
    return TrainingConfig(run, {"kind": "successor"}, optimizer)


@pytest.mark.parametrize("name", NAMES)
def test_every_optimiser_learns_and_resumes_to_the_last_bit(name: str, tmp_path: Path) -> None:
    whole = Trainer(config(tmp_path / "whole", name), SuccessorTask())
    report = whole.run()
    assert report.validation["loss"] < 0.8 * losses(tmp_path / "whole")[1][0]

    parts = config(tmp_path / "parts", name)
    assert Trainer(parts, SuccessorTask(), on_progress=interrupt_after(11)).run().interrupted
    resumed = Trainer(parts, SuccessorTask())
    assert resumed.run().validation == report.validation
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_holds_all_that_an_optimiser_knows(name: str, tmp_path: Path) -> None:
    given = replace(config(tmp_path, name), run=replace(config(tmp_path, name).run, max_steps=3))
    trainer = Trainer(given, SuccessorTask())
    trainer.run()
    model = Net()
    optimizer = build_optimizer(model, given.optimizer)
    load_checkpoint(tmp_path / LAST, model=model, optimizer=optimizer)
    saved, restored = trainer.optimizer.state_dict(), optimizer.state_dict()
    assert flattened(restored["state"]) == flattened(saved["state"])
    for one, two in zip(saved["param_groups"], restored["param_groups"], strict=True):
        assert {**one, "lr": 0, "train_mode": 0} == {**two, "lr": 0, "train_mode": 0}


def test_muon_takes_the_matrices_of_the_layers_and_adamw_the_rest() -> None:
    model = Net()
    optimizer = build_optimizer(model, OptimizerConfig(name="muon"))
    assert isinstance(optimizer, MuonWithAdamW)
    muon, adamw = optimizer.parts
    assert {id(p) for group in muon.param_groups for p in group["params"]} == {
        id(layer.weight) for layer in model.layers
    }
    others = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert {id(model.embed.weight), id(model.head.weight), id(model.norm.weight)} < others


def test_biases_and_norms_do_not_decay() -> None:
    groups = build_optimizer(Net(), OptimizerConfig(weight_decay=0.1)).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert all(p.ndim == 2 for p in groups[0]["params"])
    assert all(p.ndim == 1 for p in groups[1]["params"])


def test_a_missing_library_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "pytorch_optimizer":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(OptimizerMissing, match=r"ragserve\[train\]"):
        build_optimizer(Net(), OptimizerConfig(name="lion"))
    build_optimizer(Net(), OptimizerConfig(name="adamw"))


def test_choices_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InvalidTrainingConfig, match='schedule = "constant"'):
        build_optimizer(Net(), OptimizerConfig(name="schedule-free-adamw"))
    with pytest.raises(InvalidTrainingConfig, match="needs matrices"):
        build_optimizer(nn.Linear(2, 2), OptimizerConfig(name="muon"))


def rates(**changes: Any) -> list[float]:
    given = OptimizerConfig(learning_rate=1.0, warmup_fraction=0.2, **changes)
    return [learning_rate(given, progress) for progress in (0.0, 0.1, 0.2, 0.6, 0.8, 0.9, 1.0)]


def test_the_learning_rate_warms_up_and_then_follows_its_schedule() -> None:
    falling = {"final_fraction": 0.1}
    assert rates(schedule="linear", **falling) == pytest.approx([0.01, 0.5, 1.0, 0.55, 0.325, 0.2125, 0.1])
    assert rates(schedule="constant") == pytest.approx([0.01, 0.5, 1, 1, 1, 1, 1])
    assert rates(schedule="cosine", **falling)[2:4] == pytest.approx([1.0, 0.55])
    assert rates(schedule="cosine", **falling)[-1] == pytest.approx(0.1)
    stable = rates(schedule="warmup-stable-decay", decay_fraction=0.2)
    assert stable == pytest.approx([0.01, 0.5, 1.0, 1.0, 1.0, 0.5, 0.0])
