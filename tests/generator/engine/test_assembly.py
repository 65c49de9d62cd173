"""Which way of running steps an engine takes, and what it does where that does not work."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from generator.engine import assembly
from generator.engine.engine import ContinuousBatchingEngine
from generator.errors import CompilerUnavailable, InvalidEngineConfig
from generator.model.attention_backend import backend_named
from generator.model.attention_flex import FlexBackend

GPU = torch.device("cuda")  # only named: nothing is allocated there


@pytest.fixture(autouse=True)
def nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generator.model.attention_flex.compiled", lambda function, **_: function)


@pytest.mark.parametrize(
    ("block_size", "name"), [(128, "flex"), (16, "flex"), (8, "sdpa"), (48, "sdpa"), (None, "sdpa")]
)
def test_a_gpu_reads_block_tables_where_its_kernels_can(block_size: int | None, name: str) -> None:
    assert backend_named("auto", GPU, block_size=block_size).name == name


def test_the_default_block_is_what_the_devices_kernels_take() -> None:
    assert assembly.default_block_size(torch.device("cpu")) == 16
    assert backend_named("auto", GPU, block_size=assembly.default_block_size(GPU)).name == "flex"


@pytest.mark.parametrize("block_size", [8, 48])
def test_a_block_size_that_no_kernel_takes_is_refused_where_flex_is_asked_for(block_size: int) -> None:
    with pytest.raises(InvalidEngineConfig, match="power of two") as caught:
        backend_named("flex", GPU, block_size=block_size)
    assert "sdpa" in caught.value.hint


def test_without_a_compiler_auto_falls_back_and_says_why_and_flex_is_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_here(device: torch.device) -> None:
        raise CompilerUnavailable("There is no Triton.", hint="Install it.")

    monkeypatch.setattr(assembly, "check_compiler", none_here)
    with caplog.at_level(logging.WARNING, logger="generator.engine"):
        assert assembly.choose_backend("auto", GPU, 128).name == "sdpa"
    assert "There is no Triton. Install it." in caplog.text
    with pytest.raises(CompilerUnavailable):
        assembly.choose_backend("flex", GPU, 128)


class Wrong(FlexBackend):
    """Gives back the question as the answer."""

    def attend(self, query: torch.Tensor, *_: Any) -> torch.Tensor:
        return query


def test_kernels_that_fail_their_trial_are_an_error_where_they_were_asked_for(
    build_engine: Callable[..., ContinuousBatchingEngine],
) -> None:
    runner = build_engine(attention="flex").runner
    wrong = Wrong(4, compile_kernels=False)
    with pytest.raises(InvalidEngineConfig, match="does not work here") as caught:
        assembly.tried(wrong, runner.pool, runner.model.config, may_fall_back=False)
    assert "sdpa" in caught.value.hint


def test_kernels_that_fail_their_trial_are_not_used(
    build_engine: Callable[..., ContinuousBatchingEngine],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrong = Wrong(4, compile_kernels=False)
    monkeypatch.setattr(assembly, "backend_named", lambda *_, **__: wrong)
    with caplog.at_level(logging.WARNING, logger="generator.engine"):
        runner = build_engine().runner
    assert runner.backend.name == "sdpa"
    assert runner.graphs is None
    assert "is off by" in caplog.text
    assert "falls back to the reference" in caplog.text
