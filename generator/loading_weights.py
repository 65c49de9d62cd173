"""Weights from safetensors files into an allocated transformer.

Files are memory-mapped, and each tensor is copied straight into its place (a block of rows where matrices are
fused), converting and crossing to the device on the way: no second copy of the model is ever allocated. Once
loaded, a model has nothing to do with its files any more; they may be replaced or deleted under it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from generator.errors import UnsupportedModel, WeightsCorrupt, WeightsMismatch, WeightsMissing
from generator.model.families import Placement

if TYPE_CHECKING:
    from generator.model.transformer import Transformer

_FLOATING = frozenset({"F64", "F32", "F16", "BF16"})
# Derived from the configuration, or a copy of the embeddings in a model that ties them.
_REDUNDANT = re.compile(r"(.*\.)?rotary_emb\.inv_freq|lm_head\.weight")
_GIT_LFS_POINTER = b"version https://git-lfs"


def fill(
    model: Transformer, files: Mapping[Path, frozenset[str] | None], placements: Mapping[str, Placement]
) -> None:
    """Copy every tensor of `files` to where `placements` says; none may lack, none may be left over."""
    parameters = dict(model.named_parameters())
    filled: set[str] = set()
    surplus: list[str] = []
    for file, promised in files.items():
        with open_safetensors(file) as tensors:
            names = frozenset(tensors.keys())
            if promised is not None and (absent := sorted(promised - names)):
                raise WeightsMissing(
                    f"{file.name} does not hold the tensor {absent[0]} that the index promises.",
                    hint="Download the folder again.",
                )
            surplus += [name for name in names - placements.keys() if not _REDUNDANT.fullmatch(name)]
            for name in sorted(names & placements.keys()):
                _copy(tensors, name, _target(parameters, placements[name]), file)
                filled.add(name)
    _check_complete(placements.keys() - filled, surplus, len(placements))


def open_safetensors(file: Path) -> Any:
    """A memory-mapped safetensors file, a context manager; a broken one is a typed error."""
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        with file.open("rb") as stream:
            is_pointer = stream.read(len(_GIT_LFS_POINTER)) == _GIT_LFS_POINTER
        if is_pointer:
            raise WeightsCorrupt(
                f"{file} is a git-lfs pointer, not the weights themselves.", hint="Run `git lfs pull`."
            ) from error
        raise WeightsCorrupt(
            f"{file} is truncated or not a safetensors file ({error}).", hint="Download it again."
        ) from error


def _target(parameters: Mapping[str, torch.nn.Parameter], place: Placement) -> torch.Tensor:
    return parameters[place.name].data[place.start : place.stop]


def _copy(tensors: Any, name: str, target: torch.Tensor, file: Path) -> None:
    """Check shape and number format before any byte is read."""
    header = tensors.get_slice(name)
    if header.get_dtype() not in _FLOATING:
        raise UnsupportedModel(
            f"The tensor {name} in {file.name} is stored as {header.get_dtype()}; quantised weights are not "
            "supported.",
            hint="Use the float32, bfloat16 or float16 release of the same model.",
        )
    if (shape := list(header.get_shape())) != list(target.shape):
        raise WeightsMismatch(
            f"{file.name} holds {name} as {shape}, but config.json calls for {list(target.shape)}.",
            hint="The folder mixes files of different models; download it again.",
        )
    target.copy_(tensors.get_tensor(name))


def _check_complete(missing: set[str], surplus: list[str], num_expected: int) -> None:
    if missing:
        raise WeightsMissing(
            f"{len(missing)} of {num_expected} tensors are missing from the weights, such as {min(missing)}.",
            hint="Finish the download, or check that config.json belongs to these weights.",
        )
    if surplus:
        raise WeightsMismatch(
            f"The weights hold {len(surplus)} tensors too many for config.json, such as {min(surplus)}.",
            hint="Check that config.json belongs to these weights; extra heads are not supported.",
        )
