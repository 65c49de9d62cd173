"""The serving engine: many requests share every forward pass, joining and leaving between steps."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator, Collection, Iterator
from collections.abc import Sequence as Seq

from generator.cache.sizing import KVLayout, build_memory, default_kv_bytes
from generator.engine.assembly import build_runner, default_block_size
from generator.engine.books import Books, Listener
from generator.engine.drafting import Drafter
from generator.engine.failures import step_error
from generator.engine.intake import Intake
from generator.engine.requests import GenerationRequest, RequestProgress
from generator.engine.scheduler import Scheduler, SchedulerLimits
from generator.engine.stats import EngineStats
from generator.engine.streaming import EngineThread, iterate, stream
from generator.engine.taking import TokenTaker
from generator.errors import InvalidEngineConfig
from generator.model.transformer import Transformer
from generator.tokenizer import Tokenizer
from generator.types import TokenEvent

_log = logging.getLogger("generator.engine")


class ContinuousBatchingEngine:
    """Schedules, runs and samples, a step at a time.

    `step` may be called directly, or left to the one thread that `submit`, `iterate` and `stream` start when
    there is work. All methods may be called from any thread.

    Greedy outputs do not depend on what else is in a step, on `layout`, `prefix_cache`, `speculation`, nor on
    how prompts are split: in float32, and with `deterministic` in every number format. Then even the scores
    are the same to the last bit (on one machine, with one number of threads); the price is speed, because
    matrix products and attention run in tiles of fixed shape.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer | None = None,
        *,
        eos_token_ids: Collection[int] = (),
        kv_bytes: int | None = None,  # of keys and values; None: a share of the memory that is free
        layout: KVLayout = "paged",
        block_size: int | None = None,  # tokens; None: 16 on the CPU, 128 on a GPU
        max_num_sequences: int = 64,
        max_tokens_per_step: int = 512,
        prefix_cache: bool = True,
        speculation: bool = False,
        prefill_first: bool = False,
        attention: str = "auto",
        cuda_graphs: bool | None = None,  # None: on a GPU, where attention can be recorded
        compile_layers: bool = False,  # norms, rotations and activations; takes time at first
        deterministic: bool = False,
        adapter: str | None = None,  # names the weights' state, so that no cache outlives it
    ) -> None:
        """Allocates the memory. Raises OutOfMemory, InvalidEngineConfig and CompilerUnavailable."""
        block_size = default_block_size(model.device) if block_size is None else block_size
        if block_size < 1 or (kv_bytes is not None and kv_bytes < 1):
            raise InvalidEngineConfig("block_size and kv_bytes must be at least 1.")
        if layout not in ("paged", "contiguous"):
            raise InvalidEngineConfig(f"layout is {layout!r}, but must be paged or contiguous.")
        if deterministic and attention not in ("auto", "fixed"):
            raise InvalidEngineConfig(
                f"A deterministic engine cannot use the attention {attention!r}.",
                hint="Leave attention at auto, or switch deterministic off.",
            )
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
        self.scheduler = Scheduler(memory, limits)
        self.runner = build_runner(
            model,
            memory,
            attention=attention,
            deterministic=deterministic,
            cuda_graphs=cuda_graphs,
            compile_layers=compile_layers,
            max_num_sequences=max_num_sequences,
        )
        self.stats = EngineStats()
        self._namespace = (id(model), str(model.dtype), adapter)  # whose keys and values these are
        self._intake = Intake(
            config,
            tokenizer,
            eos_token_ids=eos_token_ids,
            namespace=self._namespace,
            max_sequence_tokens=min(config.max_positions, memory.max_sequence_tokens),
            speculates=speculation,
        )
        self._books = Books(self.scheduler)
        self._taker = TokenTaker(self.scheduler, self._books, self._intake, self.stats)
        self._drafter = Drafter() if speculation else None
        self._lock = threading.RLock()  # over scheduler, books and stats; not held while the model runs
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
        return self._intake.max_sequence_tokens

    def num_cached_tokens(self, token_ids: Seq[int]) -> int:
        """How many tokens of a prompt would not be computed if it came now. Changes nothing."""
        with self._lock:
            return self.scheduler.memory.num_cached_tokens(token_ids, namespace=self._namespace)

    def add_request(self, request: GenerationRequest, *, listener: Listener | None = None) -> str:
        """Take a request in and return its id; nobody but its sender hears of it when it is impossible.

        `listener` gets its progress, on the thread that steps. Raises InvalidRequest, InvalidPrompt,
        PromptTooLong, TokenizerMissing and InvalidSampling.
        """
        first = self._intake.sample(request, 0, self._intake.prompt_of(request))
        with self._lock:
            self._books.open(first, listener)
        return request.request_id

    def cancel(self, request_id: str) -> bool:
        """End a request; its memory is free for the next step. False where it was over already."""
        with self._lock:
            samples = [each for each in self._books.of_request(request_id) if not each.finished]
            for each in samples:
                each.cancel()
                self._books.retire(each)
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
            with self._lock:
                if self._drafter is not None:
                    self._drafter.draft(self.scheduler.running, self._books.samples)
                plan = self.scheduler.schedule()
            if not plan:
                return []
            started = time.perf_counter()
            try:
                logits = self.runner.run(plan)
            except Exception as error:  # noqa: BLE001  whatever it was, it was about these requests only
                with self._lock:
                    news = self._books.fail(self._books.alive(plan), step_error(error))
            else:
                with self._lock:
                    news = self._taker.take(plan, logits)
                if self._drafter is not None:
                    self._drafter.observe(plan, time.perf_counter() - started)
            self._tell(news)
            return news

    def check_integrity(self) -> None:
        """Raise AssertionError where memory or books do not balance. For tests."""
        with self._lock:
            self._books.check_integrity()

    def _tell(self, news: Seq[RequestProgress]) -> None:
        """Hand progress to its readers; one that raises has its request cancelled."""
        with self._lock:
            pairs = self._books.addressees(news)
        for progress, listener in pairs:
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
            with self._lock:
                news = self._books.fail(list(self._books.samples.values()), step_error(error))
            self._tell(news)
        return True
