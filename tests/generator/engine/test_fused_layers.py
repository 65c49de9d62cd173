"""Layers compiled around attention: the same sums, compiled once for all layers.

With gradients, because a norm without takes a way of its own on the CPU, which is not the GPU's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from generator.errors import UnsupportedOperation
from generator.model import compiling
from generator.model.config import ModelConfig
from generator.model.fused_layers import with_fused_layers
from generator.model.transformer import Transformer


@pytest.mark.parametrize("family", ["qwen3", "smollm3"])
def test_fused_layers_compute_what_layers_compute(
    family: str, model_of: Callable[[str], Transformer]
) -> None:
    model = model_of(family)
    token_ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    fused = with_fused_layers(model, backend="eager")
    torch.testing.assert_close(fused(token_ids), model(token_ids))
    assert type(model.layers[0]).__name__ == "Layer"  # left as it was
    assert all(one is other for one, other in zip(fused.parameters(), model.parameters(), strict=True))


def test_all_layers_share_what_was_compiled_for_the_first() -> None:
    config = ModelConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=48,
        num_layers=5,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        max_positions=96,
    )
    model = Transformer(config).eval()
    model.initialise(generator=torch.Generator().manual_seed(0))
    counter = CompileCounter()
    fused = with_fused_layers(model, backend=counter)
    fused(torch.arange(8)[None])
    assert counter.frame_count == 2  # before and after attention
    for num_tokens in (9, 10, 11, 12):
        fused(torch.arange(num_tokens)[None])
    assert counter.frame_count == 4  # once more, for any number of tokens


def test_layers_are_not_compiled_on_the_cpu(build_engine: Callable[..., object]) -> None:
    with pytest.raises(UnsupportedOperation, match="on GPUs only") as caught:
        build_engine(compile_layers=True)
    assert caught.value.hint


def test_without_a_compiler_the_error_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(function: Callable[..., Any]) -> Callable[..., Any]:
        def fail(*_: Any) -> Any:
            raise RuntimeError("Failed to find C compiler.\nPlease specify via CC.")

        return fail

    monkeypatch.setattr(compiling, "compiled", no_compiler)
    with pytest.raises(compiling.CompilerUnavailable, match="here: Failed to find C compiler") as caught:
        compiling.check_compiler(torch.device("cpu"))
    assert "gcc" in caught.value.hint


def test_a_compiler_that_computes_something_else_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "compiled", lambda function: lambda numbers: function(numbers) + 1)
    with pytest.raises(compiling.CompilerUnavailable, match="is wrong"):
        compiling.check_compiler(torch.device("cpu"))


def test_an_older_pytorch_has_its_limit_of_variants_lifted_for_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = torch._dynamo.config.recompile_limit

    def older(function: Callable[..., Any], *, fullgraph: bool, dynamic: Any, backend: Any) -> Any:
        return lambda *arguments: (function(*arguments), torch._dynamo.config.recompile_limit)

    monkeypatch.setattr(torch, "compile", older)
    assert compiling.compiled(abs)(-3) == (3, 64)
    assert torch._dynamo.config.recompile_limit == usual < 64
