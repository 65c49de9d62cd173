from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from generator.reader.reader import Reader
from generator.reader.weights import load_reader
from generator.training import TrainingProgress, train_from_file
from generator.training.__main__ import main
from generator.training.checkpoint import load_checkpoint
from generator.training.config import OptimizerConfig, RunConfig, TrainingConfig, load_config
from generator.training.errors import InvalidCheckpoint, TrainingDiverged
from generator.training.export import export_reader
from generator.training.run import build_task
from generator.training.task import StepBatches, Task
from generator.training.trainer import LAST, METRICS, Trainer, fingerprint

WriteConfig = Any
SHORT = "stages = [{ questions = 60, windows = [24, 48] }]\ntokens_per_batch = 300\nbatches_per_step = 2"


def logged(folder: Path, kind: str = "train") -> list[dict[str, Any]]:
    whole = (folder / METRICS).read_text().rpartition("\n")[0]  # the last line may be in the writing
    records = [json.loads(line) for line in whole.splitlines()]
    return [record for record in records if record["kind"] == kind]


def losses(folder: Path) -> dict[int, tuple[float, float]]:
    return {record["step"]: (record["loss"], record["metrics"]["grad_norm"]) for record in logged(folder)}


def interrupt_after(step: int) -> Callable[[TrainingProgress], None]:
    """Ctrl-C once that step is done."""

    def interrupt(progress: TrainingProgress) -> None:
        if progress.step == step:
            signal.raise_signal(signal.SIGINT)

    return interrupt


def test_a_tiny_reader_learns_a_handful_of_questions_and_answers_them(
    write_config: WriteConfig, tmp_path: Path, start_folder: Path
) -> None:
    path = write_config(
        count=8,
        task="stages = [{ questions = 1600, windows = [48, 48] }]\ntokens_per_batch = 800\n"
        "[task.unanswerable]\nshare = 0.0",
        run="log_steps = 50",
    )
    report = train_from_file(path, overrides=["task.validation_share=0.0"])
    assert report.counters["examples"] == 1600

    export_reader(tmp_path / "run" / LAST, tmp_path / "reader", recipe=path, start_folder=start_folder)
    reader = Reader.load(tmp_path / "reader", device="cpu", embeddings_folder=start_folder)
    assert reader.files is not None
    assert reader.files.training["questions"] == 1600
    assert reader.files.training["sources"] == {"facts": 1.0}
    for record in (json.loads(line) for line in (tmp_path / "facts.jsonl").read_text().splitlines()):
        answer = reader.answer(record["question"], [("only", record["passage"])], threshold=0.0)
        assert answer.text == f"{record['answers'][0]} [1]"


def test_a_run_can_go_on_from_an_exported_reader(
    write_config: WriteConfig, tmp_path: Path, start_folder: Path
) -> None:
    path = write_config(task=SHORT, run="log_steps = 1\nvalidate_steps = 0")
    train_from_file(path)
    export_reader(
        tmp_path / "run" / LAST,
        tmp_path / "reader",
        recipe=path,
        start_folder=start_folder,
        storage="float32",
    )
    overrides = [f"run.folder={tmp_path / 'on'}", f"task.reader_folder={tmp_path / 'reader'}"]
    model = build_task(load_config(path, overrides=overrides)).build_model()
    trained = load_reader(tmp_path / "reader", start_folder)[0].state_dict()
    assert all(torch.equal(tensor, trained[name]) for name, tensor in model.state_dict().items())
    assert not model.transformer.embed_tokens.weight.requires_grad
    assert model.span_head.weight.requires_grad
    train_from_file(path, overrides=overrides)
    assert losses(tmp_path / "on")[1] != losses(tmp_path / "run")[1]
    export_reader(
        tmp_path / "on" / LAST,
        tmp_path / "second",
        recipe=path,
        start_folder=start_folder,
        after=tmp_path / "reader",
    )
    training = load_reader(tmp_path / "second", start_folder)[1].training
    assert training["questions"] == 120
    assert training["after"]["questions"] == 60


