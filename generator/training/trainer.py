"""The training loop: batches in, steps, checkpoints and a log out. Task and model come from outside."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from generator.hardware import resolve_device
from generator.training.ceiling import measure_flop_ceiling
from generator.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from generator.training.config import OptimizerConfig, TrainingConfig
from generator.training.devices import pin_memory, to_device
from generator.training.distributed import Processes
from generator.training.errors import InvalidCheckpoint, InvalidTrainingConfig, TrainingDiverged
from generator.training.gradient_checkpointing import checkpoint_layers
from generator.training.interrupts import Interrupts
from generator.training.loader import PrefetchDataLoader
from generator.training.optimizer_state import trainable
from generator.training.optimizers import build_optimizer, set_learning_rate, use_averaged_weights
from generator.training.precision import MixedPrecision
from generator.training.progress import METRICS, Meter, MetricsLog, TrainingProgress, TrainingReport
from generator.training.report import write_report
from generator.training.schedule import learning_rate
from generator.training.task import StepBatches, Task

LAST = "last.safetensors"
BEST = "best.safetensors"
_NAMED_EXAMPLES = 5
# Of OptimizerConfig when the first checkpoints were written; keys added since count only where they are set.
_FIRST_OPTIMIZER_KEYS = frozenset(
    ("learning_rate", "betas", "eps", "weight_decay", "clip_norm", "warmup_fraction", "final_fraction")
)

__all__ = ["BEST", "LAST", "METRICS", "Trainer", "TrainingProgress", "TrainingReport"]


class Trainer:
    """One run of one task. Resumes by itself from the folder's last checkpoint.

    On CPU a resumed run takes the same steps to the last bit: batches are a function of the step, PyTorch's
    random state is seeded by step and micro-batch, and checkpoints hold the optimiser's state. Only a limit
    in seconds makes a run depend on the clock, because then the schedule follows time.

    Started by `torchrun`, each process takes its share of every step's micro-batches; the first one writes.
    """

    def __init__(
        self,
        config: TrainingConfig,
        task: Task[Any, Any],
        *,
        on_progress: Callable[[TrainingProgress], None] | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.config = config
        self.task = task
        self.on_progress = on_progress
        self.processes = Processes.from_environment() if processes is None else processes
        self.folder = Path(config.run.folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidTrainingConfig(
                f"The folder {self.folder} cannot be made: {error.strerror}.", hint="Name another run.folder."
            ) from error
        self._check_processes()
        self.device = self.processes.device(resolve_device(config.run.device))
        self.precision = MixedPrecision(config.run.precision, self.device)
        self.model = task.build_model().to(self.device)
        if config.run.gradient_checkpointing:
            checkpoint_layers(self.model)
        self.optimizer = build_optimizer(self.model, config.optimizer)
        planned = task.num_steps
        self.num_steps = min(planned, config.run.max_steps or planned)
        self.fingerprint = fingerprint(config)
        self.step = 0
        self.counters: dict[str, float] = {}
        self.best: float | None = None
        self.log = MetricsLog(self.folder)
        self._seconds_before = 0.0
        self._started = self._saved = time.time()
        self._progress_before = 0.0
        self._flop_ceiling = 0.0

    def run(self) -> TrainingReport:
        """Train to the end, or to an interrupt (Ctrl-C), after which a checkpoint is written too."""
        joined = self.processes.join(self.device)
        try:
            return self._run()
        finally:
            if joined:
                self.processes.leave()

    def _run(self) -> TrainingReport:
        self._resume()
        run = self.config.run
        self._flop_ceiling = run.flop_ceiling or measure_flop_ceiling(self.device, self.precision.dtype)
        self._started = self._saved = time.time()
        self._progress_before = progress = self._agree_on_progress()[0]
        self._meter = Meter(seconds=self.seconds)
        interrupted = False
        patient = self.processes.count > 1
        with self._loader() as loader, Interrupts(patient=patient) as interrupts:
            for batches in loader:
                self._train_step(batches, progress)
                progress, interrupted = self._agree_on_progress(stop=interrupts.requested)
                if self.step % run.log_steps == 0 or self.step == self.num_steps:
                    self._report(progress, loader.waited_seconds)
                if run.validate_steps and self.step % run.validate_steps == 0:
                    self._validate()
                if time.time() - self._saved > run.checkpoint_seconds:
                    self._save()
                if progress >= 1 or interrupted:
                    break
        self._save()
        validation = {} if interrupted else self._validate()
        return TrainingReport(
            steps=self.step,
            seconds=self.seconds,
            counters=self.counters,
            validation=validation,
            interrupted=interrupted,
            folder=str(self.folder),
            model_folder=None if interrupted else self._finish(),
        )

    @property
    def seconds(self) -> float:
        """Wall clock spent, over all resumptions."""
        return self._seconds_before + time.time() - self._started

    @property
    def progress(self) -> float:
        """How far the run is, 0 to 1, by steps or by the clock, whichever is further."""
        by_steps = self.step / self.num_steps
        limit = self.config.run.max_seconds
        return by_steps if limit is None else min(1.0, max(by_steps, self.seconds / limit))

    def _check_processes(self) -> None:
        limit, count = self.task.micro_batches_per_step, self.processes.count
        if limit is not None and count > limit:
            raise InvalidTrainingConfig(
                f"{count} processes cannot share a step of {limit} micro-batches.",
                hint=f"Set task.batches_per_step to {count} or a multiple of it.",
            )

    def _loader(self) -> PrefetchDataLoader[StepBatches[Any]]:
        rank, count = self.processes.rank, self.processes.count

        def make(step: int) -> StepBatches[Any]:
            batches = self.task.batches(step, rank=rank, num_processes=count)
            return pin_memory(batches) if self.device.type == "cuda" else batches

        # A run whose time is over takes no step more when it is started again.
        last = self.step if self.step and self.progress >= 1 else self.num_steps
        return PrefetchDataLoader(make, first=self.step, last=last, depth=self.config.run.prefetch)

    def _agree_on_progress(self, *, stop: bool = False) -> tuple[float, bool]:
        """How far all processes say they are, and whether any was asked to stop."""
        progress, stopped = self.processes.largest(self.progress, float(stop), device=self.device)
        return progress, bool(stopped)

    def _train_step(self, batches: StepBatches[Any], progress: float) -> None:
        self.model.train()
        rate = learning_rate(self.config.optimizer, progress)
        set_learning_rate(self.optimizer, rate)
        counts: dict[str, float] = {"loss": 0.0}
        spoiled: list[int] = []  # micro-batches, counted over all processes
        for i, batch in enumerate(batches.batches):
            number = i * self.processes.count + self.processes.rank
            torch.manual_seed(self.config.run.seed * 1_000_003 + self.step * 1_009 + number)
            with self.precision.autocast():
                loss, counted = self.task.loss(self.model, to_device(batch, self.device))
            self.precision.backward(loss / batches.divisor)
            for name, value in (counted | {"loss": float(loss.detach())}).items():
                counts[name] = counts.get(name, 0.0) + value
            if not math.isfinite(float(loss.detach())):
                spoiled.append(number)
        counts = self.processes.sum_counts(counts, self.device)
        norm = self._update(counts["loss"], spoiled)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._meter.add(counts | {"grad_norm": norm, "divisor": float(batches.divisor)})
        self._learning_rate = rate
        for name in ("examples", "tokens"):
            self.counters[name] = self.counters.get(name, 0.0) + counts.get(name, 0.0)

    def _update(self, loss: float, spoiled: list[int]) -> float:
        """Clip, step the optimiser, and return the norm of the gradient, 0 where float16 overflowed."""
        parameters = trainable(self.model).values()
        self.processes.sum_gradients(parameters)
        self.precision.unscale([self.optimizer])
        norm = float(nn.utils.clip_grad_norm_(parameters, self.config.optimizer.clip_norm))
        overflowed = self.precision.is_scaled and not math.isfinite(norm)
        if not math.isfinite(loss) or not (math.isfinite(norm) or overflowed):
            raise self._divergence(loss, norm, spoiled)
        if not overflowed:
            self.optimizer.step()
        self.precision.update()
        return 0.0 if overflowed else norm

    def _divergence(self, loss: float, norm: float, spoiled: list[int]) -> TrainingDiverged:
        """The weights are still those from before the step: keep them if there is no checkpoint yet."""
        if not (self.folder / LAST).exists():
            self._save()
        names = self.task.names(self.step)
        wanted = [name for number in spoiled or range(len(names)) for name in names[number : number + 1]]
        examples = [name for batch in wanted for name in batch]
        shown = ", ".join(f'"{name}"' for name in examples[:_NAMED_EXAMPLES])
        more = f" and {len(examples) - _NAMED_EXAMPLES} more" if len(examples) > _NAMED_EXAMPLES else ""
        return TrainingDiverged(
            f"Step {self.step} has loss {loss} and gradient norm {norm}."
            + (f" Its batch: {shown}{more}." if shown else ""),
            hint=f"{self.folder / LAST} is from before it. Mend or remove the examples, or start in a new "
            "run.folder with a lower optimizer.learning_rate.",
        )

    def _report(self, progress: float, waited: float) -> None:
        window = self._meter.take(seconds=self.seconds, waited=waited)
        flops = self.task.flops(self.model, window.sums) / window.elapsed
        gained = progress - self._progress_before
        spent = self.seconds - self._seconds_before
        report = TrainingProgress(
            step=self.step,
            num_steps=self.num_steps,
            seconds=self.seconds,
            loss=window.loss,
            learning_rate=self._learning_rate,
            tokens_per_second=window.tokens_per_second,
            metrics=window.means,
            flop_share=flops / (self._flop_ceiling * self.processes.count),
            waiting_share=window.waiting_share,
            eta_seconds=spent * (1 - progress) / gained if gained > 0 else None,
        )
        if self.processes.is_first:
            self.log.write({"kind": "train", **asdict(report), "counters": self.counters})
            if self.on_progress is not None:
                self.on_progress(report)

    def _validate(self) -> dict[str, float]:
        self.model.eval()
        use_averaged_weights(self.optimizer, True)
        figures: dict[str, float] = {}
        if self.processes.is_first:
            with torch.no_grad(), self.precision.autocast():
                figures = self.task.validate(self.model)
            self.log.write({"kind": "validation", "step": self.step, "seconds": self.seconds, **figures})
            loss = figures.get("loss")
            if loss is not None and math.isfinite(loss) and (self.best is None or loss < self.best):
                self.best = loss
                save_checkpoint(self.folder / BEST, model=self.model, optimizer=None, state=self._state())
            self._draw()
        use_averaged_weights(self.optimizer, False)
        return figures

    def _draw(self) -> None:
        """Charts of the run so far. None of them is worth ending it."""
        if self.config.run.plots:
            with contextlib.suppress(OSError):  # a full disk: the next checkpoint says so
                write_report(self.folder)

    def _finish(self) -> str | None:
        """Let the task write the best model it has seen."""
        if not self.processes.is_first:
            return None
        use_averaged_weights(self.optimizer, True)
        if (self.folder / BEST).exists():
            load_checkpoint(self.folder / BEST, model=self.model, optimizer=None)
        written = self.task.save_model(self.model, self.folder)
        return None if written is None else str(written)

    def _save(self) -> None:
        if self.processes.is_first:
            path = self.folder / LAST
            save_checkpoint(path, model=self.model, optimizer=self.optimizer, state=self._state())
        self._saved = time.time()

    def _state(self) -> TrainingState:
        return TrainingState(
            step=self.step,
            seconds=self.seconds,
            counters=self.counters,
            best=self.best,
            fingerprint=self.fingerprint,
            scaler=self.precision.state(),
        )

    def _resume(self) -> None:
        path = self.folder / LAST
        if not path.exists():
            return
        state = load_checkpoint(path, model=self.model, optimizer=self.optimizer)
        if state.fingerprint != self.fingerprint:
            raise InvalidCheckpoint(
                f"{path} belongs to a run with another task, optimiser or seed.",
                hint="Name another run folder, or delete this one to start again.",
            )
        self.step, self.counters, self.best = state.step, dict(state.counters), state.best
        self._seconds_before = state.seconds
        self.precision.restore(dict(state.scaler))


def fingerprint(config: TrainingConfig) -> str:
    """Identifies what a checkpoint may be resumed with: task, optimiser and seed."""
    defaults = OptimizerConfig()
    optimizer = {
        f.name: getattr(config.optimizer, f.name)
        for f in fields(OptimizerConfig)
        if f.name in _FIRST_OPTIMIZER_KEYS or getattr(config.optimizer, f.name) != getattr(defaults, f.name)
    }
    content = {"task": dict(config.task), "optimizer": optimizer, "seed": config.run.seed}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
