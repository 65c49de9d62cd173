"""A Hugging Face checkpoint behind the common face."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import torch

from generator.citations import CitedText, says_unanswerable
from generator.engine.generate import BatchGeneration, NextToken, check_prompts
from generator.engine.text import OutputText
from generator.errors import InvalidPrompt, TokenizerMissing
from generator.generator import Generator, Prompt
from generator.loading import ModelFolder, resolve_folder
from generator.lora import LoraAdapter, attach_lora, merge_lora
from generator.model.transformer import Transformer
from generator.prompting import UNANSWERABLE, GroundedPrompt, build_prompt
from generator.quantization import quantize_int8
from generator.tokenizer import Tokenizer
from generator.types import (
    Completion,
    FinishReason,
    GroundedAnswer,
    Passage,
    SamplingOptions,
    SamplingOverrides,
    TokenEvent,
    TokenLogprob,
    Usage,
)

BATCH_SIZE = 16  # prompts decoded together unless the caller says otherwise
_NO_PROMPT = "A prompt must be text or a list of token ids."


class CheckpointGenerator(Generator):
    """A transformer, its tokenizer if there is one, and the tokens at which it ends."""

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer | None = None,
        *,
        eos_token_ids: frozenset[int] = frozenset(),
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.eos_token_ids = eos_token_ids | (tokenizer.eos_token_ids if tokenizer else frozenset())

    @classmethod
    def load(
        cls, name_or_path: str | Path, *, device: torch.device, dtype: torch.dtype
    ) -> CheckpointGenerator:
        """Load a model folder or hub name; a folder without tokenizer takes token ids only."""
        path = resolve_folder(name_or_path)
        folder = ModelFolder.open(path)
        tokenizer = Tokenizer.from_folder(path)
        model = folder.load_weights(device=device, dtype=dtype)
        return cls(model, tokenizer, eos_token_ids=folder.eos_token_ids)

    def load_lora(self, folder: str | Path) -> None:
        """Put a PEFT adapter beside the weights."""
        attach_lora(self.model, LoraAdapter.load(resolve_folder(folder)))

    def merge_lora(self) -> int:
        """Fold the loaded adapters into the weights; returns how many layers changed."""
        return merge_lora(self.model)

    def quantize_int8(self) -> int:
        """Turn the weights into int8 (adapters merged before); returns how many layers changed."""
        return quantize_int8(self.model)

    @property
    def context_length(self) -> int:
        """Tokens that prompt and output may have together."""
        return self.model.config.max_positions

    @torch.inference_mode()
    def logits(self, token_ids: torch.Tensor | Sequence[Sequence[int]]) -> torch.Tensor:
        """See `Generator.logits`."""
        tokens = torch.as_tensor(token_ids, dtype=torch.long)
        if tokens.dim() != 2:
            raise InvalidPrompt(f"Token ids must be (batch, tokens), not {tuple(tokens.shape)}.")
        check_prompts(tokens.tolist(), self.model.config, room=0)
        return self.model.project(self.model(tokens.to(self.model.device))).float()

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        options: SamplingOptions | None = None,
        batch_size: int = BATCH_SIZE,
        **overrides: Unpack[SamplingOverrides],
    ) -> list[Completion]:
        """See `Generator.generate`; `batch_size` prompts share a forward pass."""
        chosen = _options(options, overrides)
        token_ids = self._tokenize(_several(prompts))
        # Prompts of similar length together waste the least padding.
        order = sorted(range(len(token_ids)), key=lambda index: len(token_ids[index]))
        completions: dict[int, Completion] = {}
        for start in range(0, len(order), batch_size):
            group = order[start : start + batch_size]
            outputs = self._complete([token_ids[index] for index in group], chosen)
            completions.update(zip(group, outputs, strict=True))
        return [completions[index] for index in range(len(token_ids))]

    def stream(
        self,
        prompt: Prompt,
        *,
        options: SamplingOptions | None = None,
        **overrides: Unpack[SamplingOverrides],
    ) -> Iterator[TokenEvent]:
        """See `Generator.stream`. Without a tokenizer every event has a token and no text."""
        chosen = _options(options, overrides)
        [token_ids] = self._tokenize([prompt])
        return self._stream(token_ids, chosen)

    def answer_stream(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        options: SamplingOptions | None = None,
        **overrides: Unpack[SamplingOverrides],
    ) -> Iterator[TokenEvent | GroundedAnswer]:
        """See `Generator.answer_stream`."""
        chosen = _options(options, overrides)
        if not question.strip():
            raise InvalidPrompt("The question is empty.", hint="Ask something.")
        if not passages:
            return iter((TokenEvent(UNANSWERABLE), _unsupported(UNANSWERABLE, Usage(0, 0))))
        room = self.context_length - min(chosen.max_new_tokens, self.context_length // 2)
        prompt = build_prompt(self._require_tokenizer(), question, passages, max_tokens=room)
        return self._answer(prompt, chosen)

    def _answer(
        self, prompt: GroundedPrompt, options: SamplingOptions
    ) -> Iterator[TokenEvent | GroundedAnswer]:
        cited = CitedText(prompt.passages)
        num_tokens = 0
        for text, token_id in self._stream(prompt.token_ids, options):
            num_tokens += token_id is not None
            if shown := cited.push(text):
                yield TokenEvent(shown, token_id)
        if shown := cited.finish():
            yield TokenEvent(shown)
        usage = Usage(len(prompt.token_ids), num_tokens)
        if not cited.spans or says_unanswerable(cited.text):
            if not cited.text:
                yield TokenEvent(UNANSWERABLE)
            yield _unsupported(cited.text or UNANSWERABLE, usage)
            return
        yield GroundedAnswer(
            text=cited.text,
            supported=True,
            confidence=cited.confidence,
            spans=cited.spans,
            passage_ids=cited.passage_ids,
            usage=usage,
        )

    def _stream(self, token_ids: list[int], options: SamplingOptions) -> Iterator[TokenEvent]:
        generation = self._start([token_ids], options)
        output = OutputText(self.tokenizer, options.stop)
        while generation.has_pending_work:
            for token in generation.step():
                yield TokenEvent(self._take(token, output, generation, options), token.token_id)
        if rest := output.finish():
            yield TokenEvent(rest)

    def _complete(self, prompts: list[list[int]], options: SamplingOptions) -> list[Completion]:
        generation = self._start(prompts, options)
        outputs = [OutputText(self.tokenizer, options.stop) for _ in prompts]
        texts = [""] * len(prompts)
        tokens: list[list[NextToken]] = [[] for _ in prompts]
        while generation.has_pending_work:
            for token in generation.step():
                tokens[token.index].append(token)
                texts[token.index] += self._take(token, outputs[token.index], generation, options)
        return [
            _completion(text + output.finish(), taken, output.stopped, len(prompt), options)
            for text, taken, output, prompt in zip(texts, tokens, outputs, prompts, strict=True)
        ]

    def _start(self, prompts: list[list[int]], options: SamplingOptions) -> BatchGeneration:
        if options.stop:
            self._require_tokenizer()
        return BatchGeneration(
            self.model, prompts, [options] * len(prompts), eos_token_ids=self.eos_token_ids
        )

    def _take(
        self, token: NextToken, output: OutputText, generation: BatchGeneration, options: SamplingOptions
    ) -> str:
        """The text a token adds; ends its prompt at a stop text. An end token has no text."""
        if token.finish_reason == "stop":
            return ""
        text = output.push(token.token_id)
        if output.stopped:
            generation.stop(token.index)
        return text

    def _tokenize(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        return [
            self._require_tokenizer().encode(prompt) if isinstance(prompt, str) else _token_ids(prompt)
            for prompt in prompts
        ]

    def _require_tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise TokenizerMissing(
                "The model folder has no tokenizer.json, so it takes and returns token ids only.",
                hint="Give prompts as lists of token ids, or add the tokenizer's files.",
            )
        return self.tokenizer


def _options(options: SamplingOptions | None, overrides: SamplingOverrides) -> SamplingOptions:
    fields = dict(overrides)
    if isinstance(stop := fields.get("stop"), str | list):
        fields["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    if isinstance(bias := fields.get("logit_bias"), Mapping):
        fields["logit_bias"] = tuple(bias.items())
    return replace(options or SamplingOptions(), **fields)


def _several(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """A list of prompts, also where one prompt came alone."""
    if isinstance(prompts, str):
        return [prompts]
    if not isinstance(prompts, Iterable):
        raise InvalidPrompt(_NO_PROMPT)
    items = prompts.tolist() if isinstance(prompts, torch.Tensor) else list(prompts)
    return [items] if items and all(isinstance(item, int) for item in items) else items


def _token_ids(prompt: Sequence[int]) -> list[int]:
    try:
        return [operator.index(token) for token in prompt]  # NumPy's and PyTorch's whole numbers, too
    except TypeError as error:
        raise InvalidPrompt(_NO_PROMPT) from error


def _completion(
    text: str, tokens: list[NextToken], stopped: bool, num_prompt_tokens: int, options: SamplingOptions
) -> Completion:
    reason: FinishReason = "stop" if stopped else tokens[-1].finish_reason or "length"
    logprobs = tuple(TokenLogprob(token.token_id, token.logprob or 0.0) for token in tokens)
    return Completion(
        text=text,
        token_ids=tuple(token.token_id for token in tokens),
        finish_reason=reason,
        num_prompt_tokens=num_prompt_tokens,
        logprobs=logprobs if options.logprobs else None,
        top_logprobs=tuple(token.top_logprobs for token in tokens) if options.top_logprobs else None,
    )


def _unsupported(text: str, usage: Usage) -> GroundedAnswer:
    return GroundedAnswer(text=text, supported=False, confidence=0.0, spans=(), passage_ids=(), usage=usage)
