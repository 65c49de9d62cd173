"""Any optimiser's state as named tensors and JSON, and back: nothing is pickled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

_TENSOR = "tensor"  # in JSON, {"tensor": path} stands for the tensor of that name
_STRIDES = "strides"  # beside it, where the tensor does not lie row by row


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes; the others come from where the run started."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors named `optimizer/PARAMETER/KEY`, and as JSON what is no tensor."""
    tensors: dict[str, torch.Tensor] = {}
    state = optimizer.state_dict()
    by_parameter: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(_parameter_names(model, optimizer)):
        for key, value in state["state"].get(index, {}).items():
            encoded = _encode(value, f"optimizer/{name}/{key}", tensors)
            if not isinstance(value, torch.Tensor) or not value.is_contiguous():
                # Plain tensors are found by their names.
                by_parameter.setdefault(name, {})[key] = encoded
    groups = [
        {key: value for key, value in group.items() if value is None or isinstance(value, bool | int | float)}
        for group in state["param_groups"]
    ]
    return tensors, {"parameters": by_parameter, "groups": groups}


def restore_optimizer(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, torch.Tensor],
    numbers: Mapping[str, Any],
) -> None:
    """Put back what `optimizer_state` returned."""
    state = optimizer.state_dict()
    restored: dict[int, dict[str, Any]] = {}
    by_parameter = numbers.get("parameters", {})
    for index, name in enumerate(_parameter_names(model, optimizer)):
        prefix = f"optimizer/{name}/"
        values = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
        values = {key: tensor for key, tensor in values.items() if "/" not in key}
        values |= {key: _decode(value, tensors) for key, value in by_parameter.get(name, {}).items()}
        if values:
            restored[index] = values
    groups = state["param_groups"]
    for group, saved in zip(groups, numbers.get("groups", []), strict=False):
        group.update(saved)
    optimizer.load_state_dict({"state": restored, "param_groups": groups})


def _parameter_names(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names in the order in which the optimiser numbers its parameters."""
    names = {id(parameter): name for name, parameter in trainable(model).items()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _encode(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """`value` as JSON, its tensors put into `tensors` under `path`."""
    if isinstance(value, torch.Tensor):
        tensors[path] = value
        # Matrix products round differently over another memory layout, and a resumed run shall not.
        return {_TENSOR: path} if value.is_contiguous() else {_TENSOR: path, _STRIDES: list(value.stride())}
    if isinstance(value, list | tuple):
        return [_encode(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"the optimiser keeps a {type(value).__name__} at {path}, which cannot be stored")


def _decode(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, dict):
        tensor = tensors[value[_TENSOR]]
        if _STRIDES not in value:
            return tensor
        return torch.empty_strided(tensor.shape, value[_STRIDES], dtype=tensor.dtype).copy_(tensor)
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    return value
