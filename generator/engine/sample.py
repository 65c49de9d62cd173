"""One output in the making: its tokens, its text, and when it is over."""

from __future__ import annotations

from collections.abc import Collection

from generator.engine.requests import GenerationRequest, RequestFinish, RequestProgress
from generator.engine.sampling import SampledToken
from generator.engine.sampling_state import SamplingState
from generator.engine.sequence import Sequence
from generator.engine.speculation import DraftPolicy, PromptLookup
from generator.engine.text import OutputText
from generator.errors import GeneratorError
from generator.tokenizer import Tokenizer
from generator.types import TokenEvent, TokenLogprob


class Sample:
    """One of a request's outputs: what the scheduler, the sampler and the reader each know of it."""

    def __init__(
        self,
        request: GenerationRequest,
        index: int,
        sequence: Sequence,
        *,
        num_prompt_tokens: int,
        max_new_tokens: int,
        vocab_size: int,
        tokenizer: Tokenizer | None,
        eos_token_ids: Collection[int],
        speculates: bool,
    ) -> None:
        options = request.options
        self.request = request
        self.index = index
        self.sequence = sequence
        self.num_prompt_tokens = num_prompt_tokens
        self.max_new_tokens = max_new_tokens
        self.state = SamplingState(
            options,
            sequence.token_ids[:num_prompt_tokens],
            vocab_size=vocab_size,
            sample_index=index,
            constraint=request.constraint,
        )
        self.finish_reason: RequestFinish | None = None
        self.error: GeneratorError | None = None
        # A penalty or grammar makes scores depend on drafts that may not stand, so those do not draft.
        speculates = speculates and not self.state.depends_on_history
        self.lookup = PromptLookup(sequence.token_ids[:num_prompt_tokens]) if speculates else None
        self.draft_policy = DraftPolicy()
        self._eos_token_ids = frozenset() if options.ignore_eos else frozenset(eos_token_ids)
        self._output = OutputText(tokenizer, options.stop)
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._top_logprobs: list[tuple[TokenLogprob, ...]] = []
        self._text = ""
        self._events: list[TokenEvent] = []

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self.finish_reason is not None

    @property
    def num_remaining_tokens(self) -> int:
        """Tokens that may still come."""
        return self.max_new_tokens - len(self._token_ids)

    def take(self, token: SampledToken) -> None:
        """Make a token part of the output, and see whether it is the last."""
        token_id = token.token_id
        self.state.accept(token_id)
        self._token_ids.append(token_id)
        if self.lookup is not None:
            self.lookup.extend((token_id,))
        if token.logprob is not None:
            self._logprobs.append(TokenLogprob(token_id, token.logprob))
            self._top_logprobs.append(token.top_logprobs)
        is_end = token_id in self._eos_token_ids
        self._show("" if is_end else self._output.push(token_id), token_id)
        if is_end or self._output.stopped:
            self._finish("stop")
        elif self.num_remaining_tokens == 0:
            self._finish("length")

    def fail(self, error: GeneratorError) -> None:
        """End with an error."""
        self.error = error
        self._finish("error")

    def cancel(self) -> None:
        """End because nobody wants the rest."""
        self._finish("cancelled")

    def progress(self) -> RequestProgress:
        """Where it stands; what was new is then no longer new."""
        events, self._events = tuple(self._events), []
        return RequestProgress(
            request_id=self.request.request_id,
            sample_index=self.index,
            token_ids=tuple(self._token_ids),
            text=self._text,
            finished=self.finished,
            finish_reason=self.finish_reason,
            events=events,
            num_prompt_tokens=self.num_prompt_tokens,
            num_cached_tokens=self.sequence.num_cached_tokens,
            logprobs=tuple(self._logprobs) if self.request.options.logprobs else None,
            top_logprobs=tuple(self._top_logprobs) if self.request.options.top_logprobs else None,
            error=self.error,
        )

    def _finish(self, reason: RequestFinish) -> None:
        self.finish_reason = reason
        if rest := self._output.finish():
            self._show(rest, None)

    def _show(self, text: str, token_id: int | None) -> None:
        self._text += text
        self._events.append(TokenEvent(text, token_id))
