"""The reader: a prefix-LM with a pointer, a span head and a null score, on our own transformer.

One row holds one passage read together with the question, `[CLS] question [SEP] passage [SEP]`, seen in
both directions, and behind it the answer, generated causally over the same keys and values. Three heads:

- the *span head* scores every passage token as first and as last token of the answer; [CLS] plays the part
  of "no answer here", so scores of different passages are comparable as odds against their own null;
- the *vocabulary head* (tied to the word embeddings) and the *pointer head* (attention from an answer token
  to the passage's tokens) are mixed by a gate into one distribution over the next answer token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from generator.model.attention import AttentionKernel, sdpa
from generator.model.config import ModelConfig
from generator.model.transformer import Transformer

NEVER = -1e9
"""Score of what must not be chosen; finite, so that a row of nothing else still has a softmax."""
_ROWS = 32  # N is rounded up to a multiple of it


@dataclass(frozen=True, slots=True)
class ReaderConfig:
    """Shape of a reader: its transformer and what surrounds it."""

    model: ModelConfig
    pointer_size: int = 128
    max_question_tokens: int = 64
    max_answer_tokens: int = 24  # generated; the last positions of the table are theirs

    @property
    def max_prefix_tokens(self) -> int:
        """Room for question, passage and the three special tokens."""
        return self.model.max_positions - self.max_answer_tokens

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready mapping that `from_dict` reads back."""
        return {**asdict(self), "model": self.model.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ReaderConfig:
        """Rebuild from `to_dict`."""
        return cls(**{**data, "model": ModelConfig.from_dict(data["model"])})


class Memory(NamedTuple):
    """What has been read: hidden states of the prefix, and which of its tokens may be copied."""

    hidden: torch.Tensor  # (B, P, H)
    token_ids: torch.Tensor  # (B, P)
    copyable: torch.Tensor  # (B, P) bool: the passage's tokens


class ReaderModel(nn.Module):
    """Transformer and heads; knows nothing of text."""

    def __init__(self, config: ReaderConfig, *, kernel: AttentionKernel = sdpa) -> None:
        super().__init__()
        self.config = config
        hidden = config.model.hidden_size
        self.transformer = Transformer(config.model, kernel=kernel)
        self.span_head = nn.Linear(hidden, 2)
        self.pointer_query = nn.Linear(hidden, config.pointer_size)
        self.pointer_key = nn.Linear(hidden, config.pointer_size)
        self.pointer_gate = nn.Linear(hidden, 1)
        self.vocabulary_transform = nn.Linear(hidden, hidden)
        self.vocabulary_norm = nn.LayerNorm(hidden, config.model.norm_eps)

    @torch.no_grad()
    def initialise_heads(self, *, std: float = 0.02, generator: torch.Generator | None = None) -> None:
        """Fresh heads on a given transformer; the vocabulary transform starts as identity."""
        for module in (self.span_head, self.pointer_query, self.pointer_key, self.pointer_gate):
            module.weight.normal_(0.0, std, generator=generator)
            module.bias.zero_()
        self.vocabulary_transform.weight.copy_(torch.eye(self.config.model.hidden_size))
        self.vocabulary_transform.bias.zero_()

    def answer_positions(self, num_tokens: int) -> torch.Tensor:
        """(1, T): answers live at the end of the position table, however long the prefix is."""
        first = self.config.max_prefix_tokens
        return torch.arange(first, first + num_tokens, device=self.transformer.device)[None]

    def span_scores(self, memory: Memory) -> tuple[torch.Tensor, torch.Tensor]:
        """Start and end scores, (B, P) each; only the passage's tokens and [CLS] (null, index 0) can win."""
        allowed = memory.copyable.clone()
        allowed[:, 0] = True
        scores = self.span_head(memory.hidden).float().masked_fill(~allowed[..., None], NEVER)
        return scores[..., 0], scores[..., 1]

    def pointer_log_probs(self, answer_hidden: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Log probability (B, T, P) that the next answer token is copied from each prefix token."""
        query = self.pointer_query(answer_hidden) * self.config.pointer_size**-0.5
        scores = torch.matmul(query, self.pointer_key(memory.hidden).transpose(-1, -2)).float()
        scores = scores.masked_fill(~memory.copyable[:, None, :], NEVER)
        return torch.log_softmax(scores, dim=-1)

    def token_log_probs(
        self,
        answer_hidden: torch.Tensor,
        targets: torch.Tensor,
        memory: Memory,
        pointer_log_probs: torch.Tensor,
        *,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Log probability (B, T) of `targets` (B, T) under the mixture of vocabulary and pointer.

        Only where `mask` (B, T) is True, if given: the vocabulary's softmax is wide, and most of a padded
        batch of answers is padding.
        """
        mask = torch.ones_like(targets, dtype=torch.bool) if mask is None else mask
        # (N, vocabulary) for the N tokens asked for
        chosen, wanted = answer_hidden[mask], targets[mask]
        # Rows of zeros round N up to few sizes: oneDNN builds its kernels anew for every shape.
        padding = -len(chosen) % _ROWS
        log_probs = self.vocabulary_log_probs(F.pad(chosen, (0, 0, 0, padding)))
        log_probs = log_probs.gather(-1, F.pad(wanted, (0, padding))[:, None])[: len(chosen)]
        vocabulary = torch.zeros(targets.shape, device=log_probs.device)
        vocabulary = vocabulary.masked_scatter(mask, log_probs)
        same = memory.token_ids[:, None, :] == targets[..., None]
        copied = pointer_log_probs.masked_fill(~same, NEVER).logsumexp(dim=-1)
        gate = self.pointer_gate(answer_hidden).squeeze(-1).float()
        return torch.logaddexp(F.logsigmoid(gate) + copied, F.logsigmoid(-gate) + vocabulary)

    def next_token_log_probs(self, answer_hidden: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Log probabilities (B, T, vocabulary) of the next token: the whole mixture, for free generation."""
        gate = self.pointer_gate(answer_hidden).float()
        vocabulary = self.vocabulary_log_probs(answer_hidden) + F.logsigmoid(-gate)
        copied = (self.pointer_log_probs(answer_hidden, memory) + F.logsigmoid(gate)).exp()
        index = memory.token_ids[:, None, :].expand_as(copied)
        return vocabulary.exp().scatter_add(-1, index, copied).log()

    def vocabulary_log_probs(self, answer_hidden: torch.Tensor) -> torch.Tensor:
        """Log probabilities (B, T, vocabulary) of the vocabulary head alone."""
        transformed = self.vocabulary_norm(self.vocabulary_transform(answer_hidden))
        return torch.log_softmax(self.transformer.project(transformed).float(), dim=-1)
