"""What a request must be before the engine takes it in, and the samples that it becomes."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from collections.abc import Sequence as Seq
from itertools import count

from generator.engine.generate import check_prompts
from generator.engine.requests import GenerationRequest
from generator.engine.sample import Sample
from generator.engine.sequence import Sequence
from generator.errors import PromptTooLong, TokenizerMissing
from generator.model.config import ModelConfig
from generator.tokenizer import Tokenizer


class Intake:
    """Knows model, tokenizer and limits of one engine. May be used from any thread."""

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer | None,
        *,
        eos_token_ids: Collection[int],
        namespace: Hashable,
        max_sequence_tokens: int,
        speculates: bool,
    ) -> None:
        own_end = tokenizer.eos_token_ids if tokenizer else frozenset()
        self.max_sequence_tokens = max_sequence_tokens  # prompt and output together
        self._config = config
        self._tokenizer = tokenizer
        self._eos_token_ids = frozenset(eos_token_ids) | own_end
        self._namespace = namespace
        self._speculates = speculates
        self._sequence_ids = count()

    def prompt_of(self, request: GenerationRequest) -> list[int]:
        """A request's prompt as tokens. Raises InvalidPrompt, PromptTooLong and TokenizerMissing."""
        if self._tokenizer is None and (request.prompt is not None or request.options.stop):
            raise TokenizerMissing(
                "The engine has no tokenizer, so it takes and returns token ids only.",
                hint="Give prompts as lists of token ids and no stop texts.",
            )
        prompt = request.prompt_token_ids
        if prompt is None:
            assert self._tokenizer is not None
            assert request.prompt is not None
            prompt = self._tokenizer.encode(request.prompt)
        check_prompts([prompt], self._config)
        if len(prompt) >= self.max_sequence_tokens:
            raise PromptTooLong(
                f"A prompt of {len(prompt)} tokens is too long for a key/value memory of "
                f"{self.max_sequence_tokens}.",
                hint="Shorten it, or give the engine more with kv_bytes.",
            )
        return prompt

    def sample(self, request: GenerationRequest, index: int, prompt: Seq[int]) -> Sample:
        """The `index`-th of a request's samples, with a sequence of its own. Raises InvalidSampling."""
        sequence = Sequence(
            next(self._sequence_ids), list(prompt), priority=request.priority, namespace=self._namespace
        )
        return Sample(
            request,
            index,
            sequence,
            num_prompt_tokens=len(prompt),
            max_new_tokens=min(request.options.max_new_tokens, self.max_sequence_tokens - len(prompt)),
            vocab_size=self._config.vocab_size,
            tokenizer=self._tokenizer,
            eos_token_ids=self._eos_token_ids,
            speculates=self._speculates,
        )
