"""Generation over one batch: prefill the prompts, then decode all rows together, a token a step."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch

from generator.cache.kv_cache import KVCache
from generator.engine.sampling import SampledToken, Sampler
from generator.errors import InvalidPrompt, PromptTooLong
from generator.model.config import ModelConfig
from generator.model.transformer import Transformer
from generator.types import FinishReason, SamplingOptions, TokenLogprob

PREFILL_TOKENS = 2048  # prompt tokens of a row in one forward pass; bounds the memory of activations


class NextToken(NamedTuple):
    """What one step did to one prompt; `finish_reason` is set on its last token."""

    index: int  # of the prompt
    token_id: int
    logprob: float | None
    top_logprobs: tuple[TokenLogprob, ...]
    finish_reason: FinishReason | None


class BatchGeneration:
    """One batch in flight: `step` gives a token to every unfinished prompt while `has_pending_work`.

    Prompts of different lengths are padded on the right, where causal attention never looks; each row then
    grows behind its own last token. Rows that are done leave before the next step.
    """

    def __init__(
        self,
        model: Transformer,
        prompts: Sequence[Sequence[int]],
        options: Sequence[SamplingOptions],
        *,
        eos_token_ids: Collection[int] = (),
    ) -> None:
        check_prompts(prompts, model.config)
        self._model = model
        self._prompts = prompts
        self._options = options
        self._eos_token_ids = frozenset(eos_token_ids)
        room = model.config.max_positions
        self._remaining = [
            min(row.max_new_tokens, room - len(prompt)) for row, prompt in zip(options, prompts, strict=True)
        ]
        self._rows = list(range(len(prompts)))  # the prompt of each cache row
        self._active = set(self._rows)
        self._cache: KVCache | None = None
        self._sampler = Sampler(options, prompts, vocab_size=model.config.vocab_size)
        self._last: list[int] = []  # the newest token of each cache row

    @property
    def has_pending_work(self) -> bool:
        """Whether a prompt is unfinished."""
        return bool(self._active)

    def stop(self, index: int) -> None:
        """End a prompt from outside (a stop text, a reader who left)."""
        self._active.discard(index)

    @torch.inference_mode()
    def step(self) -> list[NextToken]:
        """Advance every unfinished prompt by a token."""
        if not self._active:
            return []
        if self._cache is None:
            self._cache, hidden = self._prefill()
        else:
            self._drop_finished_rows(self._cache)
            token_ids = torch.tensor(self._last, device=self._model.device)[:, None]
            hidden = self._model(token_ids, cache=self._cache)[:, 0]
        sampled = self._sampler.sample(self._model.project(hidden))
        self._last = [token.token_id for token in sampled]
        return [
            self._record(index, token)
            for index, token in zip(self._rows, sampled, strict=True)
            if index in self._active
        ]

    def _prefill(self) -> tuple[KVCache, torch.Tensor]:
        """Run the prompts; returns their cache and the hidden state of each prompt's last token (B, H)."""
        model, lengths = self._model, [len(prompt) for prompt in self._prompts]
        longest = max(lengths)
        capacity = max(length + new for length, new in zip(lengths, self._remaining, strict=True))
        cache = KVCache.from_model_config(model.config, len(lengths), capacity, model.device, model.dtype)
        padded = [[*prompt, *[0] * (longest - len(prompt))] for prompt in self._prompts]
        token_ids = torch.tensor(padded, device=model.device)
        last = torch.empty(len(lengths), model.config.hidden_size, device=model.device, dtype=model.dtype)
        for start in range(0, longest, PREFILL_TOKENS):
            end = min(start + PREFILL_TOKENS, longest)
            hidden = model(token_ids[:, start:end], cache=cache)
            for row, length in enumerate(lengths):
                if start < length <= end:
                    last[row] = hidden[row, length - 1 - start]
        cache.truncate(lengths)
        return cache, last

    def _drop_finished_rows(self, cache: KVCache) -> None:
        """Fill the gaps with rows from the end, so that few rows move."""
        alive = [row for row, index in enumerate(self._rows) if index in self._active]
        if len(alive) == len(self._rows):
            return
        movers = iter([row for row in alive if row >= len(alive)])
        kept = [row if self._rows[row] in self._active else next(movers) for row in range(len(alive))]
        cache.keep(kept)
        self._sampler.keep(kept)
        self._rows = [self._rows[row] for row in kept]
        self._last = [self._last[row] for row in kept]

    def _record(self, index: int, token: SampledToken) -> NextToken:
        self._remaining[index] -= 1
        reason: FinishReason | None = None
        if token.token_id in self._eos_token_ids and not self._options[index].ignore_eos:
            reason = "stop"
        elif self._remaining[index] == 0:
            reason = "length"
        if reason is not None:
            self.stop(index)
        return NextToken(index, *token, finish_reason=reason)


def generate_with_cache(
    model: Transformer,
    prompt: Sequence[int],
    options: SamplingOptions | None = None,
    *,
    eos_token_ids: Collection[int] = (),
) -> list[int]:
    """The tokens that follow one prompt."""
    return batch_generate(model, [prompt], options, eos_token_ids=eos_token_ids)[0]


def batch_generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    options: SamplingOptions | None = None,
    *,
    eos_token_ids: Collection[int] = (),
) -> list[list[int]]:
    """The tokens that follow each prompt; lengths may differ, and no row influences another."""
    if not prompts:
        return []
    shared = [options or SamplingOptions()] * len(prompts)
    generation = BatchGeneration(model, prompts, shared, eos_token_ids=eos_token_ids)
    outputs: list[list[int]] = [[] for _ in prompts]
    while generation.has_pending_work:
        for token in generation.step():
            outputs[token.index].append(token.token_id)
    return outputs


def check_prompts(prompts: Sequence[Sequence[int]], config: ModelConfig, *, room: int = 1) -> None:
    """Every prompt has tokens, all of the vocabulary, and leaves `room` for as many more in the context."""
    for prompt in prompts:
        if len(prompt) == 0:
            raise InvalidPrompt("A prompt has no tokens.", hint="Give at least one.")
        if not all(isinstance(token, int) for token in prompt):
            raise InvalidPrompt("A prompt of token ids holds something that is not a whole number.")
        lowest, highest = min(prompt), max(prompt)
        if lowest < 0 or highest >= config.vocab_size:
            raise InvalidPrompt(
                f"A prompt holds token {lowest if lowest < 0 else highest}, but the model knows 0 to "
                f"{config.vocab_size - 1}.",
                hint="Check that the tokenizer belongs to the model.",
            )
        if len(prompt) + room > config.max_positions:
            raise PromptTooLong(
                f"A prompt of {len(prompt)} tokens is too long for a context of {config.max_positions}.",
                hint="Shorten it.",
            )
