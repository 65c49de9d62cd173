"""The training loop: batches in, steps, checkpoints and a log out. Task and model come from outside."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from generator.hardware import resolve_device
from generator.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint, trainable
from generator.training.config import OptimizerConfig, TrainingConfig
from generator.training.devices import to_device
from generator.training.errors import InvalidCheckpoint, TrainingDiverged
from generator.training.loader import PrefetchDataLoader
from generator.training.precision import MixedPrecision
from generator.training.task import StepBatches, Task

LAST = "last.safetensors"
BEST = "best.safetensors"
METRICS = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """What `on_progress` hears after each logged step."""

    step: int
    num_steps: int
    seconds: float
    loss: float
    learning_rate: float
    tokens_per_second: float
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """How a run ended."""

    steps: int
    seconds: float
    counters: dict[str, float]
    validation: dict[str, float]
    interrupted: bool
    folder: str


class Trainer:
    """One run of one task. Resumes by itself from the folder's last checkpoint.

    On CPU a resumed run takes the same steps to the last bit: batches are a function of the step, PyTorch's
    random state is seeded by the step, and checkpoints hold the optimiser's moments. Only a limit in seconds
    makes a run depend on the clock, because then the schedule follows time.
    """

    def __init__(
        self,
        config: TrainingConfig,
        task: Task[Any, Any],
        *,
        on_progress: Callable[[TrainingProgress], None] | None = None,
    ) -> None:
        self.config = config
        self.task = task
        self.on_progress = on_progress
        self.folder = Path(config.run.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.device = resolve_device(config.run.device)
        self.precision = MixedPrecision(config.run.precision, self.device)
        self.model = task.build_model().to(self.device)
        self.optimizer = build_optimizer(self.model, config.optimizer)
        planned = task.num_steps
        self.num_steps = min(planned, config.run.max_steps or planned)
        self.fingerprint = _fingerprint(config)
        self.step = 0
        self.counters: dict[str, float] = {}
        self.best: float | None = None
        self._seconds_before = 0.0
        self._started = time.time()
        self._saved = time.time()
        self._window: dict[str, float] = {}

    def run(self) -> TrainingReport:
        """Train to the end, or to an interrupt (Ctrl-C), after which a checkpoint is written too."""
        self._resume()
        self._started = self._saved = time.time()
        interrupted = False
        run = self.config.run
        loader = PrefetchDataLoader(
            self.task.batches, first=self.step, last=self.num_steps, depth=run.prefetch
        )
        with loader:
            try:
                for batches in loader:
                    self._train_step(batches)
                    if self.step % run.log_steps == 0 or self.step == self.num_steps:
                        self._log(loader.waiting_share)
                    if run.validate_steps and self.step % run.validate_steps == 0:
                        self._validate()
                    if time.time() - self._saved > run.checkpoint_seconds:
                        self._save()
                    if self.progress >= 1:
                        break
            except KeyboardInterrupt:
                interrupted = True
        self._save()
        validation = {} if interrupted else self._validate()
        return TrainingReport(
            steps=self.step,
            seconds=self.seconds,
            counters=self.counters,
            validation=validation,
            interrupted=interrupted,
            folder=str(self.folder),
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

    def _train_step(self, batches: StepBatches[Any]) -> None:
        torch.manual_seed(self.config.run.seed * 1_000_003 + self.step)
        self.model.train()
        rate = learning_rate(self.config.optimizer, self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total = 0.0
        for batch in batches.batches:
            with self.precision.autocast():
                loss, counts = self.task.loss(self.model, to_device(batch, self.device))
            self.precision.backward(loss / batches.num_examples)
            total += float(loss.detach())
            self._count(counts)
        norm = self._update(total)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._count({"loss": total, "grad_norm": norm})
        self._window["learning_rate"] = rate
        self._window["steps"] = self._window.get("steps", 0.0) + 1

    def _update(self, loss: float) -> float:
        """Clip, step the optimiser, and return the norm of the gradient, 0 where float16 overflowed."""
        self.precision.unscale([self.optimizer])
        limit = self.config.optimizer.clip_norm
        norm = float(nn.utils.clip_grad_norm_(trainable(self.model).values(), limit))
        overflowed = self.precision.is_scaled and not math.isfinite(norm)
        if not math.isfinite(loss) or not (math.isfinite(norm) or overflowed):
            raise TrainingDiverged(
                f"Step {self.step} has loss {loss} and gradient norm {norm}.",
                hint=f"{self.folder / LAST} is from before it; resume with a lower learning rate.",
            )
        if not overflowed:
            self.optimizer.step()
        self.precision.update()
        return 0.0 if overflowed else norm

    def _count(self, counts: dict[str, float]) -> None:
        for name, value in counts.items():
            self._window[name] = self._window.get(name, 0.0) + value
            if name in ("examples", "tokens"):
                self.counters[name] = self.counters.get(name, 0.0) + value

    def _log(self, waiting_share: float) -> None:
        window, self._window = self._window, {}
        elapsed = self.seconds - window.pop("since", self._logged)
        self._logged = self.seconds
        examples, steps = window.pop("examples"), window.pop("steps")
        rate, norm = window.pop("learning_rate"), window.pop("grad_norm") / steps
        tokens = window.pop("tokens", 0.0)
        metrics = {name: value / examples for name, value in window.items()}
        metrics |= {
            "grad_norm": norm,
            "examples_per_second": examples / elapsed,
            "waiting_share": waiting_share,
        }
        progress = TrainingProgress(
            step=self.step,
            num_steps=self.num_steps,
            seconds=self.seconds,
            loss=metrics["loss"],
            learning_rate=rate,
            tokens_per_second=tokens / elapsed,
            metrics=metrics,
        )
        self._write({"kind": "train", **asdict(progress), "counters": self.counters})
        if self.on_progress is not None:
            self.on_progress(progress)

    def _validate(self) -> dict[str, float]:
        self.model.eval()
        with torch.no_grad(), self.precision.autocast():
            figures = self.task.validate(self.model)
        self._write({"kind": "validation", "step": self.step, "seconds": self.seconds, **figures})
        loss = figures.get("loss")
        if loss is not None and (self.best is None or loss < self.best):
            self.best = loss
            save_checkpoint(self.folder / BEST, model=self.model, optimizer=None, state=self._state())
        return figures

    def _save(self) -> None:
        save_checkpoint(self.folder / LAST, model=self.model, optimizer=self.optimizer, state=self._state())
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
        self._logged = 0.0
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
        self._seconds_before = self._logged = state.seconds
        self.precision.restore(state.scaler)

    def _write(self, record: dict[str, Any]) -> None:
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; biases, norms and position tables do not decay."""
    decayed, kept = [], []
    for name, parameter in trainable(model).items():
        (kept if parameter.ndim < 2 or "embed_positions" in name else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)


def learning_rate(config: OptimizerConfig, progress: float) -> float:
    """Linear warm-up over the first `warmup_fraction`, then linear decay to `final_fraction`."""
    if progress < config.warmup_fraction:
        return config.learning_rate * max(progress / config.warmup_fraction, 0.01)
    left = (1 - progress) / max(1 - config.warmup_fraction, 1e-9)
    return config.learning_rate * (config.final_fraction + (1 - config.final_fraction) * left)


def _fingerprint(config: TrainingConfig) -> str:
    """Identifies what a checkpoint may be resumed with: task, optimiser and seed."""
    content = {
        "task": dict(config.task),
        "optimizer": asdict(config.optimizer),
        "seed": config.run.seed,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
