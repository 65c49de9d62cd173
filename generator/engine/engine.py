"""The serving engine: many requests share every forward pass, joining and leaving between steps."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from collections.abc import Sequence as Seq
from itertools import count

import torch

from generator.cache.pool import KVPool
from generator.cache.sizing import KVLayout, build_memory, default_kv_bytes
from generator.engine.generate import check_prompts
from generator.engine.requests import GenerationRequest, RequestProgress
from generator.engine.runner import ModelRunner
from generator.engine.sample import Sample
from generator.engine.sampling import SampledToken, sample
from generator.engine.scheduler import Scheduler, SchedulerLimits
from generator.engine.sequence import Piece, Sequence, SequenceState
from generator.engine.speculation import StepCost, count_accepted
from generator.engine.stats import EngineStats
from generator.engine.streaming import EngineThread, iterate, stream
from generator.errors import (
    GeneratorError,
    InvalidEngineConfig,
    InvalidRequest,
    OutOfMemory,
    PromptTooLong,
    StepFailed,
    TokenizerMissing,
)
from generator.model.attention_backend import backend_named
from generator.model.transformer import Transformer
from generator.tokenizer import Tokenizer
from generator.types import TokenEvent

Listener = Callable[[RequestProgress], None]

_log = logging.getLogger("generator.engine")


class ContinuousBatchingEngine:
    """Schedules, runs and samples, a step at a time.

    `step` may be called directly, or left to the one thread that `submit`, `iterate` and `stream` start when
    there is work. All methods may be called from any thread. Greedy outputs in float32 do not depend on what
    else is in a step, on `layout`, `prefix_cache`, `speculation`, nor on how prompts are split.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer | None = None,
        *,
        eos_token_ids: Collection[int] = (),
        kv_bytes: int | None = None,  # of keys and values; None: a share of the memory that is free
        layout: KVLayout = "paged",
        block_size: int = 16,  # tokens
        max_num_sequences: int = 64,
        max_tokens_per_step: int = 512,
        prefix_cache: bool = True,
        speculation: bool = False,
        prefill_first: bool = False,
        attention: str = "auto",
        adapter: str | None = None,  # names the weights' state, so that no cache outlives it
    ) -> None:
        """Allocates the memory. Raises OutOfMemory and InvalidEngineConfig."""
        if block_size < 1 or (kv_bytes is not None and kv_bytes < 1):
            raise InvalidEngineConfig("block_size and kv_bytes must be at least 1.")
        if layout not in ("paged", "contiguous"):
            raise InvalidEngineConfig(f"layout is {layout!r}, but must be paged or contiguous.")
        limits = SchedulerLimits(max_num_sequences, max_tokens_per_step, prefill_first=prefill_first)
        config = model.config
        memory = build_memory(
            config,
            layout=layout,
            kv_bytes=kv_bytes
            or default_kv_bytes(
                config, device=model.device, dtype=model.dtype, max_num_sequences=max_num_sequences
            ),
            dtype=model.dtype,
            block_size=block_size,
            max_num_sequences=max_num_sequences,
            max_piece_tokens=config.max_positions if prefill_first else max_tokens_per_step,
            prefix_cache=prefix_cache,
        )
        pool = KVPool(config, memory.groups, device=model.device, dtype=model.dtype)
        self.scheduler = Scheduler(memory, limits)
        self.runner = ModelRunner(model, memory, pool, backend_named(attention, model.device))
        self.tokenizer = tokenizer
        self.stats = EngineStats()
        own_end = tokenizer.eos_token_ids if tokenizer else frozenset()
        self._eos_token_ids = frozenset(eos_token_ids) | own_end
        self._namespace = (id(model), str(model.dtype), adapter)
        self._speculation = speculation
        self._step_cost = StepCost()
        self._samples: dict[int, Sample] = {}  # unfinished, by sequence id
        self._requests: dict[str, list[Sample]] = {}  # with an unfinished sample
        self._listeners: dict[str, Listener] = {}
        self._sequence_ids = count()
        self._books = threading.RLock()  # over everything above; not held while the model runs
        self._stepping = threading.Lock()
        self._thread = EngineThread(self._work)

    # --- requests come and go ---------------------------------------------------------------------

    @property
    def has_pending_work(self) -> bool:
        """Whether a request is unfinished."""
        return self.scheduler.has_pending_work

    @property
    def max_sequence_tokens(self) -> int:
        """Tokens that prompt and output of a request may have together."""
        return min(self.runner.model.config.max_positions, self.scheduler.memory.max_sequence_tokens)

    def add_request(self, request: GenerationRequest, *, listener: Listener | None = None) -> str:
        """Take a request in and return its id; nobody but its sender hears of it when it is impossible.

        `listener` gets its progress, on the thread that steps. Raises InvalidRequest, InvalidPrompt,
        PromptTooLong, TokenizerMissing and InvalidSampling.
        """
        prompt = self._prompt_of(request)
        sequence = Sequence(
            next(self._sequence_ids), list(prompt), priority=request.priority, namespace=self._namespace
        )
        first = self._sample(request, 0, sequence, num_prompt_tokens=len(prompt))
        with self._books:
            if request.request_id in self._requests:
                raise InvalidRequest(
                    f"There is a request {request.request_id!r} already.",
                    hint="Give each an id of its own, or none.",
                )
            self._requests[request.request_id] = [first]
            self._samples[sequence.sequence_id] = first
            if listener is not None:
                self._listeners[request.request_id] = listener
            self.scheduler.add(sequence)
        return request.request_id

    def cancel(self, request_id: str) -> bool:
        """End a request; its memory is free for the next step. False where it was over already."""
        with self._books:
            samples = [each for each in self._requests.get(request_id, ()) if not each.finished]
            for each in samples:
                each.cancel()
                self._retire(each)
            self._tell([each.progress() for each in samples])
            return bool(samples)

    def submit(self, request: GenerationRequest, listener: Listener) -> str:
        """`add_request`, and have the engine's thread do the work."""
        request_id = self.add_request(request, listener=listener)
        self._thread.wake()
        return request_id

    def iterate(self, request: GenerationRequest) -> Iterator[TokenEvent]:
        """The tokens of a request as they come, for a blocking reader; closing the iterator cancels."""
        return iterate(self, request)

    def stream(self, request: GenerationRequest) -> AsyncIterator[TokenEvent]:
        """The tokens of a request as they come, for asyncio; leaving the loop cancels."""
        return stream(self, request)

    # --- a step -----------------------------------------------------------------------------------

    def step(self) -> list[RequestProgress]:
        """Advance the requests by one forward pass; returns those that moved, an entry for each sample."""
        with self._stepping:
            with self._books:
                self._draft()
                plan = self.scheduler.schedule()
            if not plan:
                return []
            started = time.perf_counter()
            try:
                logits = self.runner.run(plan)
            except Exception as error:  # noqa: BLE001  whatever it was, it was about these requests only
                outcome = self._fail(self._alive(plan), _step_error(error))
            else:
                with self._books:
                    outcome = self._take_tokens(plan, logits)
                self._observe(plan, time.perf_counter() - started)
            self._tell(outcome)
            return outcome

    def check_integrity(self) -> None:
        """Raise AssertionError where memory or books do not balance. For tests."""
        with self._books:
            self.scheduler.check_integrity()
            alive = {each.sequence_id for each in (*self.scheduler.waiting, *self.scheduler.running)}
            assert alive == set(self._samples), "a sequence without a sample, or the other way round"
            assert set(self._listeners) <= set(self._requests)

    # --- parts of a step --------------------------------------------------------------------------

    def _draft(self) -> None:
        """Guess what decoding sequences will say next, where that has paid so far."""
        if not self._speculation:
            return
        decoding = [each for each in self.scheduler.running if each.is_decoding]
        for sequence in decoding:
            each = self._samples[sequence.sequence_id]
            if each.lookup is not None:
                wanted = each.draft_policy.draft_tokens(self._step_cost, num_sequences=len(decoding))
                # The last token needs no draft: verifying one yields a token on top.
                wanted = min(wanted, each.num_remaining_tokens - 1)
                sequence.draft_token_ids = each.lookup.propose(wanted)

    def _take_tokens(self, plan: Seq[Piece], logits: torch.Tensor) -> list[RequestProgress]:
        """Sample, verify drafts, and record what each piece came to."""
        self.stats.num_steps += 1
        turns = self._turns(plan)
        rows = [row for _, own_rows in turns for row in own_rows]
        chosen = iter(
            sample(
                logits if rows == list(range(len(logits))) else logits[rows],
                [each.state for (_, each), own_rows in turns for _ in own_rows],
                ahead=[ahead for _, own_rows in turns for ahead in range(len(own_rows))],
            )
        )
        tokens = {each: [next(chosen) for _ in own_rows] for (_, each), own_rows in turns}
        moved: list[Sample] = []
        for piece in plan:
            if piece.sequence.state is SequenceState.RUNNING:  # else it was cancelled meanwhile
                moved += self._advance(piece, tokens)
        return [each.progress() for each in moved]

    def _turns(self, plan: Seq[Piece]) -> list[tuple[tuple[Piece, Sample], range]]:
        """Who samples from which rows of the scores: a piece's own sample, and siblings yet to be forked."""
        turns: list[tuple[tuple[Piece, Sample], range]] = []
        row = 0
        for piece in plan:
            if piece.samples:
                own_rows = range(row, row + 1 + piece.num_draft_tokens)
                row = own_rows.stop
                if piece.sequence.state is SequenceState.RUNNING:
                    first = self._samples[piece.sequence.sequence_id]
                    turns += [((piece, each), own_rows) for each in (first, *self._siblings(first))]
        return turns

    def _siblings(self, first: Sample) -> list[Sample]:
        """The other samples of a request, made once its prompt is computed."""
        request = first.request
        known = self._requests[request.request_id]
        if len(known) < request.n:
            prompt = first.sequence.token_ids
            for index in range(1, request.n):
                sequence = Sequence(
                    next(self._sequence_ids),
                    list(prompt),
                    priority=request.priority,
                    namespace=self._namespace,
                )
                known.append(self._sample(request, index, sequence, num_prompt_tokens=len(prompt)))
            return known[1:]
        return []

    def _advance(
        self, piece: Piece, tokens: dict[Sample, list[SampledToken | GeneratorError]]
    ) -> list[Sample]:
        """Give a piece's samples their tokens; returns the samples that moved."""
        own = self._samples[piece.sequence.sequence_id]
        if not piece.samples:
            self.scheduler.advance(piece, [])
            return []
        if own.num_remaining_tokens == own.max_new_tokens:
            self.stats.num_prompt_tokens += own.num_prompt_tokens
            self.stats.num_cached_tokens += own.sequence.num_cached_tokens
        siblings = [
            each
            for each in self._requests[own.request.request_id]
            if each in tokens and not each.finished and each.sequence.sequence_id not in self._samples
        ]
        draft = piece.sequence.draft_token_ids[: piece.num_draft_tokens]
        self.scheduler.advance(piece, self._accept(own, tokens[own], draft))
        # Fork before the parent may finish: what it has computed is shared as long as it is there.
        for each in siblings if own.error is None else ():
            each.sequence.token_ids += self._accept(each, tokens[each], [])
            if not each.finished:
                self._samples[each.sequence.sequence_id] = each
                self.scheduler.fork(piece.sequence, each.sequence)
        for each in (own, *siblings):
            if own.error is not None and not each.finished:
                each.fail(own.error)
            if each.finished:
                self._retire(each)
        return [own, *siblings]

    def _accept(
        self, taker: Sample, chosen: Seq[SampledToken | GeneratorError], draft: Seq[int]
    ) -> list[int]:
        """Give a sample the tokens that stand, up to its end; returns them."""
        num_accepted = 0
        if draft:
            ids = [-1 if isinstance(token, GeneratorError) else token.token_id for token in chosen]
            num_accepted = count_accepted(draft, ids)
            taker.draft_policy.observe_draft(len(draft), num_accepted)
            self.stats.num_drafted_tokens += len(draft)
            self.stats.num_accepted_tokens += num_accepted
        else:
            taker.draft_policy.observe_plain()
        taken: list[int] = []
        for token in chosen[: num_accepted + 1]:
            if isinstance(token, GeneratorError):
                taker.fail(token)
            else:
                taker.take(token)
                taken.append(token.token_id)
            if taker.finished:
                break
        self.stats.num_output_tokens += len(taken)
        return taken

    def _observe(self, plan: Seq[Piece], seconds: float) -> None:
        """Learn what a decode step costs; drafts are weighed against it."""
        if all(piece.num_tokens == 1 + piece.num_draft_tokens for piece in plan):
            self._step_cost.observe(sum(piece.num_tokens for piece in plan), seconds)

    # --- the books --------------------------------------------------------------------------------

    def _prompt_of(self, request: GenerationRequest) -> list[int]:
        if self.tokenizer is None and (request.prompt is not None or request.options.stop):
            raise TokenizerMissing(
                "The engine has no tokenizer, so it takes and returns token ids only.",
                hint="Give prompts as lists of token ids and no stop texts.",
            )
        prompt = request.prompt_token_ids
        if prompt is None:
            assert self.tokenizer is not None
            assert request.prompt is not None
            prompt = self.tokenizer.encode(request.prompt)
        check_prompts([prompt], self.runner.model.config)
        if len(prompt) >= self.max_sequence_tokens:
            raise PromptTooLong(
                f"A prompt of {len(prompt)} tokens is too long for a key/value memory of "
                f"{self.max_sequence_tokens}.",
                hint="Shorten it, or give the engine more with kv_bytes.",
            )
        return prompt

    def _sample(
        self, request: GenerationRequest, index: int, sequence: Sequence, *, num_prompt_tokens: int
    ) -> Sample:
        room = self.max_sequence_tokens - num_prompt_tokens
        return Sample(
            request,
            index,
            sequence,
            num_prompt_tokens=num_prompt_tokens,
            max_new_tokens=min(request.options.max_new_tokens, room),
            vocab_size=self.runner.model.config.vocab_size,
            tokenizer=self.tokenizer,
            eos_token_ids=self._eos_token_ids,
            speculates=self._speculation,
        )

    def _alive(self, plan: Seq[Piece]) -> list[Sample]:
        """The samples of a plan that were not cancelled meanwhile."""
        ids = (piece.sequence.sequence_id for piece in plan)
        return [self._samples[number] for number in ids if number in self._samples]

    def _retire(self, each: Sample) -> None:
        """Take a finished sample out of the books, and its request with the last of them."""
        if self._samples.pop(each.sequence.sequence_id, None) is not None:
            self.scheduler.finish(each.sequence)
        siblings = self._requests.get(each.request.request_id, [])
        if all(sibling.finished for sibling in siblings):
            self._requests.pop(each.request.request_id, None)

    def _fail(self, samples: Seq[Sample], error: GeneratorError) -> list[RequestProgress]:
        """End samples, and with them their requests; the others never notice."""
        with self._books:
            for each in samples:
                each.fail(error)
                self._retire(each)
            return [each.progress() for each in samples]

    def _tell(self, news: Seq[RequestProgress]) -> None:
        """Hand progress to its readers; one that raises has its request cancelled."""
        with self._books:
            pairs = [(progress, self._listeners.get(progress.request_id)) for progress in news]
            for request_id in {progress.request_id for progress in news} - self._requests.keys():
                self._listeners.pop(request_id, None)
        for progress, listener in pairs:
            if listener is None:
                continue
            try:
                listener(progress)
            except Exception:  # noqa: BLE001  a reader is not the engine's own
                _log.exception("The reader of request %s failed; it is cancelled.", progress.request_id)
                self.cancel(progress.request_id)

    def _work(self) -> bool:
        """A turn of the engine's thread: a step if there is something to do."""
        if not self.has_pending_work:
            return False
        try:
            self.step()
        except Exception as error:  # noqa: BLE001  a reader must never wait for a thread that is gone
            self._tell(self._fail(list(self._samples.values()), _step_error(error)))
        return True


def _step_error(error: Exception) -> GeneratorError:
    """What to tell the requests of a step that raised."""
    if isinstance(error, GeneratorError):
        return error
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        return OutOfMemory(
            "The step did not fit into the memory of its device.",
            hint="Give the engine a smaller max_tokens_per_step or kv_bytes.",
        )
    _log.error("A step failed.", exc_info=error)
    return StepFailed(f"The model could not be run: {error}.", hint="The log has the details.")
