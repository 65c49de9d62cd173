"""Decode steps that are recorded once and replayed, with a recorder that needs no GPU."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from generator.cache.memory import KVGroup
from generator.engine.decode_graphs import DecodeGraphs, most_visible_blocks
from generator.engine.engine import ContinuousBatchingEngine
from generator.engine.requests import GenerationRequest, RequestProgress
from generator.errors import InvalidEngineConfig
from generator.model.attention_backend import PagedBackend
from generator.model.config import ModelConfig
from generator.model.transformer import Transformer

Build = Callable[..., ContinuousBatchingEngine]
Finish = Callable[..., dict[str, RequestProgress]]


class CountingRecorder:
    """Records nothing: a replay is the step once more."""

    def __init__(self) -> None:
        self.num_recorded = 0
        self.num_replayed = 0

    def record(self, step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        self.num_recorded += 1
        graph = self.graph_of(step)

        def replay() -> torch.Tensor:
            self.num_replayed += 1
            return graph()

        return replay

    def graph_of(self, step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        return step


class TracingRecorder(CountingRecorder):
    """Records as a GPU does: operators on the same tensors are replayed, not the Python around them."""

    def graph_of(self, step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        step()
        return make_fx(step)()


class FailingRecorder:
    def __init__(self) -> None:
        self.num_tries = 0

    def record(self, step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        self.num_tries += 1
        step()
        raise RuntimeError("operation not permitted when stream is capturing")


@pytest.fixture
def with_graphs(
    build_engine: Build, listed_blocks: Callable[[int], PagedBackend]
) -> Callable[..., ContinuousBatchingEngine]:
    """An engine on the CPU whose decode steps are recorded."""

    def build(recorder: Any, family: str = "llama", *, max_rows: int = 8, **options: Any) -> Any:
        engine = build_engine(family, attention="flex", **options)
        runner = engine.runner
        runner.backend = listed_blocks(runner.backend.block_size)
        runner.graphs = DecodeGraphs(
            runner.model,
            runner.pool,
            runner.backend,
            recorder,
            max_rows=max_rows,
            max_sequence_tokens=engine.max_sequence_tokens,
        )
        return engine

    return build


def requests(*lengths: int, max_new_tokens: int = 6, seed: int = 0) -> list[GenerationRequest]:
    chance = random.Random(seed)
    return [
        GenerationRequest(
            prompt_token_ids=[chance.randrange(60) for _ in range(length)],
            max_new_tokens=max_new_tokens,
            ignore_eos=True,
            request_id=str(number),
        )
        for number, length in enumerate(lengths)
    ]


def tokens(done: dict[str, RequestProgress]) -> dict[str, tuple[int, ...]]:
    return {name: progress.token_ids for name, progress in done.items()}


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_replayed_steps_give_the_tokens_of_steps_that_python_runs(
    family: str, build_engine: Build, with_graphs: Build, finish: Finish
) -> None:
    recorder = TracingRecorder()
    wanted = requests(11, 3, 18, max_new_tokens=9)
    found = finish(with_graphs(recorder, family), wanted, steps_between=2)
    assert tokens(found) == tokens(finish(build_engine(family), wanted, steps_between=2))
    assert recorder.num_replayed > recorder.num_recorded  # buffers were filled anew and graphs used again


def test_there_is_one_graph_for_each_power_of_two(with_graphs: Build, finish: Finish) -> None:
    recorder = CountingRecorder()
    engine = with_graphs(recorder)
    finish(engine, requests(4, 4, 4))
    assert engine.runner.graphs.num_rows == (4,)
    finish(engine, requests(4, 4, 4, seed=1))
    assert recorder.num_recorded == 1
    finish(engine, requests(5))
    assert engine.runner.graphs.num_rows == (1, 4)


def test_a_step_with_a_prompt_or_with_too_many_sequences_is_no_graph(
    with_graphs: Build, finish: Finish
) -> None:
    recorder = CountingRecorder()
    engine = with_graphs(recorder, max_rows=2)
    finish(engine, requests(4, max_new_tokens=1))  # its one step is a prompt
    finish(engine, requests(4, 4, 4))
    assert recorder.num_replayed == 0
    finish(engine, requests(4, 4, max_new_tokens=3))
    assert recorder.num_replayed == 2


def test_rows_of_padding_write_to_the_scratch_block_only(with_graphs: Build, finish: Finish) -> None:
    engine = with_graphs(CountingRecorder(), prefix_cache=False)
    finish(engine, requests(4, 4, 4, max_new_tokens=5))
    pool = engine.runner.pool
    for layer, keys in enumerate(pool.keys):
        num_slots = pool.groups[pool.group_of[layer]].num_slots
        written = keys.abs().sum(dim=(1, 2)) > 0
        assert int(written[:num_slots].sum()) == 3 * (4 + 4)  # the last token of each is never run
        assert int(written[num_slots:].sum()) == 1


def test_where_nothing_can_be_recorded_the_engine_goes_on_without_and_says_so_once(
    build_engine: Build, with_graphs: Build, finish: Finish, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = FailingRecorder()
    engine = with_graphs(recorder)
    with caplog.at_level(logging.WARNING, logger="generator.engine"):
        found = finish(engine, requests(6, 2))
    assert tokens(found) == tokens(finish(build_engine(), requests(6, 2)))
    assert recorder.num_tries == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert engine.runner.graphs.num_rows == ()


@pytest.mark.parametrize("window", [None, 1, 2, 4, 5, 6, 17])
def test_a_tables_buffer_holds_what_any_token_sees(window: int | None) -> None:
    group = KVGroup(window, (0,), 400)
    for block_size in (1, 4, 16):
        most = most_visible_blocks(window, max_sequence_tokens=96, block_size=block_size)
        needed = [
            position // block_size - group.first_visible(position) // block_size + 1 for position in range(96)
        ]
        assert max(needed) == most


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cuda_graphs": True}, "no CUDA graphs on cpu"),
        ({"attention": "flex", "layout": "contiguous"}, "reads block tables"),
        ({"deterministic": True, "cuda_graphs": True}, "no graphs"),
        ({"deterministic": True, "compile_layers": True}, "no compiled layers"),
    ],
)
def test_what_cannot_be_had_is_refused(options: dict[str, Any], says: str, build_engine: Build) -> None:
    with pytest.raises(InvalidEngineConfig, match=says) as caught:
        build_engine(**options)
    assert caught.value.hint


def test_the_cpu_has_neither_graphs_nor_scratch(build_engine: Build) -> None:
    runner = build_engine().runner
    assert runner.graphs is None
    assert runner.backend.name == "cpu"
    assert [len(keys) for keys in runner.pool.keys] == [group.num_slots for group in runner.pool.groups] * 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compile_layers", [False, True])
@pytest.mark.parametrize("windows", [(), (None, 6)])
def test_cuda_graphs_give_the_tokens_of_the_reference(
    windows: tuple[int | None, ...], compile_layers: bool, finish: Finish
) -> None:
    config = ModelConfig(
        vocab_size=60,
        hidden_size=64,
        intermediate_size=96,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,  # the least that kernels take
        max_positions=512,
        windows=windows,
    )
    model = Transformer(config).eval()
    model.initialise(std=0.4, generator=torch.Generator().manual_seed(0))
    model.to("cuda")
    wanted = requests(11, 3, 200, 1, 18, max_new_tokens=9)
    expected = ContinuousBatchingEngine(model, kv_bytes=2**24, attention="sdpa")
    engine = ContinuousBatchingEngine(model, kv_bytes=2**24, compile_layers=compile_layers)
    assert engine.runner.backend.name == "flex"
    assert tokens(finish(engine, wanted)) == tokens(finish(expected, wanted))
    assert engine.runner.graphs.num_rows
