"""From a model folder to a model: which folder, what is in it, and how its weights get into place."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generator.errors import (
    HubUnavailable,
    InvalidModelConfig,
    ModelNotFound,
    OutOfMemory,
    PickledWeights,
    WeightsMissing,
)

if TYPE_CHECKING:
    import torch

    from generator.model.config import ModelConfig
    from generator.model.transformer import Transformer

# A hub repository is "name" or "owner/name"; whatever else was typed is a path.
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)
_HUB_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "adapter_config.json",
    "adapter_model.safetensors",
)
_MAX_JSON_BYTES = 64 * 1024 * 1024


def resolve_folder(name_or_path: str | Path) -> Path:
    """The folder of a model; a name that is no folder is fetched from the Hugging Face hub (or its cache)."""
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise ModelNotFound(f"{path} is a file.", hint="Name the model's folder, the one with config.json.")
    name = str(name_or_path)
    if not _HUB_NAME.fullmatch(name):
        raise ModelNotFound(f"There is no folder {name!r}.", hint="Check the path.")
    return _download(name)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(name, allow_patterns=list(_HUB_FILES)))
    except GatedRepoError as error:
        raise ModelNotFound(
            f"The model {name!r} is gated on the Hugging Face hub.",
            hint="Accept its licence there and set HF_TOKEN.",
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelNotFound(
            f"{name!r} is neither a folder nor a model on the Hugging Face hub.", hint="Check the spelling."
        ) from error
    except (HfHubHTTPError, OSError) as error:  # OSError: no network, offline mode, disk full
        raise HubUnavailable(
            f"{name!r} is no folder, and the Hugging Face hub does not deliver it: {_first_line(error)}.",
            hint="Give the path of a downloaded model folder, or connect to the network.",
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """The files of one checkpoint, read but for its weights."""

    path: Path
    config: ModelConfig
    model_type: str
    eos_token_ids: frozenset[int]

    @classmethod
    def open(cls, path: Path) -> ModelFolder:
        """Read a folder's configuration; weights and tokenizer stay untouched."""
        from generator.model.families import decoder_config

        if not (path / "config.json").is_file() and (path / "adapter_config.json").is_file():
            raise ModelNotFound(
                f"The folder {path} is a LoRA adapter, not a model.",
                hint="Load its base model and give this folder as the adapter.",
            )
        if not (path / "config.json").is_file():
            raise ModelNotFound(
                f"The folder {path} has no config.json, so it is not a model folder.",
                hint="Name a folder that holds config.json and model.safetensors.",
            )
        data = read_json(path / "config.json")
        generation = path / "generation_config.json"
        sources = [data, read_json(generation)] if generation.is_file() else [data]
        return cls(
            path=path,
            config=decoder_config(data),
            model_type=str(data.get("model_type", "")),
            eos_token_ids=frozenset().union(*(_eos_token_ids(source) for source in sources)),
        )

    def weight_files(self) -> dict[Path, frozenset[str] | None]:
        """Safetensors files, each with the tensors an index says it holds (None without an index)."""
        if (self.path / "model.safetensors").is_file():
            return {self.path / "model.safetensors": None}
        index = self.path / "model.safetensors.index.json"
        if index.is_file():
            return self._indexed_files(index)
        if any(self.path.glob("*.bin")) or any(self.path.glob("*.pt*")):
            raise PickledWeights(
                f"The weights in {self.path} are pickled, and reading a pickle can run code.",
                hint="Convert them with transformers: AutoModelForCausalLM.from_pretrained(folder)"
                ".save_pretrained(new_folder, safe_serialization=True).",
            )
        raise WeightsMissing(
            f"The folder {self.path} has neither model.safetensors nor model.safetensors.index.json.",
            hint="Finish the download.",
        )

    def _indexed_files(self, index: Path) -> dict[Path, frozenset[str] | None]:
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise InvalidModelConfig(f"{index} has no weight_map.", hint="Download it again.")
        files: dict[Path, set[str]] = {}
        for tensor, name in weight_map.items():
            # The index is foreign input: a shard is a file of this folder and nothing else.
            if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
                raise InvalidModelConfig(
                    f"{index} names {name!r}, which is not a safetensors file of its folder."
                )
            files.setdefault(self.path / name, set()).add(tensor)
        if missing := sorted(file.name for file in files if not file.is_file()):
            raise WeightsMissing(
                f"The folder {self.path} lacks {len(missing)} of {len(files)} weight files, "
                f"among them {missing[0]}.",
                hint="Finish the download.",
            )
        return {file: frozenset(tensors) for file, tensors in files.items()}

    def load_weights(self, *, device: torch.device, dtype: torch.dtype) -> Transformer:
        """The transformer with its weights on `device` in `dtype`, each tensor copied once."""
        from generator.loading_weights import fill
        from generator.model.families import decoder_placements

        files = self.weight_files()
        model = allocate(self.config, device=device, dtype=dtype)
        fill(model, files, decoder_placements(self.config))
        return model.eval()


def allocate(config: ModelConfig, *, device: torch.device, dtype: torch.dtype) -> Transformer:
    """A transformer with uninitialised weights, allocated once where they will stay."""
    import torch

    from generator.model.transformer import Transformer

    with torch.device("meta"):
        model = Transformer(config).to(dtype)
    try:
        return model.to_empty(device=device)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        num_bytes = sum(weight.numel() * weight.element_size() for weight in model.parameters())
        raise OutOfMemory(
            f"The model's weights need {num_bytes / 1e9:.1f} GB in {str(dtype).removeprefix('torch.')}, "
            f"which do not fit on {device}.",
            hint="Use a smaller model, bfloat16, or another device.",
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model folder."""
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise InvalidModelConfig(f"{path} is larger than {_MAX_JSON_BYTES // 2**20} MB.")
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidModelConfig(
            f"{path} cannot be read as JSON: {_first_line(error)}.", hint="Download it again."
        ) from error
    if not isinstance(data, dict):
        raise InvalidModelConfig(f"{path} is not a JSON object.", hint="Download it again.")
    return data


def _eos_token_ids(data: Mapping[str, Any]) -> set[int]:
    value = data.get("eos_token_id")
    values = value if isinstance(value, list) else [value]
    return {token for token in values if isinstance(token, int) and not isinstance(token, bool)}
