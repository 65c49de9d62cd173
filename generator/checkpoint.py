"""A Hugging Face checkpoint behind the common face."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Unpack

import torch

from generator.cancellation import Cancellation
from generator.citations import CitedText, says_unanswerable
from generator.engine.engine import ContinuousBatchingEngine
from generator.engine.generate import check_prompts
from generator.engine.requests import (
    NO_PROMPT,
    GenerationRequest,
    RequestProgress,
    merge_options,
    whole_numbers,
)
from generator.errors import InvalidPrompt, TokenizerMissing
from generator.generator import Generator, Prompt
from generator.loading import ModelFolder, resolve_folder
from generator.lora import LoraAdapter, attach_lora, merge_lora
from generator.model.fused_layers import check_fusible
from generator.model.transformer import Transformer
from generator.prompting import UNANSWERABLE, CachedOrder, GroundedPrompt, build_prompt
from generator.quantization import quantize_int8
from generator.tokenizer import Tokenizer
from generator.types import (
    Completion,
    GroundedAnswer,
    Passage,
    SamplingOptions,
    SamplingOverrides,
    TokenEvent,
    Usage,
)


class CheckpointGenerator(Generator):
    """A transformer, its tokenizer if there is one, and the tokens at which it ends.

    All generation, from whichever thread, runs on one engine: what comes at the same time shares its steps.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer | None = None,
        *,
        eos_token_ids: frozenset[int] = frozenset(),
        engine: ContinuousBatchingEngine | None = None,
        compile_layers: bool = False,
    ) -> None:
        """`engine` is one over the same model, set up by the caller; by default one is made on use.

        `compile_layers` is for the latter. Raises UnsupportedOperation and CompilerUnavailable.
        """
        if compile_layers:
            check_fusible(model)
        self.model = model
        self.tokenizer = tokenizer
        self.eos_token_ids = eos_token_ids | (tokenizer.eos_token_ids if tokenizer else frozenset())
        self._engine = engine
        self._compile_layers = compile_layers
        self._engine_lock = threading.Lock()

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        *,
        device: torch.device,
        dtype: torch.dtype,
        compile_layers: bool = False,
    ) -> CheckpointGenerator:
        """Load a model folder or hub name; a folder without tokenizer takes token ids only."""
        path = resolve_folder(name_or_path)
        folder = ModelFolder.open(path)
        tokenizer = Tokenizer.from_folder(path)
        model = folder.load_weights(device=device, dtype=dtype)
        return cls(model, tokenizer, eos_token_ids=folder.eos_token_ids, compile_layers=compile_layers)

    def load_lora(self, folder: str | Path) -> None:
        """Put a PEFT adapter beside the weights."""
        attach_lora(self.model, LoraAdapter.load(resolve_folder(folder)))
        self._engine = None  # with the keys and values of the weights as they were

    def merge_lora(self) -> int:
        """Fold the loaded adapters into the weights; returns how many layers changed."""
        self._engine = None
        return merge_lora(self.model)

    @property
    def device(self) -> torch.device:
        """See `Generator.device`."""
        return self.model.device

    @property
    def engine(self) -> ContinuousBatchingEngine:
        """What all generation runs on, with its memory; made on first use."""
        with self._engine_lock:
            if self._engine is None:
                self._engine = ContinuousBatchingEngine(
                    self.model,
                    self.tokenizer,
                    eos_token_ids=self.eos_token_ids,
                    speculation=True,
                    compile_layers=self._compile_layers,
                )
            return self._engine

    def quantize_int8(self) -> int:
        """Turn the weights into int8 (adapters merged before); returns how many layers changed."""
        self._engine = None  # with the keys and values of the weights as they were
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
        **overrides: Unpack[SamplingOverrides],
    ) -> list[Completion]:
        """See `Generator.generate`."""
        chosen = merge_options(options, overrides)
        requests = [self._request(tokens, chosen) for tokens in self._tokenize(_several(prompts))]
        return self._complete(requests)

    def stream(
        self,
        prompt: Prompt,
        *,
        options: SamplingOptions | None = None,
        **overrides: Unpack[SamplingOverrides],
    ) -> Iterator[TokenEvent]:
        """See `Generator.stream`. Without a tokenizer every event has a token and no text."""
        chosen = merge_options(options, overrides)
        [token_ids] = self._tokenize([prompt])
        return self._stream(token_ids, chosen)

    def answer_stream(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        options: SamplingOptions | None = None,
        scores: Sequence[float] | None = None,
        score_band: float = 0.0,
        cancellation: Cancellation | None = None,
        **overrides: Unpack[SamplingOverrides],
    ) -> Iterator[TokenEvent | GroundedAnswer]:
        """See `Generator.answer_stream`."""
        chosen = merge_options(options, overrides)
        if not question.strip():
            raise InvalidPrompt("The question is empty.", hint="Ask something.")
        if not passages:
            return iter((TokenEvent(UNANSWERABLE), _unsupported(UNANSWERABLE, Usage(0, 0))))
        tokenizer, most = self._require_tokenizer(), self.engine.max_sequence_tokens
        room = most - min(chosen.max_new_tokens, most // 2)
        order = None
        if scores is not None:
            order = CachedOrder(scores, score_band, self.engine.num_cached_tokens)
        prompt = build_prompt(tokenizer, question, passages, max_tokens=room, cached_order=order)
        return self._answer(prompt, chosen, cancellation)

    def stats(self) -> dict[str, float]:
        """See `Generator.stats`; nothing as long as nothing was generated."""
        engine = self._engine
        return {} if engine is None else engine_stats(engine)

    def _answer(
        self, prompt: GroundedPrompt, options: SamplingOptions, cancellation: Cancellation | None
    ) -> Iterator[TokenEvent | GroundedAnswer]:
        cited = CitedText(prompt.passages, ranks=prompt.ranks)
        num_tokens = 0
        for text, token_id in self._stream(prompt.token_ids, options, cancellation):
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

    def _stream(
        self, token_ids: list[int], options: SamplingOptions, cancellation: Cancellation | None = None
    ) -> Iterator[TokenEvent]:
        """Closing the iterator cancels the request."""
        engine, request = self.engine, self._request(token_ids, options)
        tokens = engine.iterate(request)
        if cancellation is not None:
            cancellation.on_cancel(lambda: engine.cancel(request.request_id))
        yield from tokens

    def _complete(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """Run requests side by side; the first error is raised, and the rest cancelled."""
        engine, inbox = self.engine, queue.SimpleQueue[RequestProgress]()
        done: dict[str, Completion] = {}
        try:
            for request in requests:
                engine.submit(request, inbox.put)
            while len(done) < len(requests):
                progress = inbox.get()
                if progress.error is not None:
                    raise progress.error
                if progress.finished:
                    done[progress.request_id] = _completion(progress)
        finally:
            for request in requests:
                engine.cancel(request.request_id)
        return [done[request.request_id] for request in requests]

    def _request(self, token_ids: list[int], options: SamplingOptions) -> GenerationRequest:
        if options.stop:
            self._require_tokenizer()
        return GenerationRequest(prompt_token_ids=token_ids, options=options)

    def _tokenize(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        return [
            self._require_tokenizer().encode(prompt) if isinstance(prompt, str) else whole_numbers(prompt)
            for prompt in prompts
        ]

    def _require_tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise TokenizerMissing(
                "The model folder has no tokenizer.json, so it takes and returns token ids only.",
                hint="Give prompts as lists of token ids, or add the tokenizer's files.",
            )
        return self.tokenizer


def _several(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """A list of prompts, also where one prompt came alone."""
    if isinstance(prompts, str):
        return [prompts]
    if not isinstance(prompts, Iterable):
        raise InvalidPrompt(NO_PROMPT)
    items = prompts.tolist() if isinstance(prompts, torch.Tensor) else list(prompts)
    return [items] if items and all(isinstance(item, int) for item in items) else items


def _completion(progress: RequestProgress) -> Completion:
    return Completion(
        text=progress.text,
        token_ids=progress.token_ids,
        finish_reason="stop" if progress.finish_reason == "stop" else "length",
        num_prompt_tokens=progress.num_prompt_tokens,
        logprobs=progress.logprobs,
        top_logprobs=progress.top_logprobs,
    )


def engine_stats(engine: ContinuousBatchingEngine) -> dict[str, float]:
    """An engine's counts and its present state, under the names of `Generator.stats`."""
    scheduler = engine.scheduler
    counts = {
        f"{field.name.removeprefix('num_')}_total": getattr(engine.stats, field.name)
        for field in fields(engine.stats)
    }
    return {
        **counts,
        "preemptions_total": scheduler.num_preemptions,
        "running_sequences": len(scheduler.running),
        "waiting_sequences": len(scheduler.waiting),
        "kv_usage": scheduler.memory.usage,
        "prefix_hit_rate": engine.stats.prefix_hit_rate,
        "acceptance_rate": engine.stats.acceptance_rate,
    }


def _unsupported(text: str, usage: Usage) -> GroundedAnswer:
    return GroundedAnswer(text=text, supported=False, confidence=0.0, spans=(), passage_ids=(), usage=usage)
