"""Pictures and texts into unit vectors of one space, by a model with a tower for each (CLIP and its kin).

Any folder or hub name that sentence-transformers loads, or OpenCLIP where it is installed, with weights in
safetensors format and no code of its own: Radford et al., "Learning Transferable Visual Models From Natural
Language Supervision", ICML 2021.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from indexer import openclip
from indexer.embedding import run_batch
from indexer.embedding_errors import EmbeddingFailed, NotAnImageEmbedder
from indexer.embedding_loading import DTYPES, no_progress_bars
from indexer.embedding_model import find_model, sampled_weights_digest
from indexer.hardware import resolve_device
from indexer.lazy import Lazy

if TYPE_CHECKING:
    import numpy as np
    from sentence_transformers import SentenceTransformer

    from indexer.types import Thumbnail

_BATCH_IMAGES = 16
_BATCH_TEXTS = 64
_MAX_CONFIG_BYTES = 64 << 20
_OWN_MODULES = "sentence_transformers."  # what else modules.json may name is code of the model's own


_Encode = Callable[[list[Any]], "np.ndarray"]


class _Loaded(NamedTuple):
    encode: _Encode  # pictures or texts into (n, dimension) rows of any length
    dimension: int


class ImageEmbedder:
    """A model that embeds pictures and texts; threads may share it.

    Opening reads configuration files only; weights are read with the first picture or text. `device` and
    `dtype` are those of `SentenceTransformerEmbedder`, but that auto is float32. Raises ModelNotFound, and
    NotAnImageEmbedder for what is no such model.
    """

    def __init__(self, name_or_path: str, *, device: str = "auto", dtype: str = "auto") -> None:
        self.name = name_or_path  # for messages
        markers = ("modules.json", "config.json", openclip.CONFIG_NAME)
        self.folder = find_model(name_or_path, marker=markers)
        self._in_openclip_form = _has_only_openclips_form(self.folder)
        if self._in_openclip_form:
            _check_openclip(self.folder)
            self._config: dict[str, Any] = {}
        else:
            self._config = _check_architecture(self.folder)
        self.fingerprint = _fingerprint(self.folder)
        if dtype not in DTYPES:
            raise EmbeddingFailed(f"There is no dtype {dtype!r}.", hint=f"Choose one of {', '.join(DTYPES)}.")
        self._device = device
        self._dtype = "float32" if dtype == "auto" else dtype
        self._loaded = Lazy(self._load)
        self._running = threading.Lock()  # one batch at a time: torch has its own threads

    @property
    def dimension(self) -> int:
        """The width of a vector; loads the model."""
        return self._loaded.get().dimension

    def start_loading(self) -> None:
        """Begin to load in the background; a failure shows on first use."""
        self._loaded.start()

    def embed_images(self, images: Sequence[Thumbnail]) -> np.ndarray:
        """(n, dimension) float32 unit rows, in the order of the pictures. Raises EmbeddingFailed."""
        from PIL import Image

        decoded = [Image.frombytes("RGB", (image.width, image.height), image.rgb) for image in images]
        return self._embed(decoded, _BATCH_IMAGES)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dimension) float32 unit rows; what is beyond the length that the model reads is left out."""
        return self._embed(list(texts), _BATCH_TEXTS)

    def _embed(self, items: list[Any], batch_size: int) -> np.ndarray:
        import numpy as np

        encode, dimension = self._loaded.get()
        rows = [np.zeros((0, dimension), np.float32)]
        with self._running:
            for start in range(0, len(items), batch_size):
                rows.append(run_batch(encode, items[start : start + batch_size], dimension))
        return np.concatenate(rows)

    def _load(self) -> _Loaded:
        from safetensors import SafetensorError

        device = resolve_device(self._device)
        try:
            with no_progress_bars():
                if self._in_openclip_form:
                    encode = openclip.load(self.folder, device=device, dtype=self._dtype)
                else:
                    encode = _encoder(self._load_with_the_library(device))
            dimension = _dimension(encode)
        except (
            SafetensorError,
            OSError,
            LookupError,
            RuntimeError,
            ImportError,
            TypeError,
            ValueError,
            AttributeError,
        ) as error:
            reason = str(error).strip().split("\n")[0]
            raise _not_one(self.folder, f"it cannot be loaded ({reason})") from error
        return _Loaded(encode, dimension)

    def _load_with_the_library(self, device: str) -> SentenceTransformer:
        import torch
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(
            str(self.folder),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"dtype": getattr(torch, self._dtype), "use_safetensors": True},
        ).eval()
        self._limit_texts(model)
        return model

    def _limit_texts(self, model: SentenceTransformer) -> None:
        """Text towers have a fixed number of positions, which their tokenizers do not always state."""
        positions = self._config["text_config"].get("max_position_embeddings")
        stated = model.max_seq_length
        if isinstance(positions, int) and (stated is None or stated > positions):
            model.max_seq_length = positions


