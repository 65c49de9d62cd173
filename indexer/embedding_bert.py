"""Texts into vectors without importing sentence-transformers, for BERT with mean or first-token pooling.

The library takes seconds and 300 MB to import, mostly parts that an embedding never uses; a question from the
shell should not wait for it, nor an ingest hold it. This is the same computation on the same weights (a test
holds it to 1e-5) on the CPU; other architectures and devices go through the library.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from indexer.embedding_errors import NotAnEmbedder
from indexer.embedding_model import ModelDescription
from indexer.packed_linear import Linear
from indexer.token_rows import AttentionGroup, TokenRows, lay_out

if TYPE_CHECKING:
    import numpy as np
    import torch
    from tokenizers import Encoding

_SUPPORTED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
# In bfloat16, attention takes twice as long for lengths that are no multiple of the processor's vectors, and
# a linear layer is compiled for each number of rows that it has not seen, which takes longer than running it.
_LENGTH_MULTIPLE = 16
_ROWS_MULTIPLE = 128
_MOST_ROWS = 1024  # that go through a layer's second half together: what is between stays in the cache
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


class _Affine(NamedTuple):
    """The weights of a normalisation."""

    weight: torch.Tensor
    bias: torch.Tensor

    def to(self, dtype: torch.dtype) -> _Affine:
        return _Affine(self.weight.to(dtype), self.bias.to(dtype))


class _Layer(NamedTuple):
    projection: Linear  # queries, keys and values in one: (3H, H), (3H,)
    attention_output: Linear
    attention_norm: _Affine
    inner: Linear
    output: Linear
    norm: _Affine


class BertEncoder:
    """The forward pass on the CPU. Threads may share it.

    Token embeddings are looked up, and vectors pooled, in float32; the layers compute in `dtype`.
    """

    def __init__(self, description: ModelDescription, shape: BertShape) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        self.dtype = "float32"
        self._shape = shape
        try:
            weights = load_file(description.folder / "model.safetensors")
        except (OSError, SafetensorError) as error:
            raise NotAnEmbedder(
                f"The weights in {description.folder} cannot be read: {error}.",
                hint="Install the model again.",
            ) from error
        try:
            self._take({name.removeprefix("bert."): tensor.float() for name, tensor in weights.items()})
        except KeyError as error:
            raise NotAnEmbedder(
                f"The weights in {description.folder} lack {error}.", hint="Install the model again."
            ) from error
        self._tokenizer = Tokenizer.from_file(str(description.tokenizer_path))
        self._tokenizer.enable_truncation(description.max_length)
        self._tokenizer.no_padding()

    def _take(self, weights: Mapping[str, torch.Tensor]) -> None:
        self._word_embeddings = weights["embeddings.word_embeddings.weight"]  # (vocab, H)
        self._position_embeddings = weights["embeddings.position_embeddings.weight"]  # (positions, H)
        self._type_embedding = weights["embeddings.token_type_embeddings.weight"][0]  # (H,)
        self._embedding_norm = _affine(weights, "embeddings.LayerNorm")
        names = [f"encoder.layer.{number}" for number in range(self._shape.num_layers)]
        self._layers = [_read_layer(weights, name) for name in names]

    def to(self, dtype: str) -> Self:
        """One that computes its layers in another dtype, such as "bfloat16", and shares everything else."""
        import torch

        other = copy.copy(self)
        other.dtype = dtype
        number_format = getattr(torch, dtype)
        other._layers = [_Layer(*(part.to(number_format) for part in layer)) for layer in self._layers]
        return other

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(n, hidden size) float32 rows, pooled but not normalised."""
        import torch

        with torch.inference_mode():
            states = [states for states, _ in self._run(texts)]  # (T, H) each
            pool = (
                (lambda rows: rows[0]) if self._shape.pools_first_token else (lambda rows: rows.mean(dim=0))
            )
            return torch.stack([pool(rows) for rows in states]).numpy()

    def encode_tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        """(tokens, hidden size) float32 rows of each text, special tokens left out, not normalised."""
        import torch

        with torch.inference_mode():
            return [
                rows[torch.tensor(encoding.special_tokens_mask) == 0].numpy()
                for rows, encoding in self._run(texts)
            ]

    def _run(self, texts: Sequence[str]) -> list[tuple[torch.Tensor, Encoding]]:
        """The (T, H) float32 hidden states of each text, and its tokens."""
        encodings = self._tokenizer.encode_batch(list(texts))
        is_exact = self.dtype == "float32"
        tokens = lay_out(
            [encoding.ids for encoding in encodings],
            length_multiple=1 if is_exact else _LENGTH_MULTIPLE,
            rows_multiple=1 if is_exact else _ROWS_MULTIPLE,
        )
        hidden = self._hidden(tokens).float()
        return [(hidden[rows], encoding) for rows, encoding in zip(tokens.texts, encodings, strict=True)]

    def _hidden(self, tokens: TokenRows) -> torch.Tensor:
        """(R, H) hidden states; any numbers in rows that are no token's."""
        import torch

        positions = tokens.positions.clamp(max=len(self._position_embeddings) - 1)  # of padding
        rows = self._word_embeddings[tokens.token_ids]  # (R, H)
        rows += (self._position_embeddings + self._type_embedding)[positions]
        rows = self._norm(rows, self._embedding_norm).to(getattr(torch, self.dtype))
        for layer in self._layers:
            rows = self._layer(rows, tokens.groups, layer)
        return rows

    def _layer(self, rows: torch.Tensor, groups: Sequence[AttentionGroup], layer: _Layer) -> torch.Tensor:
        """(R, H) to the same."""
        import torch

        result = torch.empty_like(rows)
        projected = layer.projection(rows)  # (R, 3H)
        attended = torch.zeros_like(rows)
        for group in groups:
            attended[group.rows] = self._attended(projected[group.rows], group)
        for start in range(0, len(rows), _MOST_ROWS):
            part = slice(start, start + _MOST_ROWS)
            hidden = self._norm(layer.attention_output.plus(attended[part], rows[part]), layer.attention_norm)
            inner = layer.inner.gelu(hidden)
            result[part] = self._norm(layer.output.plus(inner, hidden), layer.norm)
        return result

    def _attended(self, projected: torch.Tensor, group: AttentionGroup) -> torch.Tensor:
        """(N, 3H) queries, keys and values to (N, H) of what they attend to."""
        from torch.nn.functional import scaled_dot_product_attention

        num_places = group.num_texts * group.length
        if group.places is not None:
            rows, projected = projected, projected.new_zeros(num_places, projected.shape[1])
            projected.index_copy_(0, group.places, rows)
        heads = projected.view(group.num_texts, group.length, 3, self._shape.num_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (B, heads, T, D) each
        attended = scaled_dot_product_attention(query, key, value, attn_mask=group.mask)
        attended = attended.transpose(1, 2).reshape(num_places, -1)
        return attended if group.places is None else attended.index_select(0, group.places)

    def _norm(self, hidden: torch.Tensor, norm: _Affine) -> torch.Tensor:
        from torch.nn.functional import layer_norm

        return layer_norm(hidden, norm.weight.shape, norm.weight, norm.bias, self._shape.norm_epsilon)


def _linear(weights: Mapping[str, torch.Tensor], *names: str) -> Linear:
    """Several layers with the same input are one with their outputs side by side."""
    import torch

    parts = [_affine(weights, name) for name in names]
    return Linear(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))


def _affine(weights: Mapping[str, torch.Tensor], name: str) -> _Affine:
    return _Affine(weights[f"{name}.weight"], weights[f"{name}.bias"])


def _read_layer(weights: Mapping[str, torch.Tensor], name: str) -> _Layer:
    attention = f"{name}.attention"
    return _Layer(
        projection=_linear(weights, *(f"{attention}.self.{part}" for part in ("query", "key", "value"))),
        attention_output=_linear(weights, f"{attention}.output.dense"),
        attention_norm=_affine(weights, f"{attention}.output.LayerNorm"),
        inner=_linear(weights, f"{name}.intermediate.dense"),
        output=_linear(weights, f"{name}.output.dense"),
        norm=_affine(weights, f"{name}.output.LayerNorm"),
    )


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _legacy_pooling_mode(config: Mapping[str, Any]) -> str:
    """The one pooling mode switched on in the older form of the configuration; "" if there are several."""
    modes = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    active = [name for name, value in config.items() if name.startswith("pooling_mode_") and value]
    return modes.get(active[0], "") if len(active) == 1 else ""
