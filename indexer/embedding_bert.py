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

if TYPE_CHECKING:
    import numpy as np
    import torch

_SUPPORTED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
# In bfloat16, attention takes twice as long for lengths that are no multiple of the processor's vectors, and
# a linear layer is compiled for each number of rows that it has not seen, which takes longer than running it.
_LENGTH_MULTIPLE = 16
_ROWS_MULTIPLE = 128
_LEAST_DENSITY = 0.9  # the share of tokens above which leaving padding out costs more than computing it
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


class _Texts(NamedTuple):
    """Where a batch of texts is in the N rows that the layers compute."""

    num_texts: int  # B
    length: int  # T
    mask: torch.Tensor | None  # (B, 1, 1, T) bool: what is attended to; None: there is no padding
    places: (
        torch.Tensor | None
    )  # (N,): of each row among the B T; None: all are rows, and padding is computed


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
        self._tokenizer.enable_padding()  # with whatever token: padding is masked

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
            hidden, mask, _ = self._run(texts)  # (B, T, H), (B, T)
            if self._shape.pools_first_token:
                return hidden[:, 0].numpy()
            weights = mask.float()
            sums = torch.bmm(weights[:, None], hidden)[:, 0]  # (B, H)
            return (sums / weights.sum(dim=1, keepdim=True)).numpy()

    def encode_tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        """(tokens, hidden size) float32 rows of each text, special tokens left out, not normalised."""
        import torch

        with torch.inference_mode():
            hidden, mask, special = self._run(texts)
            return [rows[kept].numpy() for rows, kept in zip(hidden, mask & ~special, strict=True)]

    def _run(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, T, H) float32 hidden states; (B, T) bool, which are no padding, and which are special."""
        import torch

        encodings = self._tokenizer.encode_batch(list(texts))
        token_ids = torch.tensor([encoding.ids for encoding in encodings])  # (B, T)
        mask = torch.tensor([encoding.attention_mask for encoding in encodings], dtype=torch.bool)
        special = torch.tensor([encoding.special_tokens_mask for encoding in encodings], dtype=torch.bool)
        return self._hidden(token_ids, mask).float(), mask, special

    def _hidden(self, token_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T, H) hidden states; where there is padding, any numbers."""
        import torch
        from torch.nn.functional import pad

        num_texts, num_tokens = token_ids.shape
        texts = self._texts(mask)
        positions = self._position_embeddings[:num_tokens] + self._type_embedding  # (T, H)
        rows = pad(
            self._word_embeddings[token_ids] + positions, (0, 0, 0, texts.length - num_tokens)
        ).flatten(0, 1)
        if texts.places is not None:
            rows = rows.index_select(0, texts.places)
        rows = self._norm(rows, self._embedding_norm).to(getattr(torch, self.dtype))  # (N, H)
        rows = _filled_up(rows, self._num_rows(len(rows)))  # (R, H)
        for layer in self._layers:
            rows = self._layer(rows, texts, layer)
        return _padded(rows, texts).view(num_texts, texts.length, -1)[:, :num_tokens]

    def _texts(self, mask: torch.Tensor) -> _Texts:
        from torch.nn.functional import pad

        num_texts, length = mask.shape
        if self.dtype != "float32":
            filling = -length % _LENGTH_MULTIPLE
            mask, length = pad(mask, (0, filling)), length + filling
        places = mask.flatten().nonzero()[:, 0]
        return _Texts(
            num_texts=num_texts,
            length=length,
            mask=mask[:, None, None, :] if len(places) < mask.numel() else None,
            places=places if len(places) < _LEAST_DENSITY * mask.numel() else None,
        )

    def _num_rows(self, num_tokens: int) -> int:
        """Rows to compute for so many tokens: one of a few numbers."""
        if self.dtype == "float32":
            return num_tokens
        multiple = min(_ROWS_MULTIPLE, 1 << (num_tokens - 1).bit_length())
        return -(-num_tokens // multiple) * multiple

    def _layer(self, rows: torch.Tensor, texts: _Texts, layer: _Layer) -> torch.Tensor:
        """(R, H) to the same; the first N are the texts', the others fill up."""
        import torch

        result = torch.empty_like(rows)
        attended = self._attended(layer.projection(rows), texts)
        for start in range(0, len(rows), _MOST_ROWS):
            part = slice(start, start + _MOST_ROWS)
            hidden = self._norm(layer.attention_output.plus(attended[part], rows[part]), layer.attention_norm)
            inner = layer.inner.gelu(hidden)
            result[part] = self._norm(layer.output.plus(inner, hidden), layer.norm)
        return result

    def _attended(self, projected: torch.Tensor, texts: _Texts) -> torch.Tensor:
        """(R, 3H) queries, keys and values to (R, H) of what they attend to."""
        from torch.nn.functional import scaled_dot_product_attention

        heads = _padded(projected, texts).view(texts.num_texts, texts.length, 3, self._shape.num_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (B, heads, T, D) each
        attended = scaled_dot_product_attention(query, key, value, attn_mask=texts.mask)
        attended = attended.transpose(1, 2).flatten(2).flatten(0, 1)  # (B T, H)
        if texts.places is not None:
            attended = attended.index_select(0, texts.places)  # (N, H)
        return _filled_up(attended, len(projected))

    def _norm(self, hidden: torch.Tensor, norm: _Affine) -> torch.Tensor:
        from torch.nn.functional import layer_norm

        return layer_norm(hidden, norm.weight.shape, norm.weight, norm.bias, self._shape.norm_epsilon)


def _padded(rows: torch.Tensor, texts: _Texts) -> torch.Tensor:
    """The first N of (R, width) rows at their places among (B T, width)."""
    num_places = texts.num_texts * texts.length
    if texts.places is None:
        return rows[:num_places]
    return rows.new_zeros(num_places, rows.shape[1]).index_copy_(0, texts.places, rows[: len(texts.places)])


def _filled_up(rows: torch.Tensor, num_rows: int) -> torch.Tensor:
    """(N, width) rows as (num_rows, width), zeros after them."""
    from torch.nn.functional import pad

    return rows if len(rows) == num_rows else pad(rows, (0, 0, 0, num_rows - len(rows)))


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