def test_a_run_killed_and_resumed_takes_the_same_steps(write_config: WriteConfig, tmp_path: Path) -> None:
    path = write_config(task=SHORT, run="log_steps = 1\ncheckpoint_seconds = 0")
    train_from_file(path, overrides=[f"run.folder={tmp_path / 'whole'}"])
    expected = losses(tmp_path / "whole")

    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "generator.training", str(path), f"run.folder={folder}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not (folder / METRICS).exists() or len(logged(folder)) < 2:
            assert process.poll() in (None, 0), "the run failed"
            assert time.monotonic() < deadline, "the run takes no steps"
            time.sleep(0.005)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    train_from_file(path, overrides=[f"run.folder={folder}"])
    assert losses(folder) == expected
    assert logged(folder, "validation")[-1]["f1"] == logged(tmp_path / "whole", "validation")[-1]["f1"]


def test_a_resumed_run_continues_instead_of_starting_again(write_config: WriteConfig, tmp_path: Path) -> None:
    path = write_config(task=SHORT)
    train_from_file(path, overrides=["run.max_steps=2"])
    steps = [record["step"] for record in logged(tmp_path / "run")]
    train_from_file(path)
    later = [record["step"] for record in logged(tmp_path / "run")][len(steps) :]
    assert steps == [1, 2]
    assert later[0] == 3


def test_a_checkpoint_of_another_run_is_refused(write_config: WriteConfig) -> None:
    path = write_config(task=SHORT)
    train_from_file(path, overrides=["run.max_steps=1"])
    with pytest.raises(InvalidCheckpoint, match="another task"):
        train_from_file(path, overrides=["optimizer.learning_rate=1e-3"])


