"""Checkpoint families: what their config.json means, and where their tensors go in our transformer.

The decoder families share their tensor names and differ in what their configuration leaves unsaid, so each is
one `Family` in a table. BERT shares nothing with them and has functions of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from generator.errors import InvalidModelConfig, UnsupportedModel, WeightsMissing
from generator.model.config import ModelConfig
from generator.model.fields import ConfigFields
from generator.model.rope_config import rope_settings


class Placement(NamedTuple):
    """Where a checkpoint's tensor goes: a parameter of ours, and which of its rows (fused matrices)."""

    name: str
    start: int | None = None
    stop: int | None = None


WindowRule = Callable[[ConfigFields, tuple[bool, ...]], tuple[int | None, ...]]


@dataclass(frozen=True, slots=True)
class Family:
    """How one `model_type` departs from Llama, and the defaults of its absent fields."""

    qkv_bias: bool | None = None  # None: the field attention_bias decides
    output_bias: bool | None = None  # None: the field attention_bias decides
    qk_norm: bool = False
    num_kv_heads: int | None = None  # None: as many as query heads
    head_dim: int | None = None  # None: hidden size / heads
    rope_theta: float = 10_000.0
    tied_embeddings: bool = False
    rope_interval: int | None = None  # every n-th layer has no positions
    windows: WindowRule = lambda fields, rope_layers: ()


def _mistral_windows(fields: ConfigFields, rope_layers: tuple[bool, ...]) -> tuple[int | None, ...]:
    """All layers, unless sliding_window is null."""
    window = fields.optional_integer("sliding_window", 4096)
    return (window,) * fields.integer("num_hidden_layers") if window else ()


def _qwen_windows(fields: ConfigFields, rope_layers: tuple[bool, ...]) -> tuple[int | None, ...]:
    """The layers that layer_types names, or those from max_window_layers on; only with use_sliding_window."""
    if not fields.boolean("use_sliding_window", False):
        return ()
    first = fields.integer("max_window_layers", 28)
    return _typed_windows(
        fields, [layer >= first for layer in range(fields.integer("num_hidden_layers"))], 4096
    )


def _smollm3_windows(fields: ConfigFields, rope_layers: tuple[bool, ...]) -> tuple[int | None, ...]:
    """The layers that layer_types names, or those without positions; none without use_sliding_window."""
    if not fields.boolean("use_sliding_window", False):
        return ()
    return _typed_windows(fields, [not rope for rope in rope_layers], None)


def _typed_windows(
    fields: ConfigFields, slides: list[bool], default_window: int | None
) -> tuple[int | None, ...]:
    window = fields.optional_integer("sliding_window", default_window)
    if window is None:
        return ()
    if types := fields.array("layer_types"):
        slides = [kind == "sliding_attention" for kind in types]
    return tuple(window if slide else None for slide in slides)


FAMILIES: Mapping[str, Family] = {
    "llama": Family(),  # SmolLM and SmolLM2 are Llamas, too
    "mistral": Family(qkv_bias=False, output_bias=False, num_kv_heads=8, windows=_mistral_windows),
    "qwen2": Family(qkv_bias=True, output_bias=False, num_kv_heads=32, windows=_qwen_windows),
    "qwen3": Family(qk_norm=True, num_kv_heads=32, head_dim=128, windows=_qwen_windows),
    "smollm3": Family(
        num_kv_heads=4,
        rope_theta=2_000_000.0,
        tied_embeddings=True,
        rope_interval=4,
        windows=_smollm3_windows,
    ),
}


