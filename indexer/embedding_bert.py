"""Questions into vectors without importing sentence-transformers, for BERT with mean or first-token pooling.

The library takes seconds and 300 MB to import, mostly parts that an embedding never uses; a question from the
shell should not wait for it. This is the same computation on the same weights (a test holds it to 1e-5), in
float32 on the CPU; other architectures, devices and dtypes go through the library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.embedding_errors import NotAnEmbedder
from indexer.embedding_model import ModelDescription

if TYPE_CHECKING:
    import numpy as np
    import torch

_SUPPORTED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
_DEFAULTS = {"position_embedding_type": "absolute", "layer_norm_eps": 1e-12}


@dataclass(frozen=True, slots=True)
class BertShape:
    """What of the configuration the computation depends on."""

    num_layers: int
    num_heads: int
    norm_epsilon: float
    pools_first_token: bool


def bert_shape(description: ModelDescription) -> BertShape | None:
    """The model's shape if it is one that `BertEncoder` computes, else None."""
    if description.module_types not in (("Transformer", "Pooling"), ("Transformer", "Pooling", "Normalize")):
        return None
    folder = description.folder
    weights = folder / "model.safetensors"
    config = _DEFAULTS | _read(folder / "config.json")
    pooling = _read(folder / description.module_paths[1] / "config.json")
    mode = pooling.get("pooling_mode") or _legacy_pooling_mode(pooling)
    if (
        description.module_paths[0]
        or not weights.is_file()
        or any(config.get(name) != value for name, value in _SUPPORTED.items())
        or config.get("is_decoder")
        or mode not in ("mean", "cls")
        or not pooling.get("include_prompt", True)
    ):
        return None
    return BertShape(
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        norm_epsilon=config["layer_norm_eps"],
        pools_first_token=mode == "cls",
    )


class BertEncoder:
    """The forward pass, in float32 on the CPU. Threads may share it."""

    def __init__(self, description: ModelDescription, shape: BertShape) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        self._shape = shape
        try:
            weights = load_file(description.folder / "model.safetensors")
        except (OSError, SafetensorError) as error:
            raise NotAnEmbedder(
                f"The weights in {description.folder} cannot be read: {error}.",
                hint="Install the model again.",
            ) from error
        self._weights = {name.removeprefix("bert."): tensor.float() for name, tensor in weights.items()}
        self._tokenizer = Tokenizer.from_file(str(description.tokenizer_path))
        self._tokenizer.enable_truncation(description.max_length)
        self._tokenizer.enable_padding()  # with whatever token: padding is masked

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(n, hidden size) float32 rows, pooled but not normalised."""
        import torch

        with torch.inference_mode():
            hidden, mask, _ = self._run(texts)  # (B, T, H), (B, T)
            if self._shape.pools_first_token:
                return hidden[:, 0].numpy()
            weights = mask[:, :, None].float()
            return ((hidden * weights).sum(dim=1) / weights.sum(dim=1)).numpy()

    def encode_tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        """(tokens, hidden size) float32 rows of each text, special tokens left out, not normalised."""
        import torch

        with torch.inference_mode():
            hidden, mask, special = self._run(texts)
            return [rows[kept].numpy() for rows, kept in zip(hidden, mask & ~special, strict=True)]

    def _run(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, T, H) hidden states, (B, T) bool which are no padding, (B, T) bool which are special."""
        import torch

        encodings = self._tokenizer.encode_batch(list(texts))
        token_ids = torch.tensor([encoding.ids for encoding in encodings])  # (B, T)
        mask = torch.tensor([encoding.attention_mask for encoding in encodings], dtype=torch.bool)
        special = torch.tensor([encoding.special_tokens_mask for encoding in encodings], dtype=torch.bool)
        return self._hidden(token_ids, mask), mask, special

    def _hidden(self, token_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = self._weights
        positions = weights["embeddings.position_embeddings.weight"][: token_ids.shape[1]]
        hidden = weights["embeddings.word_embeddings.weight"][token_ids] + positions
        hidden = self._norm(hidden + weights["embeddings.token_type_embeddings.weight"][0], "embeddings")
        for number in range(self._shape.num_layers):
            hidden = self._layer(hidden, mask, f"encoder.layer.{number}")
        return hidden

    def _layer(self, hidden: torch.Tensor, mask: torch.Tensor, name: str) -> torch.Tensor:
        from torch.nn.functional import gelu, scaled_dot_product_attention

        query, key, value = (
            self._linear(hidden, f"{name}.attention.self.{part}")
            .unflatten(-1, (self._shape.num_heads, -1))
            .transpose(1, 2)  # (B, heads, T, D)
            for part in ("query", "key", "value")
        )
        attended = scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        attended = self._linear(attended.transpose(1, 2).flatten(2), f"{name}.attention.output.dense")
        hidden = self._norm(hidden + attended, f"{name}.attention.output")
        inner = gelu(self._linear(hidden, f"{name}.intermediate.dense"))
        return self._norm(hidden + self._linear(inner, f"{name}.output.dense"), f"{name}.output")

    def _linear(self, hidden: torch.Tensor, name: str) -> torch.Tensor:
        from torch.nn.functional import linear

        return linear(hidden, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, hidden: torch.Tensor, name: str) -> torch.Tensor:
        from torch.nn.functional import layer_norm

        weight, bias = (self._weights[f"{name}.LayerNorm.{part}"] for part in ("weight", "bias"))
        return layer_norm(hidden, weight.shape, weight, bias, self._shape.norm_epsilon)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _legacy_pooling_mode(config: Mapping[str, Any]) -> str:
    """The one pooling mode switched on in the older form of the configuration; "" if there are several."""
    modes = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    active = [name for name, value in config.items() if name.startswith("pooling_mode_") and value]
    return modes.get(active[0], "") if len(active) == 1 else ""
