"""Tiny random models in the shapes of the families, and engines over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch

from generator.engine.engine import ContinuousBatchingEngine
from generator.engine.requests import GenerationRequest, RequestProgress
from generator.model.config import ModelConfig
from generator.model.transformer import Transformer

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"windows": (5, 5)},
    "qwen2": {"qkv_bias": True, "windows": (None, 6), "tied_embeddings": True},
    "qwen3": {"qk_norm": True, "num_kv_heads": 1},
    "smollm3": {"rope_layers": (True, False), "windows": (4, None), "num_kv_heads": 4},
}


@cache
def _model(family: str) -> Transformer:
    shape = {
        "vocab_size": 60,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 8,
        "max_positions": 96,
    }
    model = Transformer(ModelConfig(**{**shape, **FAMILIES[family]})).eval()
    model.initialise(std=0.4, generator=torch.Generator().manual_seed(0))
    return model


@pytest.fixture(scope="session")
def model_of() -> Callable[[str], Transformer]:
    """The model of a family; shared, so leave its weights alone."""
    return _model


@pytest.fixture(scope="session")
def build_engine() -> Callable[..., ContinuousBatchingEngine]:
    """An engine over a family's model."""

    def build(family: str = "llama", **options: Any) -> ContinuousBatchingEngine:
        defaults = {"block_size": 4, "max_num_sequences": 8, "max_tokens_per_step": 16}
        return ContinuousBatchingEngine(_model(family), **{**defaults, **options})

    return build


@pytest.fixture(scope="session")
def finish() -> Callable[..., dict[str, RequestProgress]]:
    """Run requests to their end, the books checked after every step; returns their last progress by id."""

    def run(
        engine: ContinuousBatchingEngine, requests: Sequence[GenerationRequest], *, steps_between: int = 0
    ) -> dict[str, RequestProgress]:
        last: dict[str, RequestProgress] = {}

        def step() -> None:
            for progress in engine.step():
                last[progress.request_id] = progress
            engine.check_integrity()

        for request in requests:
            engine.add_request(request)
            for _ in range(steps_between):
                step()
        while engine.has_pending_work:
            step()
        return last

    return run