def decoder_config(data: Mapping[str, Any]) -> ModelConfig:
    """Our configuration of a Hugging Face config.json of any family in `FAMILIES`."""
    fields = ConfigFields(data)
    model_type = fields.text("model_type", "")
    family = FAMILIES.get(model_type)
    if family is None:
        raise UnsupportedModel(
            f"The model type {model_type!r} is not supported."
            if model_type
            else "The model's config.json does not say its model_type.",
            hint=f"Use a checkpoint of one of these types: {', '.join(FAMILIES)}.",
        )
    if fields.get("quantization_config") is not None:
        raise UnsupportedModel(
            "The checkpoint is quantised.",
            hint="Use the float32, bfloat16 or float16 release of the same model.",
        )
    if (activation := fields.text("hidden_act", "silu")) != "silu":
        raise UnsupportedModel(
            f"The activation {activation!r} is not supported for model type {model_type!r}."
        )
    heads, hidden = fields.integer("num_attention_heads"), fields.integer("hidden_size")
    attention_bias = fields.boolean("attention_bias", False)
    rope_layers = _rope_layers(fields, family)
    theta, scaling, max_positions = rope_settings(fields, family.rope_theta)
    return ModelConfig(
        vocab_size=fields.integer("vocab_size"),
        hidden_size=hidden,
        intermediate_size=fields.integer("intermediate_size"),
        num_layers=fields.integer("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=fields.optional_integer("num_key_value_heads", family.num_kv_heads) or heads,
        head_dim=fields.optional_integer("head_dim", family.head_dim) or hidden // max(heads, 1),
        max_positions=max_positions,
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        qk_norm=family.qk_norm,
        rope_theta=theta,
        rope_scaling=scaling,
        rope_layers=rope_layers if family.rope_interval else (),
        windows=family.windows(fields, rope_layers),
        qkv_bias=attention_bias if family.qkv_bias is None else family.qkv_bias,
        output_bias=attention_bias if family.output_bias is None else family.output_bias,
        mlp_bias=fields.boolean("mlp_bias", False),
        tied_embeddings=fields.boolean("tie_word_embeddings", family.tied_embeddings),
    )


def _rope_layers(fields: ConfigFields, family: Family) -> tuple[bool, ...]:
    num_layers = fields.integer("num_hidden_layers")
    if family.rope_interval is None:
        return (True,) * num_layers
    if (stated := fields.array("no_rope_layers")) is not None:  # despite its name, 1 means "has positions"
        return tuple(bool(flag) for flag in stated[:num_layers])
    interval = fields.integer("no_rope_layer_interval", family.rope_interval)
    return tuple((layer + 1) % interval != 0 for layer in range(num_layers))


def decoder_placements(config: ModelConfig) -> dict[str, Placement]:
    """Where each tensor of a decoder checkpoint goes, by Hugging Face name. Every entry must be present."""
    query, kv, inner = config.query_size, config.kv_size, config.intermediate_size
    modules = {
        "self_attn.q_proj": (Placement("attention.qkv", 0, query), config.qkv_bias),
        "self_attn.k_proj": (Placement("attention.qkv", query, query + kv), config.qkv_bias),
        "self_attn.v_proj": (Placement("attention.qkv", query + kv, query + 2 * kv), config.qkv_bias),
        "self_attn.o_proj": (Placement("attention.output"), config.output_bias),
        "mlp.gate_proj": (Placement("mlp.up", 0, inner), config.mlp_bias),
        "mlp.up_proj": (Placement("mlp.up", inner, 2 * inner), config.mlp_bias),
        "mlp.down_proj": (Placement("mlp.down"), config.mlp_bias),
        "input_layernorm": (Placement("attention_norm"), False),
        "post_attention_layernorm": (Placement("mlp_norm"), False),
    }
    if config.qk_norm:
        modules["self_attn.q_norm"] = (Placement("attention.query_norm"), False)
        modules["self_attn.k_norm"] = (Placement("attention.key_norm"), False)
    placements = {
        "model.embed_tokens.weight": Placement("embed_tokens.weight"),
        "model.norm.weight": Placement("norm.weight"),
    }
    if not config.tied_embeddings:
        placements["lm_head.weight"] = Placement("lm_head.weight")
    for layer in range(config.num_layers):
        for theirs, (ours, has_bias) in modules.items():
            for kind in ("weight", "bias") if has_bias else ("weight",):
                placements[f"model.layers.{layer}.{theirs}.{kind}"] = ours._replace(
                    name=f"layers.{layer}.{ours.name}.{kind}"
                )
    return placements


_BERT_EMBEDDINGS = {
    "embeddings.word_embeddings.weight": "embed_tokens.weight",
    "embeddings.position_embeddings.weight": "embed_positions.weight",
    "embeddings.LayerNorm.weight": "embed_norm.weight",
    "embeddings.LayerNorm.bias": "embed_norm.bias",
}
_BERT_LAYER = {  # query, key and value are stacked in this order
    "attention.self.query": "attention.qkv",
    "attention.self.key": "attention.qkv",
    "attention.self.value": "attention.qkv",
    "attention.output.dense": "attention.output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "mlp.up",
    "output.dense": "mlp.down",
    "output.LayerNorm": "mlp_norm",
}
_BERT_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
}


def bert_config(data: Mapping[str, Any]) -> ModelConfig:
    """Our configuration of a BertModel's config.json: a post-norm encoder with learned positions."""
    fields = ConfigFields(data)
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    activation = fields.text("hidden_act", "gelu")
    if activation not in _BERT_ACTIVATIONS:
        raise InvalidModelConfig(f"Unknown activation {activation!r} in a BERT configuration.")
    return ModelConfig(
        vocab_size=fields.integer("vocab_size"),
        hidden_size=hidden,
        intermediate_size=fields.integer("intermediate_size"),
        num_layers=fields.integer("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=hidden // max(heads, 1),
        max_positions=fields.integer("max_position_embeddings"),
        norm="layernorm",
        norm_placement="post",
        norm_eps=fields.number("layer_norm_eps", 1e-12),
        embedding_norm=True,
        positions="learned",
        mlp_gated=False,
        activation=_BERT_ACTIVATIONS[activation],
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        tied_embeddings=True,
    )


def bert_state(tensors: Mapping[str, torch.Tensor], config: ModelConfig) -> dict[str, torch.Tensor]:
    """A BertModel's tensors under our names, for `Transformer.load_state_dict`.

    Only segment 0 exists for us, so its token type embedding is added to every position. The pooler and the
    buffer of position ids are dropped. A `bert.` prefix (of BertFor... checkpoints) is accepted.
    """
    tensors = {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}
    state: dict[str, torch.Tensor] = {}
    try:
        for theirs, ours in _BERT_EMBEDDINGS.items():
            state[ours] = tensors[theirs]
        segment = tensors["embeddings.token_type_embeddings.weight"][0]
        state["embed_positions.weight"] = state["embed_positions.weight"] + segment
        for layer in range(config.num_layers):
            fused: dict[str, list[torch.Tensor]] = {}
            for theirs, ours in _BERT_LAYER.items():
                for kind in ("weight", "bias"):
                    tensor = tensors[f"encoder.layer.{layer}.{theirs}.{kind}"]
                    fused.setdefault(f"layers.{layer}.{ours}.{kind}", []).append(tensor)
            state.update({name: torch.cat(parts) for name, parts in fused.items()})
    except KeyError as error:
        raise WeightsMissing(f"The BERT checkpoint has no tensor {error}.") from error
    return state
