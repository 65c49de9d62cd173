"""Choosing the next token of each row of a batch, each row by its own options and its own random stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from generator.errors import NonFiniteLogits
from generator.types import SamplingOptions


class Sampled(NamedTuple):
    """The chosen token of each row, with the model's log probability for it where a row asked for one."""

    token_ids: list[int]
    logprobs: list[float | None]


class _Draw(NamedTuple):
    """Rows that draw from equally many candidates: `width` by descending score, or None for all, unsorted.

    Grouping by width keeps a row's tokens from depending on what its neighbours ask for, ties included.
    """

    width: int | None
    rows: list[int]
    temperature: torch.Tensor  # (rows, 1), as all that follow
    top_p: torch.Tensor
    min_p: torch.Tensor


class Sampler:
    """Penalty, temperature, top-k, top-p, min-p, draw: in this order, for all rows at once.

    A draw takes one uniform number from the row's own generator, on the CPU, so a row's tokens depend neither
    on its neighbours nor on the device.
    """

    def __init__(
        self,
        options: Sequence[SamplingOptions],
        prompts: Sequence[Sequence[int]],
        *,
        vocab_size: int,
        device: torch.device,
    ) -> None:
        self._options = list(options)
        self._vocab_size = vocab_size
        self._device = device
        self._streams = [_random_stream(row.seed) for row in options]
        self._seen: torch.Tensor | None = None  # (B, V), tokens that the penalty applies to
        if any(row.repetition_penalty != 1 for row in options):
            self._seen = torch.zeros(len(prompts), vocab_size, dtype=torch.bool, device=device)
            for row, prompt in enumerate(prompts):
                self._seen[row, torch.tensor(prompt, device=device)] = True
        self._arrange()

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these."""
        self._options = [self._options[row] for row in rows]
        self._streams = [self._streams[row] for row in rows]
        if self._seen is not None:
            self._seen = self._seen[torch.tensor(rows, device=self._device)]
        self._arrange()

    def sample(self, logits: torch.Tensor) -> Sampled:
        """The next tokens for `logits` (B, V)."""
        logits = logits.float()
        scores = logits if self._seen is None else self._penalised(logits, self._seen)
        best, chosen = scores.max(dim=-1)
        if not torch.isfinite(best).all():  # NaN and infinity win every maximum
            raise NonFiniteLogits(
                "The model's scores are not finite.",
                hint="Its weights may be damaged, or the dtype too narrow: try float32 or bfloat16.",
            )
        for draw in self._draws:
            # Subtracting the maximum keeps tiny temperatures from overflowing.
            chosen[draw.rows] = self._draw(draw, scores[draw.rows] - best[draw.rows, None])
        if self._seen is not None:
            self._seen.scatter_(1, chosen[:, None], True)
        return Sampled(chosen.tolist(), self._logprobs(logits, chosen))

    def _arrange(self) -> None:
        """Put the rows' options into columns."""
        self._penalty = self._column([row.repetition_penalty for row in self._options])
        by_width: dict[int | None, list[int]] = {}
        for row, options in enumerate(self._options):
            if not options.greedy:
                by_width.setdefault(self._width(options), []).append(row)
        self._draws = [self._group(width, rows) for width, rows in by_width.items()]

    def _width(self, options: SamplingOptions) -> int | None:
        if options.top_k is None and options.top_p is None and options.min_p is None:
            return None
        return min(options.top_k or self._vocab_size, self._vocab_size)

    def _group(self, width: int | None, rows: list[int]) -> _Draw:
        options = [self._options[row] for row in rows]
        return _Draw(
            width,
            rows,
            temperature=self._column([row.temperature for row in options]),
            top_p=self._column([row.top_p or 1.0 for row in options]),
            min_p=self._column([row.min_p or 0.0 for row in options]),
        )

    def _column(self, values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, device=self._device, dtype=torch.float32)[:, None]

    def _penalised(self, logits: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Weaken tokens that the row has already (CTRL, arXiv 1909.05858)."""
        weakened = torch.where(logits > 0, logits / self._penalty, logits * self._penalty)
        return torch.where(seen, weakened, logits)

    def _draw(self, draw: _Draw, scores: torch.Tensor) -> torch.Tensor:
        """One token (rows,) from scores (rows, V) by inverting the cumulative distribution."""
        probabilities = (scores / draw.temperature).softmax(dim=-1)
        order = None
        if draw.width is not None:
            probabilities, order = probabilities.topk(draw.width, dim=-1)
            probabilities = _nucleus(probabilities, draw.top_p, draw.min_p)
        cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)
        uniform = torch.stack([torch.rand((), generator=self._streams[row]) for row in draw.rows])
        target = uniform.to(self._device, torch.float64)[:, None] * cumulative[:, -1:]
        # right=True never lands on a token of probability zero.
        drawn = torch.searchsorted(cumulative, target, right=True).clamp(max=cumulative.shape[1] - 1)
        return (drawn if order is None else order.gather(1, drawn))[:, 0]

    def _logprobs(self, logits: torch.Tensor, chosen: torch.Tensor) -> list[float | None]:
        if not any(row.logprobs for row in self._options):
            return [None] * len(self._options)
        values = logits.log_softmax(dim=-1).gather(1, chosen[:, None])[:, 0].tolist()
        return [value if row.logprobs else None for value, row in zip(values, self._options, strict=True)]


def _nucleus(probabilities: torch.Tensor, top_p: torch.Tensor, min_p: torch.Tensor) -> torch.Tensor:
    """Zero what top-p and min-p exclude from descending (rows, K); the first always stays."""
    cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)
    mass_before = cumulative - probabilities
    inside = (mass_before < top_p * cumulative[:, -1:]) | (top_p >= 1)
    return probabilities * (inside & (probabilities >= min_p * probabilities[:, :1]))


def _random_stream(seed: int | None) -> torch.Generator:
    stream = torch.Generator(device="cpu")
    if seed is None:
        stream.seed()
    else:
        stream.manual_seed(seed)
    return stream
