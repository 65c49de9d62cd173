"""What one sequence carries from token to token: its random numbers, what it has said, what it may say."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from generator.errors import InvalidSampling
from generator.types import SamplingOptions

_WORD = 2**64 - 1
_GAMMA = 0x9E3779B97F4A7C15


class TokenConstraint(Protocol):
    """What a grammar (or a trie, or a list) lets come next; one object a sequence, moved token by token."""

    def allowed_tokens(self) -> torch.Tensor | None:
        """Boolean (V,) or shorter, True where a token may come; None where all may.

        Tokens past the end of a short mask (padding of the vocabulary) are not allowed.
        """

    def accept(self, token_id: int) -> None:
        """Take note of the token that came."""


class RandomStream:
    """Uniform numbers by position: the n-th is a function of seed and n, whoever else draws, and when.

    SplitMix64 (Steele, Lea, Flood, OOPSLA 2014). Nothing is consumed, so a sequence that is preempted and
    recomputed, or drafted and verified, meets the same numbers again.
    """

    def __init__(self, seed: int | None, *, sample_index: int = 0) -> None:
        start = secrets.randbits(64) if seed is None else seed
        self._start = _mix(_mix(start) + sample_index)

    def uniform(self, position: int) -> float:
        """A number in [0, 1) for the output's token at `position`."""
        return (_mix(self._start + (position + 1) * _GAMMA) >> 11) * 2.0**-53


class SeenTokens:
    """The distinct tokens of prompt and output, and how often the output has each.

    Sparse and on the host, because a (B, vocabulary) table would have to be moved whenever a batch changes.
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        self._ids = np.unique(np.asarray(prompt, dtype=np.int64))
        self._counts = np.zeros(len(self._ids), dtype=np.float32)
        self._index = {int(token): index for index, token in enumerate(self._ids)}

    @property
    def token_ids(self) -> np.ndarray:
        """Distinct tokens (N,), int64."""
        return self._ids[: len(self._index)]

    @property
    def counts(self) -> np.ndarray:
        """Occurrences in the output of each of `token_ids` (N,), float32; 0 for those of the prompt only."""
        return self._counts[: len(self._index)]

    def add(self, token_id: int) -> None:
        """Count a token of the output."""
        index = self._index.setdefault(token_id, len(self._index))
        if index == len(self._ids):  # full: double it, so that a long output copies little
            self._ids = np.concatenate([self._ids, np.zeros(len(self._ids) + 16, dtype=np.int64)])
            self._counts = np.concatenate([self._counts, np.zeros(len(self._counts) + 16, dtype=np.float32)])
        self._ids[index] = token_id
        self._counts[index] += 1


class SamplingState:
    """One sequence's side of sampling: its options, and all that changes with every token."""

    def __init__(
        self,
        options: SamplingOptions,
        prompt_token_ids: Sequence[int],
        *,
        vocab_size: int,
        sample_index: int = 0,
        constraint: TokenConstraint | None = None,
    ) -> None:
        """`sample_index` tells apart the samples that one request asked for with one seed."""
        self.options = options
        self.constraint = constraint
        self.num_tokens = 0  # accepted so far
        self.seen = SeenTokens(prompt_token_ids) if _penalises(options) else None
        self._stream = RandomStream(options.seed, sample_index=sample_index)
        if options.logit_bias and (highest := max(token for token, _ in options.logit_bias)) >= vocab_size:
            raise InvalidSampling(
                f"logit_bias names token {highest}, but the model knows 0 to {vocab_size - 1}."
            )

    @property
    def depends_on_history(self) -> bool:
        """Whether scores depend on the tokens so far by more than the model: drafts cannot be verified."""
        return self.seen is not None or self.constraint is not None

    def uniform(self, ahead: int = 0) -> float:
        """The random number of the next token, or of the one `ahead` tokens later."""
        return self._stream.uniform(self.num_tokens + ahead)

    def accept(self, token_id: int) -> None:
        """Make a token part of the output."""
        self.num_tokens += 1
        if self.seen is not None:
            self.seen.add(token_id)
        if self.constraint is not None:
            self.constraint.accept(token_id)


def _penalises(options: SamplingOptions) -> bool:
    return options.repetition_penalty != 1 or options.presence_penalty != 0 or options.frequency_penalty != 0


def _mix(value: int) -> int:
    """SplitMix64's finaliser: any two inputs give unrelated outputs."""
    value = (value + _GAMMA) & _WORD
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _WORD
    return value ^ (value >> 31)
