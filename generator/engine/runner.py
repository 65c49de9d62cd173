"""From a plan to scores: one forward pass over everything that a step runs."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import torch

from generator.cache.memory import KVMemory
from generator.cache.pool import KVPool
from generator.engine.decode_graphs import DecodeGraphs
from generator.engine.layout import StepLayout, is_decode, lay_out, wanted_rows
from generator.engine.padding import padded_rows
from generator.engine.sequence import Piece
from generator.model.attention_backend import AttentionBackend, RaggedBatch
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
        graphs: DecodeGraphs | None = None,
    ) -> None:
        """With `deterministic` matrix products run on fixed tiles; `backend` must then be the fixed one.

        `graphs` are over the same model, pool and backend, and run the steps that they can.
        """
        self.model = with_fixed_rows(model) if deterministic else model
        self.deterministic = deterministic
        self.memory = memory
        self.pool = pool
        self.backend = backend
        self.graphs = graphs

    @torch.inference_mode()
    def run(self, plan: Seq[Piece]) -> torch.Tensor:
        """Compute the pieces; returns the scores (rows, V) of `wanted_rows`, good until the next run."""
        self.pool.copy(self.memory.take_copies())
        layout = lay_out(plan, self.memory)
        if self.graphs is not None and is_decode(plan):
            scores = self.graphs.run(layout)
            if scores is not None:
                return scores
        model, batch = self.model, self._batch(layout)
        hidden = model.embed(batch.token_ids, batch.positions)
        context = self.backend.context(batch, self.pool)
        hidden = model.run_layers(hidden, batch.positions, context)
        rows = wanted_rows(plan)
        if not rows:  # nothing but the middles of prompts
            return hidden.new_empty(0, model.config.vocab_size)
        # All rows are normed, so that a row is normed in the same shape whoever else is wanted.
        return model.project(model.finish(hidden)[0, torch.tensor(rows, device=model.device)])

    def _batch(self, layout: StepLayout) -> RaggedBatch:
        device, num_tokens = self.model.device, len(layout.token_ids)
        num_rows = padded_rows(
            num_tokens, device=device, dtype=self.model.dtype, deterministic=self.deterministic
        )
        padding = [0] * (num_rows - num_tokens)
        return RaggedBatch(
            token_ids=torch.tensor([layout.token_ids + padding], device=device),
            positions=torch.tensor([layout.positions + padding], device=device),
            slots=tuple(torch.tensor(group, device=device) for group in layout.slots),
            spans=tuple(layout.spans),
        )
