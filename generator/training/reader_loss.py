"""What a reader is trained on: where the answer begins and ends, how to write it, where to copy it from."""

from __future__ import annotations

import torch

from generator.reader.architecture import NEVER, Memory, ReaderModel
from generator.training.examples import ReaderBatch
from generator.training.grounded_config import LossConfig


def reader_loss(
    model: ReaderModel, batch: ReaderBatch, weights: LossConfig
) -> tuple[torch.Tensor, dict[str, float]]:
    """Sum of the questions' losses, and the sums of its parts to log.

    - span: cross-entropy of first and last piece (or of the null), any occurrence of the answer being right;
    - writing: mean negative log probability of the answer's tokens under the mixture of both heads;
    - pointer: that of copying each token from where it stands, without which the pointer loses its place.
    """
    hidden = model.transformer(batch.token_ids, positions=batch.positions, mask=batch.mask)
    width = batch.copyable.shape[1]
    memory = Memory(hidden[:, :width], batch.token_ids[:, :width], batch.copyable)
    span = _span_loss(model, memory, batch)
    index = batch.answer_index[..., None].expand(-1, -1, hidden.shape[-1])
    answer_hidden = hidden.gather(1, index)
    pointer_log_probs = model.pointer_log_probs(answer_hidden, memory)
    written = -model.token_log_probs(
        answer_hidden, batch.targets, memory, pointer_log_probs, mask=batch.target_mask
    )
    writing = _mean_over(written, batch.target_mask)
    pointable = batch.pointer_targets.any(-1)
    pointed = -pointer_log_probs.masked_fill(~batch.pointer_targets, NEVER).logsumexp(-1)
    pointer = _mean_over(pointed, pointable)
    total = weights.span * span + weights.writing * writing + weights.pointer * pointer
    sums = {
        "examples": float(len(batch)),
        "tokens": float(batch.num_tokens),
        "span_loss": float(span.detach().sum()),
        "writing_loss": float(writing.detach().sum()),
        "pointer_loss": float(pointer.detach().sum()),
    }
    return total.sum(), sums


def _span_loss(model: ReaderModel, memory: Memory, batch: ReaderBatch) -> torch.Tensor:
    """(B,) mean of the start and end losses."""
    losses = []
    for scores, right in zip(model.span_scores(memory), (batch.starts, batch.ends), strict=True):
        log_probs = torch.log_softmax(scores, dim=-1)
        losses.append(-log_probs.masked_fill(~right, NEVER).logsumexp(dim=-1))
    return (losses[0] + losses[1]) / 2


def _mean_over(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(B,) mean of (B, A) values where `mask`; 0 for a row without any."""
    return values.masked_fill(~mask, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)