def test_the_command_line_reports_as_json_and_mistakes_as_one_sentence(
    write_config: WriteConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(task=SHORT)
    assert main([str(path), "run.max_steps=1"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["steps"] == 1
    assert "loss" in output.err
    assert main([str(path), "run.max_stepz=1"]) == 2
    assert capsys.readouterr().err.strip() == "Unknown key 'run.max_stepz'. Did you mean 'max_steps'?"


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))


class LineTask(Task[Line, torch.Tensor]):
    """Least squares, to see that the trainer knows nothing of readers."""

    def __init__(self, *, spoiled_step: int | None = None, interrupted_step: int | None = None) -> None:
        self.spoiled_step, self.interrupted_step = spoiled_step, interrupted_step
        self.seen = 0

    num_steps = 40

    def build_model(self) -> Line:
        return Line()

    def batches(self, step: int, *, rank: int = 0, num_processes: int = 1) -> StepBatches[torch.Tensor]:
        generator = torch.Generator().manual_seed(step)
        rows = [torch.randn(4, 3, generator=generator) for _ in range(2)]
        if step == self.spoiled_step:
            rows[1][0, 0] = float("nan")
        return StepBatches(rows[rank::num_processes], divisor=8)

    def loss(self, model: Line, batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        self.seen += 1
        if self.interrupted_step is not None and self.seen == 2 * self.interrupted_step + 1:
            signal.raise_signal(signal.SIGINT)  # Ctrl-C in the middle of a step
        batch = batch * (torch.rand(batch.shape) > 0.2)  # as random as dropout
        wanted = batch @ torch.tensor([1.0, -2.0, 0.5])
        return ((batch @ model.weight - wanted) ** 2).sum(), {"examples": float(len(batch)), "tokens": 12.0}

    def names(self, step: int) -> list[list[str]]:
        return [[f"row {row} of batch {batch}" for row in range(4)] for batch in range(2)]

    def validate(self, model: Line) -> dict[str, float]:
        return {"loss": float((model.weight - torch.tensor([1.0, -2.0, 0.5])).norm())}


def line_config(folder: Path) -> TrainingConfig:
    run = RunConfig(folder=str(folder), checkpoint_seconds=0.0, log_steps=1, flop_ceiling=1e12)
    return TrainingConfig(run, {"kind": "line"}, OptimizerConfig(learning_rate=0.3, clip_norm=100))


def test_the_trainer_runs_any_task(tmp_path: Path) -> None:
    heard: list[int] = []
    trainer = Trainer(
        line_config(tmp_path), LineTask(), on_progress=lambda progress: heard.append(progress.step)
    )
    report = trainer.run()
    assert report.validation["loss"] < 0.2
    assert report.counters == {"examples": 320.0, "tokens": 960.0}
    assert heard == list(range(1, 41))


def test_a_step_follows_the_mean_gradient_over_all_its_micro_batches(tmp_path: Path) -> None:
    Trainer(line_config(tmp_path), LineTask()).run()
    model, task = Line(), LineTask()
    batches = task.batches(0)
    total = torch.zeros(())
    for number, batch in enumerate(batches.batches):
        torch.manual_seed(17 * 1_000_003 + number)  # what the trainer seeds its first step with
        total = total + task.loss(model, batch)[0]
    (total / batches.divisor).backward()
    assert losses(tmp_path)[1] == pytest.approx(
        (float(total.detach()) / 8, float(model.weight.grad.norm())), rel=1e-5
    )


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match="Step 7") as caught:
        Trainer(line_config(tmp_path), LineTask(spoiled_step=7)).run()
    assert 'Its batch: "row 0 of batch 1", "row 1 of batch 1"' in str(caught.value)  # and not batch 0
    model = Line()
    state = load_checkpoint(tmp_path / LAST, model=model, optimizer=None)
    assert state.step == 7
    assert torch.isfinite(model.weight).all()


def test_random_layers_resume_exactly_too(tmp_path: Path) -> None:
    whole = Trainer(line_config(tmp_path / "whole"), LineTask())
    whole.run()
    Trainer(line_config(tmp_path / "parts"), LineTask(interrupted_step=13)).run()
    torch.rand(7)  # what else the process draws plays no part
    resumed = Trainer(line_config(tmp_path / "parts"), LineTask())
    resumed.run()
    assert torch.equal(resumed.model.weight, whole.model.weight)


def test_an_interrupt_saves_and_ends_cleanly(tmp_path: Path) -> None:
    report = Trainer(line_config(tmp_path), LineTask(interrupted_step=5)).run()
    assert report.interrupted
    assert (
        load_checkpoint(tmp_path / LAST, model=Line(), optimizer=None).step == 6
    )  # the step was finished first


def test_a_run_that_fails_at_once_keeps_its_start(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match="Step 0"):
        Trainer(line_config(tmp_path), LineTask(spoiled_step=0)).run()
    assert load_checkpoint(tmp_path / LAST, model=Line(), optimizer=None).step == 0


def test_the_fingerprint_of_a_configuration_does_not_change_between_versions(tmp_path: Path) -> None:
    config = TrainingConfig(RunConfig(folder="x"), {"kind": "line"}, OptimizerConfig())
    assert fingerprint(config) == "f9480a46c4b5866c"
    lion = TrainingConfig(config.run, config.task, OptimizerConfig(name="lion"))
    assert fingerprint(lion) != fingerprint(config)


def test_a_limit_in_seconds_ends_the_schedule_with_the_clock(tmp_path: Path) -> None:
    config = line_config(tmp_path)
    limited = TrainingConfig(
        RunConfig(
            folder=str(tmp_path), checkpoint_seconds=60, log_steps=1, max_seconds=1e-6, flop_ceiling=1e12
        ),
        config.task,
        config.optimizer,
    )
    assert Trainer(limited, LineTask()).run().steps == 1
    assert Trainer(limited, LineTask()).run().steps == 1  # its time is over