def _encoder(model: SentenceTransformer) -> _Encode:
    return lambda items: (
        model.encode(items, batch_size=len(items), show_progress_bar=False, convert_to_tensor=True)
        .float()
        .cpu()
        .numpy()
    )


def _dimension(encode: _Encode) -> int:
    """The width of both towers' vectors, found by trying. ValueError where they have none in common."""
    from PIL import Image

    (image,), (text,) = encode([Image.new("RGB", (64, 64), "gray")]), encode(["gray"])
    if image.shape != text.shape or image.ndim != 1:
        raise ValueError(f"pictures become {image.shape} numbers, texts {text.shape}")
    return len(image)


def _has_only_openclips_form(folder: Path) -> bool:
    """Whether a model is in OpenCLIP's form and in no other that is read: hub repositories may have both."""
    if not (folder / openclip.CONFIG_NAME).is_file() or (folder / "modules.json").is_file():
        return False
    return not _has_towers(_read_json(folder / "config.json", default={}))


def _check_openclip(folder: Path) -> None:
    config = _read_json(folder / openclip.CONFIG_NAME, default={})
    problem = openclip.why_not(config if isinstance(config, dict) else {}, folder)
    if problem:
        raise _not_one(folder, problem)
    if not openclip.is_installed():
        raise NotAnImageEmbedder(
            f"{folder} holds a model in OpenCLIP's form, and open_clip is not installed.",
            hint=openclip.INSTALL_HINT,
        )


def _check_architecture(folder: Path) -> dict[str, Any]:
    """The transformer's configuration, if it has a tower for texts and one for pictures."""
    modules = _read_json(folder / "modules.json", default=[{"path": "", "type": _OWN_MODULES}])
    if not isinstance(modules, list) or not modules or not all(isinstance(one, dict) for one in modules):
        raise _not_one(folder, "its modules.json lists no modules")
    for module in modules:
        if not str(module.get("type", "")).startswith(_OWN_MODULES):
            raise _not_one(folder, f"it needs code of its own ({module.get('type')}), which is not run")
    config = _read_json(folder / str(modules[0].get("path", "")) / "config.json", default={})
    config = config if isinstance(config, dict) else {}
    if not _has_towers(config):
        kind = config.get("model_type", "no transformer")
        raise _not_one(folder, f"it is {kind}, without a tower for pictures and one for texts")
    return config


def _has_towers(config: Any) -> bool:
    towers = ("text_config", "vision_config")
    return isinstance(config, dict) and all(isinstance(config.get(tower), dict) for tower in towers)


def _fingerprint(folder: Path) -> str:
    """Of weights, configuration, tokenizer and the preparation of pictures; not of dtype or place."""
    weights = sampled_weights_digest(folder)
    if not weights:
        raise _not_one(folder, "it has no weights in safetensors format")
    digests = [
        (str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".json", ".txt") and path.is_file() and path.stat().st_size <= _MAX_CONFIG_BYTES
    ]
    return hashlib.sha256(json.dumps([weights, digests]).encode()).hexdigest()[:16]


def _read_json(path: Path, *, default: Any) -> Any:
    if not path.is_file():
        return default
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise ValueError("it is too large")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _not_one(path.parent, f"its {path.name} cannot be read ({error})") from error


def _not_one(folder: Path, reason: str) -> NotAnImageEmbedder:
    return NotAnImageEmbedder(
        f"{folder} does not embed pictures and texts: {reason}.",
        hint="Give a CLIP model as sentence-transformers, transformers or OpenCLIP save it, or its name.",
    )
