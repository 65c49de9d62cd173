"""Attention over ragged batches: the seam between the serving engine and the hardware, and its reference.

A ragged batch is one flat row of tokens, (1, T): pieces of prompts and single new tokens of many sequences,
side by side. The linear layers see them all at once; attention takes them apart again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from generator.cache.memory import Segment
from generator.cache.pool import KVPool
from generator.errors import InvalidEngineConfig
from generator.model.attention import AttentionContext, sdpa
from generator.model.masks import visibility


class Span(NamedTuple):
    """One sequence's tokens in the batch, and where it keeps what they may look at."""

    offset: int  # of its first token in the batch
    num_tokens: int
    start: int  # position of its first token in the sequence
    first_visible: tuple[int, ...]  # by group: the earliest position that its first token sees
    segments: tuple[tuple[Segment, ...], ...]  # by group: the slots of [first_visible, start + num_tokens)


@dataclass(frozen=True, slots=True)
class RaggedBatch:
    """Everything that one forward pass is about; token ids and positions are (1, R) with R >= T.

    Rows past the T tokens of the spans only make a shape round: nothing of them is stored or attended to.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    slots: tuple[torch.Tensor, ...]  # by group: where each token's keys and values go, (T,)
    spans: tuple[Span, ...]

    @property
    def num_tokens(self) -> int:
        """T."""
        return self.spans[-1].offset + self.spans[-1].num_tokens if self.spans else 0


class AttentionBackend(ABC):
    """A way to attend; stateless, one object serves an engine for its life."""

    name: str

    @abstractmethod
    def context(self, batch: RaggedBatch, pool: KVPool) -> AttentionContext:
        """What the model's layers call during the forward pass of `batch`."""


class RaggedContext(AttentionContext):
    """Stores the new keys and values, then attends span by span."""

    def __init__(self, batch: RaggedBatch, pool: KVPool) -> None:
        self.batch = batch
        self.pool = pool
        self.num_tokens = batch.num_tokens

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """See `AttentionContext.attend`."""
        group = self.pool.group_of[layer]
        num_padding = query.shape[2] - self.num_tokens
        if num_padding:
            query, key, value = (part[:, :, : self.num_tokens] for part in (query, key, value))
        self.pool.write(layer, self.batch.slots[group], key, value)
        if len(self.batch.spans) == 1 and not num_padding:  # nothing to take apart
            return self.attend_span(layer, group, self.batch.spans[0], query, key, value)
        attended = [
            self.attend_span(
                layer,
                group,
                span,
                *(part[:, :, span.offset : span.offset + span.num_tokens] for part in (query, key, value)),
            )
            for span in self.batch.spans
        ]
        if num_padding:
            attended.append(query.new_zeros(1, query.shape[1], num_padding, query.shape[3]))
        return torch.cat(attended, dim=2)

    def attend_span(
        self,
        layer: int,
        group: int,
        span: Span,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
    ) -> torch.Tensor:
        """Attend for one sequence: its new (1, H, T, D), stored already, over all that it may see.

        This is the reference: gather the keys, mask, `sdpa`.
        """
        stored_key, stored_value = self.pool.read(layer, span.segments[group])
        mask = None
        window = self.pool.groups[group].window
        if span.num_tokens > 1:
            mask = visibility(
                [span.start - span.first_visible[group]],
                num_new=span.num_tokens,
                num_keys=stored_key.shape[2],
                window=window,
                device=query.device,
            )
        return sdpa(query, stored_key, stored_value, mask=mask, causal=False)


class SdpaBackend(AttentionBackend):
    """The reference, on every device: what other backends are tested against."""

    name = "sdpa"

    def context(self, batch: RaggedBatch, pool: KVPool) -> AttentionContext:
        """See `AttentionBackend.context`."""
        return RaggedContext(batch, pool)


def backend_named(name: str, device: torch.device) -> AttentionBackend:
    """The backend called "sdpa", "cpu" or "fixed"; "auto" is the fastest that there is for a device."""
    from generator.model.attention_cpu import CpuBackend
    from generator.model.attention_fixed import FixedBackend

    backends: dict[str, Callable[[], AttentionBackend]] = {
        "sdpa": SdpaBackend,
        "cpu": CpuBackend,
        "fixed": FixedBackend,
    }
    if name == "auto":
        name = "cpu" if device.type == "cpu" else "sdpa"
    if name not in backends:
        names = ", ".join(backends)
        raise InvalidEngineConfig(f"There is no attention called {name!r}.", hint=f"Use auto, {names}.")
    return backends[name]()
