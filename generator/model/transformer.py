"""The transformer: embeddings, a stack of layers, a norm, a projection to the vocabulary.

One class serves Llama, Mistral, Qwen2, Qwen3, SmolLM and BERT-shaped encoders; `ModelConfig` says which parts
it has.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from generator.cache.kv_cache import KVCache
from generator.model.attention import Attention, AttentionContext, AttentionKernel, DenseContext, sdpa
from generator.model.config import ModelConfig
from generator.model.linear import Linear, linear
from generator.model.mlp import MLP
from generator.model.norm import build_norm
from generator.model.rope import RotaryEmbedding, Rotation


class Layer(nn.Module):
    """Attention and MLP with residuals; the norm comes before each (Llama) or after each sum (BERT)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.post_norm = config.norm_placement == "post"
        self.dropout = config.dropout
        self.attention = Attention(config, layer)
        self.attention_norm = build_norm(config)
        self.mlp = MLP(config)
        self.mlp_norm = build_norm(config)

    def forward(
        self, hidden: torch.Tensor, rotation: Rotation | None, context: AttentionContext
    ) -> torch.Tensor:
        """(B, T, hidden) to (B, T, hidden)."""
        if self.post_norm:
            hidden = self.attention_norm(hidden + self._drop(self.attention(hidden, rotation, context)))
            return self.mlp_norm(hidden + self._drop(self.mlp(hidden)))
        hidden = hidden + self._drop(self.attention(self.attention_norm(hidden), rotation, context))
        return hidden + self._drop(self.mlp(self.mlp_norm(hidden)))

    def _drop(self, branch: torch.Tensor) -> torch.Tensor:
        return F.dropout(branch, self.dropout) if self.training and self.dropout else branch


class Transformer(nn.Module):
    """Token ids to hidden states to logits.

    `forward` is `embed`, `run_layers`, `finish`; callers with their own idea of attention (a split encoder, a
    serving engine) call the pieces with their own `AttentionContext`.
    """

    def __init__(self, config: ModelConfig, *, kernel: AttentionKernel = sdpa) -> None:
        super().__init__()
        self.config = config
        self.kernel = kernel
        hidden = config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, hidden)
        self.embed_positions = (
            nn.Embedding(config.max_positions, hidden) if config.positions == "learned" else None
        )
        self.embed_norm = nn.LayerNorm(hidden, config.norm_eps) if config.embedding_norm else None
        self.layers = nn.ModuleList(Layer(config, layer) for layer in range(config.num_layers))
        # A post-norm stack already ends in a norm.
        self.norm = build_norm(config) if config.norm_placement == "pre" else None
        self.lm_head = None if config.tied_embeddings else Linear(hidden, config.vocab_size, bias=False)
        self.rope = RotaryEmbedding(config) if config.positions == "rope" else None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are."""
        return self.embed_tokens.weight.dtype

    def forward(
        self,
        token_ids: torch.Tensor,
        *,
        positions: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        cache: KVCache | None = None,
    ) -> torch.Tensor:
        """Hidden states (B, T, H) of `token_ids` (B, T).

        `positions` (B or 1, T) default to what follows the cache, or to 0..T-1. `mask` is boolean
        (B or 1, 1, T, S), True = may attend; None means causal within each layer's window, a given mask is
        taken as it is. With a `cache`, S counts the stored tokens too and every row grows by T; a caller that
        padded rows on the right then truncates the cache to the true lengths.
        """
        if positions is None:
            positions = self._next_positions(token_ids, cache)
        context = DenseContext(self.config, self.kernel, mask=mask, cache=cache)
        hidden = self.run_layers(self.embed(token_ids, positions), positions, context)
        if cache is not None:
            cache.advance(token_ids.shape[1])
        return self.finish(hidden)

    def embed(self, token_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Input states (B, T, H) of the first layer."""
        hidden = self.embed_tokens(token_ids)
        if self.embed_positions is not None:
            hidden = hidden + self.embed_positions(positions)
        if self.embed_norm is not None:
            hidden = self.embed_norm(hidden)
        if self.training and self.config.dropout:
            hidden = F.dropout(hidden, self.config.dropout)
        return hidden

    def run_layers(
        self,
        hidden: torch.Tensor,
        positions: torch.Tensor,
        context: AttentionContext,
        *,
        first: int = 0,
        last: int | None = None,
    ) -> torch.Tensor:
        """Run layers [first, last) on (B, T, H)."""
        rotation = self.rope.rotation(positions) if self.rope is not None else None
        for layer in self.layers[first:last]:
            hidden = layer(hidden, rotation, context)
        return hidden

    def finish(self, hidden: torch.Tensor) -> torch.Tensor:
        """Apply the final norm where the architecture has one."""
        return self.norm(hidden) if self.norm is not None else hidden

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits (..., vocabulary) of hidden states (..., H) that `forward` returned."""
        return linear(hidden, self.embed_tokens.weight) if self.lm_head is None else self.lm_head(hidden)

    @torch.no_grad()
    def initialise(self, *, std: float = 0.02, generator: torch.Generator | None = None) -> None:
        """Fresh weights for training from scratch: N(0, std) matrices, zero biases, unit norms."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.normal_(0.0, std, generator=generator)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()

    def _next_positions(self, token_ids: torch.Tensor, cache: KVCache | None) -> torch.Tensor:
        """(1, T) where all rows are equally far, else (B, T)."""
        steps = torch.arange(token_ids.shape[1], device=token_ids.device)
        if cache is None:
            return steps[None]
        if cache.uniform:
            return steps[None] + cache.lengths[0]
        return steps + torch.tensor(cache.lengths, device=token_ids.device)[:, None]
