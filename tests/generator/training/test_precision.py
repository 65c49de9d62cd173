from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from generator.training.config import RunConfig, load_config
from generator.training.devices import map_tensors, to_device
from generator.training.errors import TrainingDiverged
from generator.training.precision import MixedPrecision
from generator.training.run import build_task, train_from_file
from generator.training.trainer import LAST, Trainer

from .test_training import SHORT, interrupt_after, losses

WriteConfig = Any
CPU = torch.device("cpu")


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.02), ("float16", 0.003)])
def test_half_precision_follows_float32_closely(
    precision: str, tolerance: float, write_config: WriteConfig, tmp_path: Path
) -> None:
    path = write_config(task=SHORT)
    for name in ("float32", precision):
        train_from_file(path, overrides=[f"run.folder={tmp_path / name}", f"run.precision={name}"])
    reference, found = losses(tmp_path / "float32"), losses(tmp_path / precision)
    assert found.keys() == reference.keys()
    assert found != reference  # the setting does something
    for step, (loss, _) in found.items():
        assert loss == pytest.approx(reference[step][0], rel=tolerance)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_resumes_to_the_last_digit(
    precision: str, write_config: WriteConfig, tmp_path: Path
) -> None:
    path = write_config(task=SHORT)
    given = [f"run.precision={precision}"]
    train_from_file(path, overrides=[*given, f"run.folder={tmp_path / 'whole'}"])
    parts = [*given, f"run.folder={tmp_path / 'parts'}"]
    assert train_from_file(path, overrides=parts, on_progress=interrupt_after(2)).interrupted
    train_from_file(path, overrides=parts)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_weights_and_moments_stay_float32(write_config: WriteConfig) -> None:
    config = load_config(write_config(task=SHORT), overrides=["run.precision=bfloat16", "run.max_steps=1"])
    trainer = Trainer(config, build_task(config))
    trainer.run()
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    assert {s["exp_avg"].dtype for s in trainer.optimizer.state.values()} == {torch.float32}


def test_a_step_that_overflows_float16_is_left_out_and_halves_the_scale() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    precision = MixedPrecision("float16", CPU)
    before = precision.scale
    precision.backward((weight * torch.tensor(3.0e38)).sum())
    precision.unscale([optimizer])
    assert not math.isfinite(float(weight.grad))
    assert precision.is_scaled
    precision.update()
    assert precision.scale == before / 2

    other = MixedPrecision("float16", CPU)
    other.restore(precision.state())
    assert other.scale == before / 2


def test_the_scale_is_part_of_the_checkpoint(write_config: WriteConfig, tmp_path: Path) -> None:
    path = write_config(task=SHORT)
    given = ["run.precision=float16", "run.max_steps=1"]
    train_from_file(path, overrides=given)
    config = load_config(path, overrides=given)
    trainer = Trainer(config, build_task(config))
    trainer.precision.restore({**trainer.precision.state(), "scale": 8.0})
    trainer._save()
    again = Trainer(config, build_task(config))
    again._resume()
    assert again.precision.scale == 8.0
    assert (tmp_path / "run" / LAST).exists()


def test_without_a_scale_an_overflow_ends_the_run(write_config: WriteConfig) -> None:
    config = load_config(write_config(task=SHORT), overrides=["run.precision=bfloat16"])
    trainer = Trainer(config, build_task(config))
    with torch.no_grad():
        trainer.model.span_head.weight.fill_(float("nan"))
    with pytest.raises(TrainingDiverged):
        trainer.run()


class Pair(NamedTuple):
    tensor: torch.Tensor
    label: str


def test_batches_of_any_shape_move_whole() -> None:
    batch = {"pair": Pair(torch.ones(2), "x"), "rows": [torch.zeros(1), 3], "run": RunConfig(folder="f")}
    moved = to_device(batch, torch.device("meta"))
    assert moved["pair"].tensor.is_meta
    assert moved["pair"].label == "x"
    assert moved["rows"][0].is_meta
    assert moved["rows"][1] == 3
    assert moved["run"] == RunConfig(folder="f")
    assert float(map_tensors((torch.ones(()),), lambda t: t + 1)[0]) == 2
