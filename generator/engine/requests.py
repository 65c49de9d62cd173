"""What goes into the engine and what comes out."""

from __future__ import annotations

import operator
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Unpack

from generator.errors import GeneratorError, InvalidPrompt, InvalidRequest
from generator.types import SamplingOptions, SamplingOverrides, TokenEvent, TokenLogprob

if TYPE_CHECKING:
    from generator.engine.sampling_state import TokenConstraint

NO_PROMPT = "A prompt must be text or a list of token ids."
RequestFinish = Literal["stop", "length", "cancelled", "error"]


class GenerationRequest:
    """A prompt to continue, as text or token ids, and how.

    Sampling is given as `options`, as keyword arguments (`temperature=0.7`), or both; the latter win. Of `n`
    samples each has a random stream of its own. A higher `priority` goes first. A `constraint` (a grammar's
    state) is advanced with the output, so it serves one request and one sample.
    """

    __slots__ = ("constraint", "n", "options", "priority", "prompt", "prompt_token_ids", "request_id")

    def __init__(
        self,
        prompt: str | None = None,
        *,
        prompt_token_ids: Iterable[int] | None = None,
        request_id: str | None = None,
        n: int = 1,
        priority: int = 0,
        options: SamplingOptions | None = None,
        constraint: TokenConstraint | None = None,
        **overrides: Unpack[SamplingOverrides],
    ) -> None:
        if (prompt is None) == (prompt_token_ids is None):
            raise InvalidRequest("A request needs a prompt, either as text or as token ids.")
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise InvalidRequest(f"n is {n!r}, but must be a whole number from 1.")
        if constraint is not None and n > 1:
            raise InvalidRequest("A constraint follows one sample.", hint="Send n requests.")
        self.prompt = prompt
        self.prompt_token_ids = None if prompt_token_ids is None else whole_numbers(prompt_token_ids)
        self.request_id = request_id if request_id is not None else uuid.uuid4().hex
        self.n = n
        self.priority = priority
        self.options = merge_options(options, overrides)
        self.constraint = constraint


@dataclass(frozen=True, slots=True)
class RequestProgress:
    """Where one sample of a request stands after a step in which it moved.

    `text` ends before a stop text; `token_ids` are all generated tokens, the end token included. `events` are
    what is new since the last progress. `error` is set when `finish_reason` is "error".
    """

    request_id: str
    sample_index: int
    token_ids: tuple[int, ...]
    text: str
    finished: bool
    finish_reason: RequestFinish | None
    events: tuple[TokenEvent, ...]
    num_prompt_tokens: int
    num_cached_tokens: int  # prompt tokens that a cache had already
    logprobs: tuple[TokenLogprob, ...] | None = None
    top_logprobs: tuple[tuple[TokenLogprob, ...], ...] | None = None  # of every step, best first
    error: GeneratorError | None = None


def merge_options(options: SamplingOptions | None, overrides: SamplingOverrides) -> SamplingOptions:
    """`options` with what the keyword arguments say instead, in the forms that they allow."""
    fields = dict(overrides)
    if isinstance(stop := fields.get("stop"), str | list):
        fields["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    if isinstance(bias := fields.get("logit_bias"), Mapping):
        fields["logit_bias"] = tuple(bias.items())
    return replace(options or SamplingOptions(), **fields)


def whole_numbers(prompt: Iterable[int]) -> list[int]:
    """Token ids as Python numbers, also NumPy's and PyTorch's."""
    try:
        return [operator.index(token) for token in prompt]
    except TypeError as error:
        raise InvalidPrompt(NO_PROMPT) from error
