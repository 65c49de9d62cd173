"""LoRA adapters in PEFT's format: loaded beside the weights, or merged into them.

W' = W + scale * B @ A (arXiv 2106.09685), scale = alpha / r, or alpha / sqrt(r) with rank stabilisation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from generator.errors import InvalidAdapter, UnsupportedModel
from generator.loading import read_json
from generator.loading_weights import open_safetensors
from generator.model.families import Placement, decoder_placements
from generator.model.transformer import Transformer

_FACTOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<factor>[AB])\.weight")
# PEFT adds copies of embeddings and head when they are targets; trained copies would be more than LoRA.
_COPY = re.compile(r"base_model\.model\.(?P<module>lm_head|model\.embed_tokens)(?:\.base_layer)?\.weight")
# Settings that change the arithmetic beyond plain LoRA: a value that is not false, empty or null is refused.
_UNSUPPORTED = (
    "use_dora",
    "lora_bias",
    "fan_in_fan_out",
    "modules_to_save",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
    "kasa_config",
)


@dataclass(frozen=True, slots=True)
class LowRank:
    """One module's update: `up @ down` (rows, r) @ (r, columns), times `scale`."""

    down: torch.Tensor
    up: torch.Tensor
    scale: float


@dataclass(frozen=True, slots=True)
class LoraAdapter:
    """Low-rank updates by Hugging Face module name, such as model.layers.0.self_attn.q_proj."""

    updates: Mapping[str, LowRank]
    copies: Mapping[str, torch.Tensor]  # weights of the base model that the file holds as well

    @classmethod
    def load(cls, folder: Path) -> LoraAdapter:
        """Read adapter_config.json and adapter_model.safetensors."""
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            if not (folder / name).is_file():
                raise InvalidAdapter(
                    f"The adapter folder {folder} has no {name}.",
                    hint="Save adapters with PEFT's save_pretrained (safetensors, which is its default).",
                )
        config = read_json(folder / "adapter_config.json")
        _check_supported(config)
        factors, copies = _read_tensors(folder / "adapter_model.safetensors")
        return cls({name: _update(name, pair, config) for name, pair in sorted(factors.items())}, copies)


class LoraLinear(nn.Module):
    """A linear layer with low-rank updates beside it, each on a block of its output rows."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.downs, self.ups = nn.ParameterList(), nn.ParameterList()
        self.blocks: list[tuple[slice, float]] = []
        self.dropout = 0.0  # training only, on what the updates see

    def add(self, update: LowRank, rows: slice) -> None:
        """Put an update beside the weights, in their dtype and on their device.

        It is copied: an update just read is a map of its file, and changes when that is overwritten.
        """
        weight = self.base.weight
        for factors, factor in ((self.downs, update.down), (self.ups, update.up)):
            factors.append(nn.Parameter(factor.to(weight.device, weight.dtype, copy=True)))
        self.blocks.append((rows, update.scale))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        output = self.base(hidden)
        for down, up, (rows, scale) in zip(self.downs, self.ups, self.blocks, strict=True):
            seen = F.dropout(hidden, self.dropout) if self.training and self.dropout else hidden
            output[..., rows] += scale * F.linear(F.linear(seen, down), up)
        return output

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The linear layer with the updates added, computed in float32 and rounded once."""
        weight = self.base.weight.float()
        for down, up, (rows, scale) in zip(self.downs, self.ups, self.blocks, strict=True):
            weight[rows] += scale * (up.float() @ down.float())
        self.base.weight.copy_(weight)
        return self.base


def attach_lora(model: Transformer, adapter: LoraAdapter) -> None:
    """Add an adapter beside the model's weights; all of it fits, or nothing is changed."""
    placements = decoder_placements(model.config)
    planned: list[tuple[str, slice, LowRank]] = []
    for name, update in adapter.updates.items():
        place = placements.get(f"{name}.weight")
        if place is None or place.name == "embed_tokens.weight":
            raise InvalidAdapter(
                f"The adapter updates {name}, which this model does not have as a layer of its own.",
                hint="Use the adapter with the base model it was trained on.",
            )
        module_name = place.name.removesuffix(".weight")
        rows = _check_shapes(name, update, _linear(model, module_name), place)
        planned.append((module_name, rows, update))
    for name, copy in adapter.copies.items():
        _check_copy(name, copy, _own_weight(model, name))
    for module_name, rows, update in planned:
        module = model.get_submodule(module_name)
        if not isinstance(module, LoraLinear):
            module = LoraLinear(module)
            _replace(model, module_name, module)
        module.add(update, rows)


