"""Fresh LoRA adapters to train, and PEFT's files of trained ones."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from generator.lora import LoraAdapter, LoraLinear, LowRank, attach_lora
from generator.model.families import Placement, decoder_placements
from generator.model.transformer import Transformer
from generator.training.causal_config import LoraConfig
from generator.training.errors import InvalidTrainingConfig


def attach_fresh_lora(model: Transformer, config: LoraConfig, *, generator: torch.Generator) -> None:
    """Freeze the weights and put an update that does nothing yet beside each target."""
    if config.rank < 1:
        raise InvalidTrainingConfig(f"'task.lora.rank' is {config.rank}, but must be at least 1.")
    targets = _targets(model, config)
    model.requires_grad_(False)
    updates = {}
    for module, place in targets.items():
        weight = model.get_parameter(place.name)[place.start : place.stop]
        down = torch.empty(config.rank, weight.shape[1])
        nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=generator)
        updates[module] = LowRank(down, torch.zeros(weight.shape[0], config.rank), config.alpha / config.rank)
    attach_lora(model, LoraAdapter(updates, {}))
    for layer in model.modules():
        if isinstance(layer, LoraLinear):
            layer.dropout = config.dropout


def save_adapter(model: Transformer, config: LoraConfig, folder: Path, *, base: str) -> None:
    """Write adapter_config.json and adapter_model.safetensors as PEFT does."""
    tensors: dict[str, torch.Tensor] = {}
    for module, place in _targets(model, config).items():
        layer = model.get_submodule(place.name.removesuffix(".weight"))
        assert isinstance(layer, LoraLinear)
        for down, up, (rows, _) in zip(layer.downs, layer.ups, layer.blocks, strict=True):
            if rows.start == (place.start or 0):
                tensors[f"base_model.model.{module}.lora_A.weight"] = down.detach().cpu().contiguous()
                tensors[f"base_model.model.{module}.lora_B.weight"] = up.detach().cpu().contiguous()
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": list(config.targets),
        "bias": "none",
        "inference_mode": True,
    }
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _targets(model: Transformer, config: LoraConfig) -> Mapping[str, Placement]:
    """Where the layers that `targets` names lie, by Hugging Face name."""
    found = {
        name.removesuffix(".weight"): place
        for name, place in decoder_placements(model.config).items()
        if name.endswith("_proj.weight")
    }
    known = sorted({name.rpartition(".")[2] for name in found})
    for target in config.targets:
        if target not in known:
            raise InvalidTrainingConfig(
                f"'task.lora.targets' names {target!r}, which the model does not have.",
                hint=f"Its layers are {', '.join(known)}.",
            )
    return {name: place for name, place in found.items() if name.rpartition(".")[2] in config.targets}
