from __future__ import annotations

import builtins
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from generator.training.checkpoint import load_checkpoint
from generator.training.config import OptimizerConfig
from generator.training.errors import InvalidTrainingConfig, OptimizerMissing
from generator.training.optimizers import MuonWithAdamW, build_optimizer
from generator.training.schedule import learning_rate
from generator.training.trainer import LAST, Trainer

from .successor import NAMES, Net, SuccessorTask, successor_config
from .test_training import logged, losses


def flattened(value: Any) -> Any:
    """Tensors as lists with their strides, so that `==` compares everything."""
    if isinstance(value, torch.Tensor):
        return value.tolist(), value.stride()
    if isinstance(value, dict):
        return {key: flattened(item) for key, item in value.items()}
    return [flattened(item) for item in value] if isinstance(value, list | tuple) else value


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of each optimiser that was killed after step 11 of 24."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, str(Path(__file__).with_name("kill_runs.py")), str(folder), "11"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_every_optimiser_learns_and_resumes_a_killed_run_to_the_last_bit(
    name: str, tmp_path: Path, killed: Path
) -> None:
    torch.set_num_threads(1)
    whole = Trainer(successor_config(tmp_path, name), SuccessorTask())
    report = whole.run()
    assert report.validation["loss"] < 0.8 * losses(tmp_path)[1][0]

    # Every step saves, but the kill comes between a step and its save: it is taken again.
    config = successor_config(killed / name, name, checkpoint_seconds=0.0)
    resumed = Trainer(config, SuccessorTask())
    assert resumed.run().validation == report.validation
    assert [record["step"] for record in logged(killed / name)].count(11) == 2
    assert losses(killed / name) == losses(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_holds_all_that_an_optimiser_knows(name: str, tmp_path: Path) -> None:
    given = successor_config(tmp_path, name, max_steps=3)
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
