"""The next tokens of a batch, each by its own rules, all at once.

Per row, in this order: penalties (repetition, then frequency and presence), bias, constraint, temperature,
top-k, top-p, min-p, and a draw by one uniform number of the row's own. No number of a row depends on the
other rows, so neither do its tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from generator.engine.sampling_state import SamplingState
from generator.errors import GeneratorError, NonFiniteLogits, NoTokenAllowed
from generator.types import SamplingOptions, TokenLogprob

NUCLEUS_PREFIX = 1024  # most likely tokens that are sorted before all of them are


class SampledToken(NamedTuple):
    """A row's token, with the model's own log probabilities where the row asked for them."""

    token_id: int
    logprob: float | None = None
    top_logprobs: tuple[TokenLogprob, ...] = ()  # the most likely tokens, best first


def sample(
    logits: torch.Tensor, states: Sequence[SamplingState], *, ahead: Sequence[int] | None = None
) -> list[SampledToken | GeneratorError]:
    """The next token of each row of `logits` (B, V); a row that has none gives its error instead.

    Nothing is accepted: the caller does that. `ahead` says how many tokens after its state's next one a row
    stands, which lets several rows verify one sequence's draft (not where `depends_on_history`).
    """
    logits = logits.float()
    scores = _constrain(_add_bias(_penalise(logits, states), states), states)
    best, chosen = scores.max(dim=-1)
    finite = torch.isfinite(best).tolist()  # NaN and infinity win every maximum
    ahead = ahead or [0] * len(states)
    draws = [row for row, state in enumerate(states) if finite[row] and not state.options.greedy]
    if draws:
        # Subtracting the maximum keeps tiny temperatures from overflowing.
        chosen[draws] = _draw(
            scores[draws] - best[draws, None],
            [states[row].options for row in draws],
            [states[row].uniform(ahead[row]) for row in draws],
        )
    tokens = _with_logprobs(logits, chosen, [state.options for state in states])
    return [
        token if fine else _failure(score)
        for token, fine, score in zip(tokens, finite, best.tolist(), strict=True)
    ]


class Sampler:
    """`sample` for a fixed batch whose rows all stay until `keep` drops some."""

    def __init__(
        self, options: Sequence[SamplingOptions], prompts: Sequence[Sequence[int]], *, vocab_size: int
    ) -> None:
        self._states = [
            SamplingState(row, prompt, vocab_size=vocab_size)
            for row, prompt in zip(options, prompts, strict=True)
        ]

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these."""
        self._states = [self._states[row] for row in rows]

    def sample(self, logits: torch.Tensor) -> list[SampledToken]:
        """The next tokens for `logits` (B, V); the first row's error is raised."""
        tokens: list[SampledToken] = []
        for token, state in zip(sample(logits, self._states), self._states, strict=True):
            if isinstance(token, GeneratorError):
                raise token
            state.accept(token.token_id)
            tokens.append(token)
        return tokens


def _penalise(logits: torch.Tensor, states: Sequence[SamplingState]) -> torch.Tensor:
    """Weaken tokens that a row has already.

    Repetition divides or multiplies the scores of what prompt or output has (CTRL, arXiv 1909.05858);
    frequency and presence subtract from those of the output alone, as OpenAI defines them.
    """
    rows = [(row, state.options, state.seen) for row, state in enumerate(states) if state.seen is not None]
    if not rows:
        return logits
    sizes = [len(seen.token_ids) for _, _, seen in rows]

    def spread(value: Callable[[SamplingOptions], float]) -> torch.Tensor:
        """An option of each row, once for each of its seen tokens."""
        return _from_numpy(
            np.repeat(np.array([value(options) for _, options, _ in rows], np.float32), sizes), logits.device
        )

    row = _from_numpy(np.repeat(np.array([row for row, _, _ in rows]), sizes), logits.device)
    token = _from_numpy(np.concatenate([seen.token_ids for _, _, seen in rows]), logits.device)
    count = _from_numpy(np.concatenate([seen.counts for _, _, seen in rows]), logits.device)
    repetition = spread(lambda options: options.repetition_penalty)
    values = logits[row, token]
    values = torch.where(values > 0, values / repetition, values * repetition)
    values = values - spread(lambda options: options.frequency_penalty) * count
    values = values - spread(lambda options: options.presence_penalty) * (count > 0)
    return logits.index_put((row, token), values)


def _add_bias(scores: torch.Tensor, states: Sequence[SamplingState]) -> torch.Tensor:
    entries = [
        (row, token, bias) for row, state in enumerate(states) for token, bias in state.options.logit_bias
    ]
    if not entries:
        return scores
    rows, tokens, biases = zip(*entries, strict=True)
    index = (torch.tensor(rows, device=scores.device), torch.tensor(tokens, device=scores.device))
    return scores.index_put(index, scores[index] + torch.tensor(biases, device=scores.device))


