"""The engine: requests join, leave, fail and stream without anyone else noticing."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from generator.cache.memory import KVGroup
from generator.cache.pool import KVPool
from generator.engine.engine import ContinuousBatchingEngine
from generator.engine.generate import generate_with_cache
from generator.engine.requests import GenerationRequest, RequestProgress
from generator.engine.sampling import sample
from generator.engine.streaming import EngineThread
from generator.errors import (
    GeneratorError,
    InvalidEngineConfig,
    InvalidPrompt,
    InvalidRequest,
    InvalidSampling,
    NonFiniteLogits,
    OutOfMemory,
    PromptTooLong,
    StepFailed,
    TokenizerMissing,
)
from generator.types import SamplingOptions

Build = Callable[..., ContinuousBatchingEngine]
Finish = Callable[..., dict[str, RequestProgress]]


class Letters:
    """A tokenizer of 60 characters, for stop texts that span tokens."""

    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567"
    eos_token_ids: frozenset[int] = frozenset()

    def encode(self, text: str) -> list[int]:
        return [self.alphabet.index(letter) for letter in text]

    def decode(self, token_ids: Any) -> str:
        return "".join(self.alphabet[token] for token in token_ids)


def request(*tokens: int, **options: Any) -> GenerationRequest:
    return GenerationRequest(prompt_token_ids=tokens, **{"max_new_tokens": 6, **options})


def test_progress_tells_all_so_far_after_every_step(build_engine: Build, model_of: Any) -> None:
    engine = build_engine()
    engine.add_request(request(1, 2, 3, request_id="mine"))
    assert engine.has_pending_work
    assert engine.scheduler.has_pending_work
    seen = []
    while engine.has_pending_work:
        [progress] = engine.step()
        seen.append(progress)
    expected = generate_with_cache(model_of("llama"), [1, 2, 3], SamplingOptions(max_new_tokens=6))
    assert [list(progress.token_ids) for progress in seen] == [expected[:count] for count in range(1, 7)]
    assert [progress.finished for progress in seen] == [False] * 5 + [True]
    assert seen[-1].finish_reason == "length"
    assert {progress.request_id for progress in seen} == {"mine"}
    assert engine.step() == []


def test_a_request_may_join_while_others_decode(build_engine: Build) -> None:
    engine = build_engine()
    engine.add_request(request(1, 2, request_id="early"))
    engine.step()
    engine.add_request(request(*range(10), request_id="late"))
    assert {progress.request_id for progress in engine.step()} == {"early", "late"}


def test_an_end_token_ends_unless_ignored(build_engine: Build, model_of: Any, finish: Finish) -> None:
    free = generate_with_cache(model_of("llama"), [1, 2], SamplingOptions(max_new_tokens=8))
    end = free[3]
    engine = build_engine(eos_token_ids=[end])
    plain = request(1, 2, max_new_tokens=8, request_id="plain")
    ignoring = request(1, 2, max_new_tokens=8, ignore_eos=True, request_id="ignoring")
    outputs = finish(engine, [plain, ignoring])
    assert list(outputs["plain"].token_ids) == free[: free.index(end) + 1]
    assert outputs["plain"].finish_reason == "stop"
    assert list(outputs["ignoring"].token_ids) == free


@pytest.mark.parametrize("speculation", [False, True])
def test_a_stop_text_across_tokens_ends_the_text_before_it(
    build_engine: Build, model_of: Any, finish: Finish, speculation: bool
) -> None:
    engine = build_engine(speculation=speculation, tokenizer=Letters())
    free = Letters().decode(
        generate_with_cache(model_of("llama"), [5, 5, 5], SamplingOptions(max_new_tokens=30))
    )
    stop = free[11:14]
    outputs = finish(engine, [GenerationRequest("fff", stop=stop, max_new_tokens=30, request_id="x")])
    assert outputs["x"].text == free[: free.index(stop)]
    assert outputs["x"].finish_reason == "stop"


def test_samples_of_one_request_differ_and_repeat_with_the_seed(build_engine: Build, finish: Finish) -> None:
    for layout in ("paged", "contiguous"):
        drawn = []
        for max_num_sequences in (8, 2):
            engine = build_engine(layout=layout, max_num_sequences=max_num_sequences)
            engine.add_request(request(1, 2, 3, 4, 5, n=3, temperature=1.5, seed=7, max_new_tokens=9))
            outputs: dict[int, tuple[int, ...]] = {}
            while engine.has_pending_work:
                for progress in engine.step():
                    outputs[progress.sample_index] = progress.token_ids
                engine.check_integrity()
            drawn.append(outputs)
        assert drawn[0] == drawn[1]
        assert len(set(drawn[0].values())) == 3
        alone = build_engine(layout=layout)
        single = finish(alone, [request(1, 2, 3, 4, 5, temperature=1.5, seed=7, max_new_tokens=9)])
        assert [progress.token_ids for progress in single.values()] == [drawn[0][0]]


def test_the_same_prompt_again_reports_what_was_cached(build_engine: Build, finish: Finish) -> None:
    engine = build_engine()
    prompt = list(range(22))
    finish(engine, [request(*prompt, request_id="first")])
    again = finish(engine, [request(*prompt, request_id="again")])["again"]
    assert again.num_prompt_tokens == 22
    assert again.num_cached_tokens == 20
    assert engine.stats.prefix_hit_rate == pytest.approx(20 / 44)


@pytest.mark.parametrize("layout", ["paged", "contiguous"])
def test_what_would_be_cached_can_be_asked_without_changing_anything(
    build_engine: Build, finish: Finish, layout: str
) -> None:
    engine = build_engine(layout=layout)
    prompt, other = list(range(22)), [*range(10), *range(40, 50)]
    assert engine.num_cached_tokens(prompt) == 0
    finish(engine, [request(*prompt, request_id="first")])
    for asked in (prompt, other, prompt[:9], [50]):
        told = engine.num_cached_tokens(asked)
        assert engine.num_cached_tokens(asked) == told
        engine.check_integrity()
        assert finish(engine, [request(*asked, request_id="next")])["next"].num_cached_tokens == told
    assert engine.scheduler.memory.usage == 0


@pytest.mark.parametrize("layout", ["paged", "contiguous"])
def test_a_thousand_requests_with_random_cancellations_leak_nothing(build_engine: Build, layout: str) -> None:
    engine = build_engine("qwen2", layout=layout, max_num_sequences=32, max_tokens_per_step=64)
    engine.runner.run = lambda plan: torch.randn(  # the books are what is tested, not the sums
        sum(1 + piece.num_draft_tokens for piece in plan if piece.samples), 60
    )
    chance = random.Random(0)
    alive: list[str] = []
    for number in range(1000):
        prompt = [chance.randrange(3) for _ in range(chance.randrange(1, 40))]
        options = {"n": chance.choice((1, 1, 2)), "priority": chance.randrange(3)}
        alive.append(engine.add_request(request(*prompt, max_new_tokens=chance.randrange(1, 20), **options)))
        if number % 4 == 0:
            engine.step()
        if chance.random() < 0.4:
            engine.cancel(chance.choice(alive))
        if number % 50 == 0:
            engine.check_integrity()
    while engine.has_pending_work:
        engine.step()
    engine.check_integrity()
    assert engine.scheduler.memory.usage == 0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: request(), InvalidPrompt, "no tokens"),
        (lambda: request(1, 60), InvalidPrompt, "token 60"),
        (lambda: request(*[1] * 96), PromptTooLong, "96 tokens is too long for a context of 96"),
        (lambda: request(*[1] * 40), PromptTooLong, "key/value memory of 40"),
        (lambda: request(1, max_new_tokens=0), InvalidSampling, "max_new_tokens is 0"),
        (lambda: request(1, max_new_tokens=-3), InvalidSampling, "max_new_tokens is -3"),
        (lambda: request(1, stop=5), InvalidSampling, "stop is 5"),
        (lambda: request(1, stop=["x"]), TokenizerMissing, "no tokenizer"),
        (lambda: request(1, logit_bias={99: 1.0}), InvalidSampling, "token 99"),
        (lambda: request(1, n=0), InvalidRequest, "n is 0"),
        (lambda: request(1, request_id="good"), InvalidRequest, "already"),
        (lambda: GenerationRequest("text"), TokenizerMissing, "no tokenizer"),
        (lambda: GenerationRequest(), InvalidRequest, "needs a prompt"),
        (lambda: GenerationRequest(prompt_token_ids=["a"]), InvalidPrompt, "list of token ids"),
    ],
)
def test_an_impossible_request_is_its_own_senders_problem(
    build_engine: Build, make: Callable[[], GenerationRequest], error: type[Exception], message: str
) -> None:
    engine = build_engine(kv_bytes=10 * 4 * 2 * 2 * 16 * 4)
    engine.add_request(request(1, 2, request_id="good"))
    engine.step()
    with pytest.raises(error, match=message):
        engine.add_request(make())
    engine.check_integrity()
    while engine.has_pending_work:
        [last] = engine.step()
    assert last.finish_reason == "length"


def test_output_ends_where_the_memory_does(build_engine: Build, finish: Finish) -> None:
    engine = build_engine(kv_bytes=5 * 4 * 2 * 2 * 16 * 4)
    outputs = finish(engine, [request(1, 2, 3, max_new_tokens=500, request_id=name) for name in "ab"])
    assert [len(progress.token_ids) for progress in outputs.values()] == [17, 17]


def test_scores_that_are_no_numbers_fail_one_request_alone(build_engine: Build, finish: Finish) -> None:
    engine = build_engine()
    run = engine.runner.run

    def poisoned(plan: Any) -> torch.Tensor:
        logits, row = run(plan).clone(), 0
        for piece in plan:
            if piece.samples:
                if piece.sequence.token_ids[0] == 13 and len(piece.sequence.token_ids) == 5:
                    logits[row] = float("nan")
                row += 1
        return logits

    engine.runner.run = poisoned
    outputs = finish(engine, [request(first, 2, 3, request_id=str(first)) for first in (12, 13, 14)])
    assert outputs["13"].finish_reason == "error"
    assert isinstance(outputs["13"].error, NonFiniteLogits)
    assert len(outputs["13"].token_ids) == 2
    assert [len(outputs[name].token_ids) for name in ("12", "14")] == [6, 6]


@pytest.mark.parametrize(
    ("raised", "told"), [(RuntimeError("boom"), StepFailed), (torch.OutOfMemoryError("full"), OutOfMemory)]
)
def test_a_step_that_fails_ends_its_requests_and_not_the_engine(
    build_engine: Build, finish: Finish, raised: Exception, told: type[GeneratorError]
) -> None:
    engine = build_engine()
    run, engine.runner.run = engine.runner.run, lambda plan: (_ for _ in ()).throw(raised)
    outputs = finish(engine, [request(1, request_id="unlucky")])
    assert isinstance(outputs["unlucky"].error, told)
    engine.runner.run = run
    assert finish(engine, [request(1, request_id="next")])["next"].finish_reason == "length"


def test_impossible_settings_are_typed_errors(build_engine: Build) -> None:
    with pytest.raises(OutOfMemory, match="kv_bytes is 10"):
        build_engine(kv_bytes=10)
    with pytest.raises(OutOfMemory, match="kv_bytes is 10"):
        build_engine(kv_bytes=10, layout="contiguous")
    config = build_engine().runner.model.config
    with pytest.raises(OutOfMemory, match="does not fit beside the model"):
        KVPool(config, [KVGroup(None, (0, 1), 2**50)], device=torch.device("cpu"), dtype=torch.float32)
    for options in ({"layout": "scattered"}, {"attention": "magic"}, {"block_size": 0}):
        with pytest.raises(InvalidEngineConfig):
            build_engine(**options)


def test_many_readers_share_steps_and_get_what_they_would_alone(build_engine: Build, model_of: Any) -> None:
    engine = build_engine()
    prompts = [[index, index + 1] for index in range(12)]

    async def read(prompt: list[int]) -> list[int | None]:
        return [event.token_id async for event in engine.stream(request(*prompt))]

    async def read_all() -> list[list[int | None]]:
        return await asyncio.gather(*(read(prompt) for prompt in prompts))

    outputs = asyncio.run(read_all())
    options = SamplingOptions(max_new_tokens=6)
    assert outputs == [generate_with_cache(model_of("llama"), prompt, options) for prompt in prompts]
    assert engine.stats.num_steps < 12 * 6 / 2
    engine.check_integrity()


def test_a_reader_who_leaves_takes_the_request_along(build_engine: Build) -> None:
    engine = build_engine()

    async def leave_early() -> None:
        stream = engine.stream(request(1, max_new_tokens=90))
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(leave_early())
    tokens = engine.iterate(request(2, max_new_tokens=90))
    next(tokens)
    tokens.close()
    assert not engine.has_pending_work
    engine.check_integrity()


def test_a_blocking_reader_hears_of_cancellation_and_of_errors(build_engine: Build) -> None:
    engine = build_engine()
    tokens = engine.iterate(request(1, request_id="x", max_new_tokens=90))
    next(tokens)
    engine.cancel("x")
    list(tokens)  # comes to an end
    engine.runner.run = lambda plan: (_ for _ in ()).throw(RuntimeError("boom"))
    with pytest.raises(StepFailed, match="boom"):
        list(engine.iterate(request(1)))
    with pytest.raises(InvalidRequest, match="one sample"):
        engine.iterate(request(1, n=2))


def test_a_listener_that_raises_loses_its_request_only(build_engine: Build) -> None:
    engine = build_engine()

    def broken(_: RequestProgress) -> None:
        raise RuntimeError("the reader is gone")

    engine.add_request(request(1, max_new_tokens=50), listener=broken)
    engine.add_request(request(2, request_id="fine"))
    engine.step()
    engine.check_integrity()
    while engine.has_pending_work:
        [last] = engine.step()
    assert (last.request_id, last.finish_reason) == ("fine", "length")


def test_requests_cancelled_while_the_model_runs_leave_no_trace(build_engine: Build) -> None:
    engine = build_engine()
    run = engine.runner.run

    def cancelling(plan: Any) -> torch.Tensor:
        engine.cancel("first")
        return run(plan)

    engine.add_request(request(1, 2, request_id="first"))
    engine.add_request(request(3, 4, request_id="second"))
    engine.runner.run = cancelling
    assert [progress.request_id for progress in engine.step()] == ["second"]
    engine.check_integrity()


def test_the_thread_sleeps_and_wakes(build_engine: Build) -> None:
    engine = build_engine()
    engine._thread._idle_s = 0.02
    for _ in range(2):
        assert len(list(engine.iterate(request(1)))) == 6
        deadline = time.monotonic() + 120
        while engine._thread._thread is not None:
            assert time.monotonic() < deadline, "the thread does not go to sleep"
            time.sleep(0.01)


def test_sampling_is_called_once_a_step(build_engine: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        "generator.engine.taking.sample",
        lambda logits, states, **ahead: calls.append(len(states)) or sample(logits, states, **ahead),
    )
    engine = build_engine()
    for index in range(5):
        engine.add_request(request(index))
    engine.step()
    assert calls == [5]


def test_the_thread_ends_between_two_calls_and_whoever_ends_it_waits_for_that() -> None:
    calls, in_a_call, may_go_on = [], threading.Event(), threading.Event()

    def work() -> bool:
        calls.append("begun")
        in_a_call.set()
        assert may_go_on.wait(60)
        calls.append("done")
        return True  # there is always more to do

    thread = EngineThread(work)
    thread.wake()
    assert in_a_call.wait(60)
    ending = threading.Thread(target=thread.end)
    ending.start()
    while not thread._ending:
        time.sleep(0.001)
    assert ending.is_alive()
    may_go_on.set()
    ending.join(60)
    assert calls == ["begun", "done"]
    thread.wake()  # too late for more
    assert thread._thread is None