def merge_lora(model: Transformer) -> int:
    """Fold all attached adapters into the weights; returns how many layers changed."""
    attached = [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLinear)]
    for name, module in attached:
        _replace(model, name, module.merged())
    return len(attached)


def _check_supported(config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UnsupportedModel(f"The adapter is of type {kind!r}.", hint="Only LORA adapters are supported.")
    if config.get("bias", "none") != "none":
        raise UnsupportedModel("The adapter also trains biases.", hint="Train it with bias='none'.")
    for name in _UNSUPPORTED:
        if config.get(name):
            raise UnsupportedModel(f"The adapter uses {name}, which is not supported.")


def _read_tensors(file: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Factors by module and then "A" or "B", and copies of base weights by module."""
    factors: dict[str, dict[str, torch.Tensor]] = {}
    copies: dict[str, torch.Tensor] = {}
    with open_safetensors(file) as tensors:
        for name in tensors.keys():  # noqa: SIM118  not a mapping
            if match := _FACTOR.fullmatch(name):
                factors.setdefault(match["module"], {})[match["factor"]] = tensors.get_tensor(name)
            elif match := _COPY.fullmatch(name):
                copies[match["module"]] = tensors.get_tensor(name)
            else:
                raise InvalidAdapter(f"{file.name} holds {name}, which is no LoRA factor of a linear layer.")
    return factors, copies


def _update(name: str, pair: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> LowRank:
    if set(pair) != {"A", "B"} or any(factor.dim() != 2 for factor in pair.values()):
        raise InvalidAdapter(f"The adapter does not hold two matrices for {name}.", hint="Download it again.")
    rank = pair["A"].shape[0]
    if pair["B"].shape[1] != rank or rank == 0:
        raise InvalidAdapter(
            f"The adapter's two matrices for {name} differ in rank.", hint="Download it again."
        )
    alpha = config.get("lora_alpha")
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            alpha = value
            break
    if not isinstance(alpha, int | float):
        raise InvalidAdapter("The adapter's config has no lora_alpha.", hint="Download it again.")
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return LowRank(down=pair["A"], up=pair["B"], scale=scale)


def _own_weight(model: Transformer, name: str) -> torch.Tensor:
    if name == "lm_head" and model.lm_head is not None:
        return _linear(model, "lm_head").weight
    return model.embed_tokens.weight


def _check_copy(name: str, copy: torch.Tensor, weight: torch.Tensor) -> None:
    if copy.shape != weight.shape or not torch.equal(copy.to(weight.device, weight.dtype), weight):
        raise InvalidAdapter(
            f"The adapter brings {name} of its own, which is more than a LoRA update.",
            hint="Train it without resizing or saving the embeddings.",
        )


def _check_shapes(name: str, update: LowRank, linear: nn.Linear, place: Placement) -> slice:
    rows = slice(*slice(place.start, place.stop).indices(linear.out_features))
    expected = (rows.stop - rows.start, linear.in_features)
    if (found := (update.up.shape[0], update.down.shape[1])) != expected:
        raise InvalidAdapter(
            f"The adapter's update of {name} is {found[0]} x {found[1]}, the layer "
            f"{expected[0]} x {expected[1]}.",
            hint="Use the adapter with the base model it was trained on.",
        )
    return rows


def _linear(model: Transformer, name: str) -> nn.Linear:
    module = model.get_submodule(name)
    base = module.base if isinstance(module, LoraLinear) else module
    if not isinstance(base, nn.Linear):
        raise InvalidAdapter(
            f"The adapter updates {name}, which is no linear layer of floating point weights.",
            hint="Load adapters before the model is quantised.",
        )
    return base


def _replace(model: Transformer, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
