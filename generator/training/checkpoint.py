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

from generator.training.errors import InvalidCheckpoint

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
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in trainable(model).items():
        tensors[f"model/{name}"] = parameter.detach()
        moments = optimizer.state.get(parameter, {}) if optimizer is not None else {}
        for key, value in moments.items():
            tensors[f"optimizer/{name}/{key}"] = value
    temporary = path.with_name(path.name + ".tmp")
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        temporary,
        metadata={"format": FORMAT, "state": json.dumps(asdict(state))},
    )
    _replace(temporary, path)


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
        _restore_moments(optimizer, parameters, tensors)
    values: dict[str, Any] = json.loads(metadata["state"])
    return TrainingState(**values)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes; the others come from where the run started."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _restore_moments(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    tensors: Mapping[str, torch.Tensor],
) -> None:
    for name, parameter in parameters.items():
        prefix = f"optimizer/{name}/"
        moments = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if moments:
            optimizer.state[parameter] = moments


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
