from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from generator.training.distributed import Processes
from generator.training.errors import InvalidTrainingConfig
from generator.training.run import train_from_file

from .test_training import logged, losses

WriteConfig = Any
TASK = "stages = [{ questions = 32, windows = [24, 48] }]\ntokens_per_batch = 150\nbatches_per_step = 2"


def test_two_processes_take_the_steps_of_one(write_config: WriteConfig, tmp_path: Path) -> None:
    path = write_config(task=TASK)
    train_from_file(path, overrides=[f"run.folder={tmp_path / 'one'}"])

    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    call = ["-m", "generator.training", str(path), f"run.folder={tmp_path / 'two'}", "run.device=cpu"]
    done = subprocess.run([*torchrun, *call], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr

    alone, together = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert together.keys() == alone.keys()
    for step, figures in together.items():
        assert figures == pytest.approx(alone[step], rel=1e-4)
    # Only the first process writes and reports, and its counters are those of both.
    assert len(logged(tmp_path / "two")) == len(alone)
    assert len(logged(tmp_path / "two", "validation")) == 1
    assert logged(tmp_path / "two")[-1]["counters"] == logged(tmp_path / "one")[-1]["counters"]
    assert json.loads(done.stdout)["counters"]["examples"] == 32


def test_more_processes_than_micro_batches_are_refused(
    write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(InvalidTrainingConfig, match=r"3 processes.*batches_per_step"):
        train_from_file(write_config(task=TASK))


def test_one_process_needs_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert Processes.from_environment() == Processes(rank=0, count=1)
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(InvalidTrainingConfig, match="torchrun"):
        Processes.from_environment()
