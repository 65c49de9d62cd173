"""From a plan to scores: one forward pass over everything that a step runs."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import torch

from generator.cache.memory import KVMemory, Segment
from generator.cache.pool import KVPool
from generator.engine.padding import padded_rows
from generator.engine.sequence import Piece
from generator.model.attention_backend import AttentionBackend, RaggedBatch, Span
from generator.model.fixed_rows import with_fixed_rows
from generator.model.transformer import Transformer


class ModelRunner:
    """Owns the tensors of the engine: the model and the pool of keys and values."""

    def __init__(
        self,
        model: Transformer,
        memory: KVMemory,
        pool: KVPool,
        backend: AttentionBackend,
        *,
        deterministic: bool = False,
    ) -> None:
        """With `deterministic` matrix products run on fixed tiles; `backend` must then be the fixed one."""
        self.model = with_fixed_rows(model) if deterministic else model
        self.deterministic = deterministic
        self.memory = memory
        self.pool = pool
        self.backend = backend

    @torch.inference_mode()
    def run(self, plan: Seq[Piece]) -> torch.Tensor:
        """Compute the pieces; returns the scores (rows, V) that `wanted_rows` names."""
        self.pool.copy(self.memory.take_copies())
        model, batch = self.model, self._batch(plan)
        hidden = model.embed(batch.token_ids, batch.positions)
        context = self.backend.context(batch, self.pool)
        hidden = model.run_layers(hidden, batch.positions, context)
        rows = wanted_rows(plan)
        if not rows:  # nothing but the middles of prompts
            return hidden.new_empty(0, model.config.vocab_size)
        # All rows are normed, so that a row is normed in the same shape whoever else is wanted.
        return model.project(model.finish(hidden)[0, torch.tensor(rows, device=model.device)])

    def _batch(self, plan: Seq[Piece]) -> RaggedBatch:
        num_groups = len(self.memory.groups)
        token_ids: list[int] = []
        positions: list[int] = []
        slots: list[list[int]] = [[] for _ in range(num_groups)]
        spans: list[Span] = []
        for piece in plan:
            end = piece.start + piece.num_tokens
            first, segments = [], []
            for index, group in enumerate(self.memory.groups):
                first.append(group.first_visible(piece.start))
                visible = self.memory.segments(piece.sequence.sequence_id, index, first[-1], end)
                segments.append(tuple(visible))
                slots[index] += _last_slots(visible, piece.num_tokens)
            spans.append(Span(len(token_ids), piece.num_tokens, piece.start, tuple(first), tuple(segments)))
            token_ids += piece.token_ids
            positions += range(piece.start, end)
        device = self.model.device
        num_padding = -len(token_ids) + padded_rows(
            len(token_ids), device=device, dtype=self.model.dtype, deterministic=self.deterministic
        )
        token_ids += [0] * num_padding
        positions += [0] * num_padding
        return RaggedBatch(
            token_ids=torch.tensor([token_ids], device=device),
            positions=torch.tensor([positions], device=device),
            slots=tuple(torch.tensor(group, device=device) for group in slots),
            spans=tuple(spans),
        )


def wanted_rows(plan: Seq[Piece]) -> list[int]:
    """Which tokens of the flat batch need scores: the last known one of pieces that sample, and drafts."""
    rows: list[int] = []
    end = 0
    for piece in plan:
        end += piece.num_tokens
        if piece.samples:
            rows += range(end - 1 - piece.num_draft_tokens, end)
    return rows


def _last_slots(segments: Seq[Segment], count: int) -> list[int]:
    """The last `count` slots of segments, in order."""
    slots: list[int] = []
    for start, length in reversed(segments):
        taken = min(length, count - len(slots))
        slots[:0] = range(start + length - taken, start + length)
        if len(slots) == count:
            break
    return slots
