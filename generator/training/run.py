"""From a configuration to a finished run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from generator.training.config import TrainingConfig, load_config, parse_dataclass
from generator.training.errors import InvalidTrainingConfig
from generator.training.memory import keep_freed_memory
from generator.training.progress import TrainingProgress, TrainingReport
from generator.training.task import Task
from generator.training.trainer import Trainer

OnProgress = Callable[[TrainingProgress], None]


def train(config: TrainingConfig, *, on_progress: OnProgress | None = None) -> TrainingReport:
    """Run (or resume) what `config` describes."""
    import torch

    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    return Trainer(config, build_task(config), on_progress=on_progress).run()


def train_from_file(
    path: Path | str, *, overrides: Sequence[str] = (), on_progress: OnProgress | None = None
) -> TrainingReport:
    """`train` with a TOML file; `overrides` are `section.key=value`. Tunes the process's allocator for it."""
    keep_freed_memory()
    return train(load_config(Path(path), overrides=overrides), on_progress=on_progress)


def build_task(config: TrainingConfig) -> Task[Any, Any]:
    """The task that `task.kind` names."""
    kind = config.task.get("kind")
    if kind == "grounded-qa":
        from generator.training.grounded_qa import GroundedQAConfig, GroundedQATask

        return GroundedQATask(
            parse_dataclass(GroundedQAConfig, config.task, where="task"), seed=config.run.seed
        )
    if kind == "causal-lm":
        from generator.training.causal_config import CausalLMConfig
        from generator.training.causal_lm import CausalLMTask

        return CausalLMTask(parse_dataclass(CausalLMConfig, config.task, where="task"), seed=config.run.seed)
    raise InvalidTrainingConfig(
        f"'task.kind' is {kind!r}.", hint="Known tasks: 'grounded-qa' and 'causal-lm'."
    )
