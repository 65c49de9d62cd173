"""Reranking by a cross-encoder: a model that reads query and passage together, and says how well they fit."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.embedding_errors import ModelNotFound
from indexer.embedding_loading import DTYPES, no_progress_bars
from indexer.embedding_model import find_model, sampled_weights_digest
from indexer.hardware import resolve_device
from indexer.lazy import Lazy
from retriever.errors import InvalidRetrievalSettings, RerankerNotFound

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_ORGANISATION = "cross-encoder"  # where the hub keeps those that are named without one
_MARKER = "config.json"  # no snapshot of a cross-encoder is whole without it
_PAIRS_PER_BATCH = 32


class CrossEncoderReranker:
    """Any sentence-transformers CrossEncoder with one score a pair: a folder or a hub name.

    Opening looks at files only (a hub name that is not in the local cache is downloaded); the weights are
    read when something is first reranked. Threads may share it; they take turns.
    """

    def __init__(
        self, name_or_path: str, *, device: str = "auto", dtype: str = "auto", max_length: int | None = None
    ) -> None:
        """`max_length`: tokens of query and passage together that are read; None: what the model states.

        `dtype`: auto (what the files hold), float32, bfloat16 or float16. Raises RerankerNotFound, and
        InvalidRetrievalSettings for another dtype.
        """
        if dtype not in DTYPES:
            raise InvalidRetrievalSettings(
                f"There is no dtype {dtype!r}.", hint=f"Choose one of {', '.join(DTYPES)}."
            )
        try:
            folder = find_model(name_or_path, organisation=_ORGANISATION, marker=_MARKER)
        except ModelNotFound as error:
            raise RerankerNotFound(error.message, hint=error.hint) from error
        if not (folder / _MARKER).is_file():
            raise _unusable(folder, "it has no config.json")
        self._folder = folder
        self._device = device
        self._dtype = dtype
        self._max_length = max_length
        self._model = Lazy(self._load)
        self._running = threading.Lock()  # one batch at a time: torch has its own threads
        digest = sampled_weights_digest(folder)
        if not digest:
            raise _unusable(folder, "it has no weights in safetensors format")
        self.name = f"the cross-encoder {Path(name_or_path).name}"
        self.fingerprint = f"cross-encoder-{digest[:16]}-{max_length or 'default'}-{dtype}"

    @property
    def is_loaded(self) -> bool:
        """Whether the weights were read."""
        return self._model.peek() is not None

    def scores(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """(n,) float32: what the model makes of each pair, through the activation that it was saved with."""
        if not texts:
            return np.zeros(0, np.float32)
        model = self._model.get()
        with self._running:
            found = model.predict(
                [(query, text) for text in texts],
                batch_size=_PAIRS_PER_BATCH,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
        return np.asarray(found, np.float32)

    def _load(self) -> CrossEncoder:
        import torch
        from safetensors import SafetensorError
        from sentence_transformers import CrossEncoder

        options: dict[str, Any] = {"use_safetensors": True}
        options["dtype"] = "auto" if self._dtype == "auto" else getattr(torch, self._dtype)
        try:
            with no_progress_bars():
                model = CrossEncoder(
                    str(self._folder),
                    device=resolve_device(self._device),
                    max_length=self._max_length,
                    local_files_only=True,
                    trust_remote_code=False,
                    model_kwargs=options,
                )
        except (
            SafetensorError,
            OSError,
            LookupError,
            RuntimeError,
            ImportError,
            TypeError,
            ValueError,
        ) as error:
            raise _unusable(self._folder, str(error).strip().split("\n")[0]) from error
        if model.num_labels != 1:
            raise _unusable(self._folder, f"it gives {model.num_labels} scores a pair instead of one")
        return model


def _unusable(folder: Path, reason: str) -> RerankerNotFound:
    return RerankerNotFound(
        f"{folder} is not a cross-encoder that ranks: {reason}.",
        hint="Give a folder saved by sentence-transformers' CrossEncoder with one label, or the name of one.",
    )
