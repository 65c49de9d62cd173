"""Batches of any kind to a device: tensors in dataclasses, tuples, lists and mappings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def to_device(batch: T, device: torch.device) -> T:
    """`batch` with its tensors on `device`; copies from pinned memory overlap with what the GPU is doing."""
    return map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))


def pin_memory(batch: T) -> T:
    """`batch` with its tensors in page-locked memory, from which a GPU copies by itself."""
    return map_tensors(batch, torch.Tensor.pin_memory)


def map_tensors(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """`value` with every tensor in it changed; what is no tensor and holds none stays the same object."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: map_tensors(getattr(value, f.name), change) for f in fields(value)})
    if isinstance(value, list | tuple):
        items = [map_tensors(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, Mapping):
        return {key: map_tensors(item, change) for key, item in value.items()}
    return value
