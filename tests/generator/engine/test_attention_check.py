"""The trial that a kernel must stand before an engine uses it by default."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch

from generator.cache.pool import KVPool
from generator.engine.engine import ContinuousBatchingEngine
from generator.model.attention_check import agrees_with_reference
from generator.model.attention_flex import FlexBackend, RowTables
from generator.model.transformer import Transformer

pytestmark = pytest.mark.usefixtures("plain_flex")


class Shifted(FlexBackend):
    """Believes each query to be one position earlier."""

    def attend(self, query, key, value, tables: RowTables, window):
        return super().attend(query, key, value, tables._replace(starts=tables.starts - 1), window)


class Widened(FlexBackend):
    """Sees one token too many behind its window."""

    def attend(self, query, key, value, tables: RowTables, window):
        return super().attend(query, key, value, tables, None if window is None else window + 1)


class Broken(FlexBackend):
    """Does not compile."""

    def attend(self, query, key, value, tables: RowTables, window):
        raise RuntimeError("no kernel image is available")


def pool_of(model: Transformer) -> KVPool:
    return ContinuousBatchingEngine(model, kv_bytes=2**18, attention="flex", block_size=4).runner.pool


@pytest.mark.parametrize(
    ("kind", "family", "agrees"),
    [
        (FlexBackend, "llama", True),
        (FlexBackend, "qwen2", True),
        (Shifted, "llama", False),
        (Widened, "llama", True),  # it has no window
        (Widened, "qwen2", False),
        (Broken, "llama", False),
    ],
)
def test_a_backend_that_is_wrong_or_raises_does_not_pass(
    kind: type[FlexBackend],
    family: str,
    agrees: bool,
    model_of: Callable[[str], Transformer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = model_of(family)
    pool = pool_of(model)
    with caplog.at_level(logging.WARNING, logger="generator.engine"):
        backend = kind(4, compile_kernels=False, query_tile=8)
        assert agrees_with_reference(backend, pool, model.config) is agrees
    assert bool(caplog.records) is not agrees
    assert not any(part.count_nonzero() for part in (*pool.keys, *pool.values))  # left empty


def test_the_trial_is_made_with_the_models_own_number_format(model_of: Callable[[str], Transformer]) -> None:
    config = model_of("llama").config
    groups = pool_of(model_of("llama")).groups
    pool = KVPool(config, groups, device=torch.device("cpu"), dtype=torch.bfloat16)
    assert agrees_with_reference(FlexBackend(4, compile_kernels=False), pool, config)
