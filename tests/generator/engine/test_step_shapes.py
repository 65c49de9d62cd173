"""What a step costs besides its sums: few operators for each layer, and few different shapes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from generator.engine.engine import ContinuousBatchingEngine
from generator.engine.padding import padded_rows
from generator.engine.requests import GenerationRequest
from generator.model.config import ModelConfig
from generator.model.fixed_rows import ROW_TILE
from generator.model.transformer import Transformer

CPU = torch.device("cpu")


def num_operators(num_layers: int, dtype: torch.dtype) -> int:
    """Calls of PyTorch's operators, those inside of others included, while one token is decoded."""
    config = ModelConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=48,
        num_layers=num_layers,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        max_positions=96,
    )
    model = Transformer(config).to(dtype).eval()
    model.initialise(generator=torch.Generator().manual_seed(0))
    engine = ContinuousBatchingEngine(model, kv_bytes=2**20)
    engine.add_request(GenerationRequest(prompt_token_ids=range(20), max_new_tokens=9))
    for _ in range(2):
        engine.step()
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        engine.step()
    return sum(event.name.startswith("aten::") for event in profiler.events())


@pytest.mark.parametrize(("dtype", "most"), [(torch.bfloat16, 160), (torch.float32, 145)])
def test_a_layer_of_a_decoded_token_calls_few_operators(dtype: torch.dtype, most: int) -> None:
    assert num_operators(3, dtype) - num_operators(2, dtype) <= most


def test_a_step_has_few_sizes_and_little_padding() -> None:
    def rows(num_tokens: int) -> int:
        return padded_rows(num_tokens, device=CPU, dtype=torch.bfloat16, deterministic=False)

    sizes = {rows(num_tokens) for num_tokens in range(1, 513)}
    assert rows(1) == 1  # a matrix-vector product
    assert len(sizes) <= 36
    for num_tokens in range(1, 513):
        assert num_tokens <= rows(num_tokens) < max(2 * num_tokens, num_tokens + 16)
        assert rows(rows(num_tokens)) == rows(num_tokens)


def test_float32_is_not_padded_and_the_deterministic_mode_always_is() -> None:
    for num_tokens in (1, 7, 33, 500):
        assert padded_rows(num_tokens, device=CPU, dtype=torch.float32, deterministic=False) == num_tokens
        for dtype in (torch.float32, torch.bfloat16):
            rows = padded_rows(num_tokens, device=CPU, dtype=dtype, deterministic=True)
            assert rows % ROW_TILE == 0
            assert num_tokens <= rows < num_tokens + ROW_TILE


def test_padding_reaches_neither_memory_nor_scores(
    model_of: Callable[[str], Transformer], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = {"a": range(11), "b": range(30, 37)}
    scores = []
    for num_padding in (0, 5):
        monkeypatch.setattr(
            "generator.engine.runner.padded_rows", lambda num, *, more=num_padding, **_: num + more
        )
        engine = ContinuousBatchingEngine(model_of("llama"), kv_bytes=2**20, block_size=4)
        for request_id, prompt in prompts.items():
            engine.add_request(
                GenerationRequest(
                    prompt_token_ids=prompt, max_new_tokens=4, request_id=request_id, logprobs=True
                )
            )
        last = {}
        while engine.has_pending_work:
            last |= {progress.request_id: progress for progress in engine.step()}
        scores.append([each.logprob for name in prompts for each in last[name].logprobs])
        written = [int(part.abs().sum(dim=(1, 2)).count_nonzero()) for part in engine.runner.pool.keys]
        assert written == [11 + 3 + 7 + 3] * 2  # the last token of each is never run
    assert scores[1] == pytest.approx(scores[0], abs=1e-5)
