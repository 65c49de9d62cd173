"""The shape of a transformer: everything that distinguishes a Llama from a Qwen from a BERT, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from generator.errors import InvalidModelConfig


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the length a checkpoint was pretrained on."""

    kind: Literal["linear", "llama3", "yarn"]
    factor: float
    original_max_positions: int = 0  # llama3, yarn: the pretraining length
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0  # llama3
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0  # yarn
    attention_factor: float | None = None  # yarn; None derives it from factor (and mscale when given)
    mscale: float | None = None  # yarn
    mscale_all_dim: float | None = None  # yarn
    truncate: bool = True  # yarn: round the correction range to whole dimensions

    def __post_init__(self) -> None:
        if self.factor <= 0:
            raise InvalidModelConfig(f"The rotary scaling factor is {self.factor}, but must be above 0.")
        if self.kind in ("llama3", "yarn") and self.original_max_positions < 1:
            raise InvalidModelConfig(f"The rotary scaling {self.kind} needs original_max_positions.")
        if self.kind == "llama3" and self.high_freq_factor <= self.low_freq_factor:
            raise InvalidModelConfig(
                "The rotary scaling llama3 needs high_freq_factor above low_freq_factor."
            )


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Dimensions and variants of one transformer.

    The defaults are Llama's; `families.bert_config` shows the other end.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int  # context length in tokens

    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_placement: Literal["pre", "post"] = "pre"
    norm_eps: float = 1e-6
    qk_norm: bool = False  # RMSNorm over each head of query and key, before RoPE (Qwen3)
    embedding_norm: bool = False  # LayerNorm right after the embeddings (BERT)

    positions: Literal["rope", "learned"] = "rope"
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    rope_layers: tuple[bool, ...] = ()  # per layer; empty: all (SmolLM3 leaves some without positions)

    windows: tuple[int | None, ...] = ()  # per layer, tokens seen back including itself; empty: no window
    mlp_gated: bool = True
    activation: Literal["silu", "gelu", "gelu_tanh"] = "silu"
    qkv_bias: bool = False
    output_bias: bool = False  # of the attention's output projection
    mlp_bias: bool = False
    tied_embeddings: bool = False
    dropout: float = 0.0  # training only: on the embeddings and on each residual branch

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise InvalidModelConfig(f"{name} is {getattr(self, name)}, but must be at least 1.")
        if self.num_heads % self.num_kv_heads:
            raise InvalidModelConfig(
                f"num_heads ({self.num_heads}) is not a multiple of num_kv_heads ({self.num_kv_heads})."
            )
        if self.positions == "rope" and self.head_dim % 2:
            raise InvalidModelConfig(f"head_dim is {self.head_dim}, but rotary positions need an even one.")
        if self.positions == "rope" and self.rope_theta <= 1:
            raise InvalidModelConfig(f"rope_theta is {self.rope_theta}, but must be above 1.")
        for name in ("rope_layers", "windows"):
            if (given := len(getattr(self, name))) not in (0, self.num_layers):
                raise InvalidModelConfig(f"{name} has {given} entries for {self.num_layers} layers.")
        if any(window is not None and window < 1 for window in self.windows):
            raise InvalidModelConfig("A sliding window must be at least 1 token wide.")

    @property
    def query_size(self) -> int:
        """Width of all query heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key (or value) heads together."""
        return self.num_kv_heads * self.head_dim

    def window(self, layer: int) -> int | None:
        """Sliding window of a layer in tokens, None where it sees everything before it."""
        return self.windows[layer] if self.windows else None

    def uses_rope(self, layer: int) -> bool:
        """Whether a layer rotates its queries and keys."""
        return self.positions == "rope" and (not self.rope_layers or self.rope_layers[layer])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready mapping that `from_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelConfig:
        """Rebuild a configuration from `to_dict`; unknown and missing keys are errors."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise InvalidModelConfig(f"Unknown model configuration keys: {', '.join(unknown)}.")
        values = dict(data)
        try:
            if values.get("rope_scaling") is not None:
                values["rope_scaling"] = RopeScaling(**values["rope_scaling"])
            for name in ("rope_layers", "windows"):
                values[name] = tuple(values.get(name, ()))
            return cls(**values)
        except TypeError as error:
            raise InvalidModelConfig(f"The model configuration does not fit: {error}.") from error


_POSITIVE = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_layers",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "max_positions",
)
