"""The values that cross the generator's face: how to sample, what came out, and what it rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypedDict

from generator.errors import InvalidSampling

FinishReason = Literal["stop", "length"]

Passage = tuple[str, str]
"""(id, text): all the generator knows of a document."""

MAX_TOP_LOGPROBS = 20


class SamplingOverrides(TypedDict, total=False):
    """The fields of `SamplingOptions` as keyword arguments."""

    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float] | tuple[tuple[int, float], ...]
    seed: int | None
    stop: str | tuple[str, ...] | list[str]
    max_new_tokens: int
    ignore_eos: bool
    logprobs: bool
    top_logprobs: int


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How the next token is chosen and when to stop. Temperature 0 is greedy; None switches a filter off."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0  # above 1 discourages tokens that the prompt or the output already has
    presence_penalty: float = 0.0  # subtracted from the score of every token that the output already has,
    frequency_penalty: float = 0.0  # and this as often as the output has it
    logit_bias: tuple[tuple[int, float], ...] = ()  # (token id, added to its score)
    seed: int | None = None
    stop: tuple[str, ...] = ()  # generation ends before the first of these texts
    max_new_tokens: int = 256
    ignore_eos: bool = False
    logprobs: bool = False
    top_logprobs: int = 0  # with logprobs: that many of the most likely tokens at each step, at most 20

    def __post_init__(self) -> None:
        _require(
            _is_int(self.max_new_tokens) and self.max_new_tokens > 0, "max_new_tokens", self, "at least 1"
        )
        _require(_in_range(self.temperature, 0, math.inf), "temperature", self, "0 (greedy) or more")
        _require(self.top_k is None or (_is_int(self.top_k) and self.top_k > 0), "top_k", self, "at least 1")
        _require(
            self.top_p is None or (_in_range(self.top_p, 0, 1) and self.top_p > 0),
            "top_p",
            self,
            "above 0 and at most 1",
        )
        _require(self.min_p is None or _in_range(self.min_p, 0, 1), "min_p", self, "from 0 to 1")
        _require(
            _in_range(self.repetition_penalty, 0, math.inf) and self.repetition_penalty > 0,
            "repetition_penalty",
            self,
            "above 0",
        )
        for name in ("presence_penalty", "frequency_penalty"):
            _require(_in_range(getattr(self, name), -2, 2), name, self, "from -2 to 2")
        _require(
            _is_logit_bias(self.logit_bias), "logit_bias", self, "distinct token ids with finite numbers"
        )
        _require(
            _is_int(self.top_logprobs) and 0 <= self.top_logprobs <= MAX_TOP_LOGPROBS,
            "top_logprobs",
            self,
            f"from 0 to {MAX_TOP_LOGPROBS}",
        )
        _require(self.logprobs or not self.top_logprobs, "top_logprobs", self, "0 unless logprobs is set")
        seed_fits = self.seed is None or (_is_int(self.seed) and 0 <= self.seed < 2**63)
        _require(seed_fits, "seed", self, "a whole number from 0 to 2**63 - 1")
        _require(
            isinstance(self.stop, tuple) and all(isinstance(text, str) and text for text in self.stop),
            "stop",
            self,
            "a tuple of texts that are not empty",
        )

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature == 0


class TokenLogprob(NamedTuple):
    """Log probability that the model itself gave a token, before penalties and temperature."""

    token_id: int
    logprob: float


@dataclass(frozen=True, slots=True)
class Completion:
    """What one prompt turned into. `finish_reason` is "stop" (end token or stop text) or "length".

    `token_ids` are all generated tokens, the end token included; `text` ends before a stop text.
    `top_logprobs` has the most likely tokens of every step, best first.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    num_prompt_tokens: int
    logprobs: tuple[TokenLogprob, ...] | None = None
    top_logprobs: tuple[tuple[TokenLogprob, ...], ...] | None = None


class TokenEvent(NamedTuple):
    """A piece of streamed text. `token_id` is the last token `text` covers, None for text without one."""

    text: str
    token_id: int | None = None


class Usage(NamedTuple):
    """Tokens read and tokens written."""

    num_prompt_tokens: int
    num_output_tokens: int


@dataclass(frozen=True, slots=True)
class AnswerSpan:
    """Verbatim evidence: `passage.text[start:end]`, in characters of that passage's text."""

    passage_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class GroundedAnswer:
    """An answer and what it rests on.

    `text` carries `[n]` marks, n being the 1-based rank of the passage in the call. When the passages do not
    answer, `supported` is False, `text` says so and `spans` is empty. `confidence` is in [0, 1].
    """

    text: str
    supported: bool
    confidence: float
    spans: tuple[AnswerSpan, ...]
    passage_ids: tuple[str, ...]  # the passages that `text` cites, in order of first citation
    usage: Usage
    draft: str = ""  # the few words found, of a passage, also where they fell short of an answer; if any


def _require(holds: bool, name: str, options: SamplingOptions, expected: str) -> None:
    if not holds:
        raise InvalidSampling(f"{name} is {getattr(options, name)!r}, but must be {expected}.")


def _is_logit_bias(value: object) -> bool:
    """Whether `value` is a tuple of (token id, finite number) with no token twice."""
    if not isinstance(value, tuple) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        return False
    tokens = [token for token, _ in value]
    return (
        all(_is_int(token) and token >= 0 for token in tokens)
        and len(set(tokens)) == len(tokens)
        and all(_in_range(bias, -math.inf, math.inf) for _, bias in value)
    )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _in_range(value: object, low: float, high: float) -> bool:
    """Whether `value` is a finite number from low to high."""
    return isinstance(value, int | float) and math.isfinite(value) and low <= value <= high
