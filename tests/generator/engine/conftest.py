"""Tiny random models in the shapes of the families, and engines over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from generator.engine.engine import ContinuousBatchingEngine
from generator.engine.requests import GenerationRequest, RequestProgress
from generator.model.attention_flex import FlexBackend, RowTables
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


@pytest.fixture
def plain_flex(monkeypatch: pytest.MonkeyPatch) -> None:
    """FlexAttention as plain operators: without this, PyTorch traces it for every new shape."""
    flag = "torch.nn.attention.flex_attention._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG"
    monkeypatch.setattr(flag, True)


class ListedBlocks(FlexBackend):
    """What a compiled kernel does, in plain operators: read the listed blocks, in the order of the list."""

    def __init__(self, block_size: int, *, query_tile: int = 8) -> None:
        super().__init__(block_size, compile_kernels=False, query_tile=query_tile)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        tables: RowTables,
        window: int | None,
    ) -> torch.Tensor:
        slots = tables.blocks[:, 0, 0, :, None] * self.block_size + torch.arange(self.block_size)
        slots = slots.flatten(1)  # (rows, keys)
        place = torch.arange(slots.shape[1])
        distance = tables.starts[:, None, None] + torch.arange(query.shape[2])[:, None] - place
        seen = (place // self.block_size < tables.num_blocks[:, 0])[:, None] & (distance >= 0)
        if window is not None:
            seen &= distance < window
        heads = query.shape[1] // key.shape[1]
        keys, values = (
            part[0][:, slots].transpose(0, 1).repeat_interleave(heads, dim=1) for part in (key, value)
        )
        attended = F.scaled_dot_product_attention(query, keys, values, attn_mask=seen[:, None])
        return attended.nan_to_num(0.0)  # rows of padding


@pytest.fixture(scope="session")
def listed_blocks() -> type[ListedBlocks]:
    return ListedBlocks
