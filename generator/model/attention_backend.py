"""Attention over ragged batches: the seam between the serving engine and the hardware, and its reference.

A ragged batch is one flat row of tokens, (1, T): pieces of prompts and single new tokens of many sequences,
side by side. The linear layers see them all at once; attention takes them apart again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from generator.cache.memory import Segment
from generator.cache.pool import KVPool
from generator.errors import InvalidEngineConfig
from generator.model.attention import AttentionContext, sdpa
from generator.model.masks import visibility

if TYPE_CHECKING:
    from generator.model.attention_rows import QueryRows


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


class PagedBackend(AttentionBackend):
    """A way to attend through block tables: a step is a function of tensors, which a graph can record."""

    block_size: int  # slots

    @abstractmethod
    def rows_context(
        self, parts: Sequence[QueryRows], slots: tuple[torch.Tensor, ...], pool: KVPool
    ) -> AttentionContext:
        """`context` for a batch that is rows already; `parts` have different widths, `slots` are by group.

        Makes no use of the host's memory: whatever the tensors hold when it runs again counts then.
        """


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


def backend_named(name: str, device: torch.device, *, block_size: int | None = None) -> AttentionBackend:
    """The backend called "sdpa", "cpu", "fixed" or "flex"; "auto" is the one meant for a device.

    `block_size` is that of paged memory, None where memory is not paged; "flex" needs it. Raises
    InvalidEngineConfig and CompilerUnavailable.
    """
    from generator.model.attention_cpu import CpuBackend
    from generator.model.attention_fixed import FixedBackend

    backends: dict[str, Callable[[], AttentionBackend]] = {
        "sdpa": SdpaBackend,
        "cpu": CpuBackend,
        "fixed": FixedBackend,
        "flex": lambda: _flex(device, block_size),
    }
    if name == "auto":
        on_gpu = "flex" if block_size is not None and _has_kernels(block_size) else "sdpa"
        name = "cpu" if device.type == "cpu" else on_gpu
    if name not in backends:
        names = ", ".join(backends)
        raise InvalidEngineConfig(f"There is no attention called {name!r}.", hint=f"Use auto, {names}.")
    return backends[name]()


def _flex(device: torch.device, block_size: int | None) -> AttentionBackend:
    if block_size is None:
        raise InvalidEngineConfig("The attention 'flex' reads block tables.", hint="Set layout to paged.")
    compile_kernels = device.type != "cpu"  # there it is for tests
    if compile_kernels and not _has_kernels(block_size):
        raise InvalidEngineConfig(
            f"block_size is {block_size}, but the attention 'flex' needs a power of two from 16.",
            hint="Leave block_size out, or set attention to sdpa.",
        )
    from generator.model.attention_flex import FlexBackend

    return FlexBackend(block_size, compile_kernels=compile_kernels)


def _has_kernels(block_size: int) -> bool:
    """Whether a tile of keys as kernels take it can end where a block does."""
    return block_size >= 16 and block_size & (block_size - 1) == 0
