"""A trained transformer as a Hugging Face model folder, which `Generator.load` and transformers read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from generator.model.config import ModelConfig
from generator.model.families import decoder_config, decoder_placements
from generator.model.transformer import Transformer
from generator.training.errors import CheckpointNotSaved, InvalidTrainingConfig

_TEXT_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


def llama_config(config: ModelConfig) -> dict[str, Any]:
    """The config.json of a model trained from scratch: the family whose conventions it follows."""
    model_type, name = ("qwen3", "Qwen3") if config.qk_norm else ("llama", "Llama")
    if config.qkv_bias and not config.output_bias and not config.qk_norm:
        model_type, name = "qwen2", "Qwen2"
    data = {
        "model_type": model_type,
        "architectures": [f"{name}ForCausalLM"],
        "hidden_act": "silu",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "attention_bias": config.qkv_bias,
        "mlp_bias": config.mlp_bias,
        "tie_word_embeddings": config.tied_embeddings,
    }
    expected = {**config.to_dict(), "dropout": 0.0}
    if {**decoder_config(data).to_dict(), "dropout": 0.0} != expected:
        raise InvalidTrainingConfig(
            "'task.model' describes a transformer that no Hugging Face family has.",
            hint="Leave out what is not Llama's: norms, positions, windows and activation have its defaults.",
        )
    return data


def save_model_folder(
    model: Transformer, folder: Path, *, config: dict[str, Any], dtype: torch.dtype, text_files_of: Path
) -> None:
    """Write config.json, model.safetensors and the tokenizer's files of `text_files_of`."""
    parameters = dict(model.named_parameters())
    tensors = {
        theirs: parameters[place.name].detach()[place.start : place.stop].to("cpu", dtype).clone()
        for theirs, place in decoder_placements(model.config).items()
    }
    for name in _TEXT_FILES:
        if (text_files_of / name).is_file():
            shutil.copyfile(text_files_of / name, folder / name)
    name = str(dtype).removeprefix("torch.")
    data = {key: value for key, value in config.items() if key != "torch_dtype"} | {"dtype": name}
    (folder / "config.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def replace_folder(folder: Path, write: Callable[[Path], None]) -> Path:
    """Let `write` fill a new folder that then takes the place of `folder`."""
    temporary = folder.with_name(folder.name + ".tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        write(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointNotSaved(
            f"{folder} cannot be written: {error}.",
            hint="Make room, then start the same command again: only the model is written anew.",
        ) from error
    return folder