def _constrain(scores: torch.Tensor, states: Sequence[SamplingState]) -> torch.Tensor:
    """Minus infinity for what a row's constraint does not allow."""
    allowed = {
        row: mask
        for row, state in enumerate(states)
        if state.constraint is not None and (mask := state.constraint.allowed_tokens()) is not None
    }
    if not allowed:
        return scores
    permitted = torch.zeros(len(allowed), scores.shape[1], dtype=torch.bool, device=scores.device)
    for index, mask in enumerate(allowed.values()):
        permitted[index, : len(mask)] = mask[: scores.shape[1]].to(scores.device)
    rows = torch.tensor(list(allowed), device=scores.device)
    return scores.index_copy(0, rows, scores[rows].masked_fill(~permitted, -torch.inf))


def _draw(
    scores: torch.Tensor, options: Sequence[SamplingOptions], uniforms: Sequence[float]
) -> torch.Tensor:
    """One token (rows,) from scores (rows, V) of at most 0."""

    def column(values: Iterable[float], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.tensor(list(values), device=scores.device, dtype=dtype)[:, None]

    probabilities = (scores / column(row.temperature for row in options)).softmax(dim=-1)
    top_p = column((row.top_p or 1.0 for row in options), torch.float64)
    min_p = column(row.min_p or 0.0 for row in options)
    uniform = column(uniforms, torch.float64)
    drawn = torch.empty(len(options), dtype=torch.long, device=scores.device)
    # Rows are grouped by how many candidates they sort, so that ties fall as they would alone.
    groups: dict[tuple[int | None, bool], list[int]] = {}
    for row, width in enumerate(_widths(probabilities, options, top_p)):
        groups.setdefault((width, options[row].top_k is not None), []).append(row)
    for (width, is_top_k), rows in groups.items():
        group, order = probabilities[rows], None
        if width is not None:
            best, order = group.topk(width, dim=-1)
            # top-p is a share of what top-k left, or of everything.
            whole = (best if is_top_k else group).sum(dim=-1, keepdim=True, dtype=torch.float64)
            mass_before = best.cumsum(dim=-1, dtype=torch.float64) - best
            group = best * ((mass_before < top_p[rows] * whole) | (top_p[rows] >= 1))
        group = group * (group >= min_p[rows] * group.amax(dim=-1, keepdim=True))
        picked = _invert(group, uniform[rows])
        drawn[rows] = (picked if order is None else order.gather(1, picked))[:, 0]
    return drawn


def _widths(
    probabilities: torch.Tensor, options: Sequence[SamplingOptions], top_p: torch.Tensor
) -> list[int | None]:
    """How many of a row's most likely tokens must be sorted: None for none, since nothing is cut by rank."""
    vocab_size = probabilities.shape[1]
    widths: list[int | None] = [
        min(row.top_k, vocab_size) if row.top_k else None if (row.top_p or 1.0) >= 1 else vocab_size
        for row in options
    ]
    nuclei = [row for row, width in enumerate(widths) if width == vocab_size and not options[row].top_k]
    if nuclei and vocab_size > NUCLEUS_PREFIX:
        prefix = probabilities[nuclei].topk(NUCLEUS_PREFIX, dim=-1).values.sum(dim=-1, dtype=torch.float64)
        mass = probabilities[nuclei].sum(dim=-1, dtype=torch.float64)
        holds = (prefix >= top_p[nuclei, 0] * mass).tolist()
        for row, enough in zip(nuclei, holds, strict=True):
            widths[row] = NUCLEUS_PREFIX if enough else vocab_size
    return widths


def _invert(weights: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Column (rows, 1) where the running sum of weights (rows, K) passes that share of their total."""
    cumulative = weights.cumsum(dim=-1, dtype=torch.float64)
    # right=True never lands on a weight of zero.
    drawn = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    return drawn.clamp(max=weights.shape[1] - 1)


def _with_logprobs(
    logits: torch.Tensor, chosen: torch.Tensor, options: Sequence[SamplingOptions]
) -> list[SampledToken]:
    token_ids = chosen.tolist()
    sampled = [SampledToken(token) for token in token_ids]
    rows = [row for row, asked in enumerate(options) if asked.logprobs]
    if not rows:
        return sampled
    logprobs = logits[rows].log_softmax(dim=-1)
    own = logprobs.gather(1, chosen[rows, None])[:, 0].tolist()
    num_top = min(max(options[row].top_logprobs for row in rows), logits.shape[1])
    values, tokens = (part.tolist() for part in logprobs.topk(num_top, dim=-1))
    for index, row in enumerate(rows):
        top = zip(tokens[index], values[index], strict=True)
        alternatives = tuple(TokenLogprob(*pair) for pair in top)[: options[row].top_logprobs]
        sampled[row] = SampledToken(token_ids[row], own[index], alternatives)
    return sampled


def _failure(best: float) -> GeneratorError:
    if best == -np.inf:
        return NoTokenAllowed(
            "No token of the vocabulary is allowed to come next.",
            hint="Loosen the grammar, or check that it was built for this model's vocabulary.",
        )
    return NonFiniteLogits(
        "The model's scores are not finite.",
        hint="Its weights may be damaged, or the dtype too narrow: try float32 or bfloat16.",
    )


def _from_numpy(array: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(array).to(device)
