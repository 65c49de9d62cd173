"""What a run reports while it is under way, and its log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from generator.training.errors import CheckpointNotSaved

METRICS = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """What `on_progress` hears after each logged step; rates are since the last one."""

    step: int
    num_steps: int
    seconds: float
    loss: float
    learning_rate: float
    tokens_per_second: float
    metrics: dict[str, float]
    flop_share: float = 0.0  # of the device's ceiling, 0 to 1
    waiting_share: float = 0.0  # of the time, for data, 0 to 1
    eta_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """How a run ended."""

    steps: int
    seconds: float
    counters: dict[str, float]
    validation: dict[str, float]
    interrupted: bool
    folder: str
    model_folder: str | None = None  # the finished model, where the task writes one


class Window(NamedTuple):
    """What a stretch of steps amounts to."""

    loss: float
    means: dict[str, float]  # per example, to log
    sums: dict[str, float]  # as the task counted
    tokens_per_second: float
    elapsed: float  # seconds
    waiting_share: float  # of them, for data


class Meter:
    """Adds up what the steps since the last report have counted."""

    def __init__(self, *, seconds: float) -> None:
        self._sums: dict[str, float] = {}
        self._steps = 0
        self._since = seconds
        self._waited = 0.0

    def add(self, counts: Mapping[str, float]) -> None:
        """Counts of one step: "loss", "divisor", "grad_norm", and what the task counts."""
        self._steps += 1
        for name, value in counts.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def take(self, *, seconds: float, waited: float) -> Window:
        """What was added since the last call; `seconds` and `waited` count from the run's start."""
        sums, self._sums = self._sums, {}
        steps, self._steps = self._steps, 0
        elapsed = max(seconds - self._since, 1e-9)
        waiting = min(1.0, (waited - self._waited) / elapsed)
        self._since, self._waited = seconds, waited
        loss = sums.pop("loss") / sums.pop("divisor")
        norm = sums.pop("grad_norm") / steps
        examples, tokens = sums["examples"], sums.get("tokens", 0.0)
        means = {name: value / examples for name, value in sums.items() if name not in ("examples", "tokens")}
        means |= {"grad_norm": norm, "examples_per_second": examples / elapsed}
        return Window(loss, means, sums, tokens / elapsed, elapsed, waiting)


class MetricsLog:
    """One JSON object a line, appended."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise CheckpointNotSaved(
                f"{self.path} cannot be written: {error.strerror}.",
                hint="Make room, then start the same command again: it goes on from the last checkpoint.",
            ) from error
