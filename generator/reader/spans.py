"""From start and end scores to the best spans."""

from __future__ import annotations

import torch

from generator.reader.architecture import NEVER


def best_spans(
    start: torch.Tensor, end: torch.Tensor, *, count: int, max_tokens: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The `count` best spans of each row of start and end scores (B, P), null excluded.

    Returns scores, first and last token indices, (B, count) each, best first; where a row has fewer spans the
    score is below NEVER / 2. A span has 1 to `max_tokens` tokens.
    """
    num_tokens = start.shape[1]
    start = start.clone()
    start[:, 0] = NEVER  # index 0 is the null
    widths = min(max_tokens, num_tokens)
    scores = start.new_full((start.shape[0], widths, num_tokens), 2 * NEVER)
    for width in range(widths):
        scores[:, width, : num_tokens - width] = start[:, : num_tokens - width] + end[:, width:]
    values, index = scores.flatten(1).topk(min(count, widths * num_tokens), dim=-1)
    first = index % num_tokens
    return values, first, first + index // num_tokens
