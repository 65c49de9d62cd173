"""Checkpoints: one safetensors file a time, its JSON state in the header, replaced atomically."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from generator.training.errors import CheckpointNotSaved, InvalidCheckpoint
from generator.training.optimizer_state import optimizer_state, restore_optimizer, trainable

FORMAT = "ragserve-training-1"


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Everything besides tensors that a run needs to go on as if nothing had happened."""

    step: int  # optimiser steps done
    seconds: float  # wall clock spent
    counters: dict[str, float]  # what the task has counted: questions, tokens ...
    best: float | None  # best validation figure so far
    fingerprint: str  # of the configuration
    scaler: Mapping[str, Any] = field(default_factory=dict)  # loss scale of float16


def save_checkpoint(
    path: Path, *, model: nn.Module, optimizer: torch.optim.Optimizer | None, state: TrainingState
) -> None:
    """Write the trainable parameters, the optimiser's moments and `state`; a crash leaves the old file."""
    tensors = {f"model/{name}": parameter.detach() for name, parameter in trainable(model).items()}
    metadata = {"format": FORMAT, "state": json.dumps(asdict(state))}
    if optimizer is not None:
        moments, numbers = optimizer_state(model, optimizer)
        tensors |= moments
        metadata["optimizer"] = json.dumps(numbers)
    temporary = path.with_name(path.name + ".tmp")
    try:
        save_file({name: t.contiguous() for name, t in tensors.items()}, temporary, metadata=metadata)
        _replace(temporary, path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointNotSaved(
            f"{path} cannot be written: {error}.",
            hint="Make room, then start the same command again: it goes on from the last checkpoint.",
        ) from error


def load_checkpoint(
    path: Path, *, model: nn.Module, optimizer: torch.optim.Optimizer | None
) -> TrainingState:
    """Put a checkpoint's tensors into `model` (and `optimizer`) and return its state."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise InvalidCheckpoint(
            f"{path} cannot be read as a checkpoint: {error}.",
            hint="Delete it to start the run again, or put an intact copy in its place.",
        ) from error
    if metadata.get("format") != FORMAT:
        raise InvalidCheckpoint(f"{path} was not written by this trainer.")
    parameters = trainable(model)
    stored = {name.removeprefix("model/") for name in tensors if name.startswith("model/")}
    if stored != set(parameters):
        odd = sorted(stored ^ set(parameters))
        raise InvalidCheckpoint(f"{path} is of another model: {odd[0]} and {len(odd) - 1} more differ.")
    with torch.no_grad():
        for name, parameter in parameters.items():
            if tensors[f"model/{name}"].shape != parameter.shape:
                raise InvalidCheckpoint(f"{path} is of another model: {name} has another shape.")
            parameter.copy_(tensors[f"model/{name}"])
    if optimizer is not None:
        restore_optimizer(model, optimizer, tensors, json.loads(metadata.get("optimizer", "{}")))
    values: dict[str, Any] = json.loads(metadata["state"])
    return TrainingState(**values)


def _replace(temporary: Path, path: Path) -> None:
    """Make `temporary` durable, then let it take `path`'s place."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
