"""A deterministic engine says the same to the last bit, also in half precision, whatever else it serves."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from generator.engine.engine import ContinuousBatchingEngine
from generator.engine.requests import GenerationRequest
from generator.engine.speculation import StepCost
from generator.errors import InvalidEngineConfig
from generator.model.fixed_rows import ROW_TILE, FixedRows, with_fixed_rows
from generator.model.transformer import Transformer
from generator.quantization import quantize_int8

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
NUM_REQUESTS = 7

SETUPS: dict[str, dict[str, Any]] = {
    "together, more than a tile": {"max_num_sequences": 12, "max_tokens_per_step": 80},
    "prompts in crumbs": {"max_num_sequences": 3, "max_tokens_per_step": 5},
    "contiguous, no prefix cache": {"layout": "contiguous", "prefix_cache": False},
    "speculation": {"speculation": True, "max_tokens_per_step": 40},
    "scarce memory, prefill first": {"blocks": 17, "prefill_first": True},
}
Outcome = dict[str, list[tuple[int, float]]]  # tokens with the log probabilities that the model gave them


@cache
def half(model: Transformer, dtype: torch.dtype) -> Transformer:
    return copy.deepcopy(model).to(dtype)


def random_requests(seed: int) -> list[tuple[list[int], int]]:
    """Prompts with common beginnings and repetitions, over several tiles of queries."""
    chance = random.Random(seed)
    beginnings = [[chance.randrange(60) for _ in range(chance.randrange(1, 30))] for _ in range(3)]
    requests = []
    for _ in range(NUM_REQUESTS):
        phrase = [chance.randrange(60) for _ in range(chance.randrange(1, 7))]
        prompt = chance.choice(beginnings) + phrase * chance.randrange(1, 4)
        requests.append((prompt, chance.randrange(4, 10)))
    return requests


def outcome(model: Transformer, *, rounds: int = 1, **options: Any) -> Outcome:
    """What requests get on an engine; of several rounds, what the last one got."""
    if blocks := options.pop("blocks", None):
        config = model.config
        options["kv_bytes"] = blocks * 4 * config.num_layers * 2 * config.kv_size * model.dtype.itemsize
    defaults = {"block_size": 4, "max_num_sequences": 8, "max_tokens_per_step": 16}
    engine = ContinuousBatchingEngine(model, **{**defaults, **options})
    requests = random_requests(7)
    order = list(range(NUM_REQUESTS))
    found: Outcome = {}
    for _ in range(rounds):
        random.Random(len(options)).shuffle(order)
        for index in order:
            prompt, length = requests[index]
            engine.add_request(
                GenerationRequest(
                    prompt_token_ids=prompt, max_new_tokens=length, request_id=str(index), logprobs=True
                )
            )
        while engine.has_pending_work:
            for progress in engine.step():
                assert progress.logprobs is not None
                found[progress.request_id] = [tuple(each) for each in progress.logprobs]
            engine.check_integrity()
    if options.get("prefill_first") and not model.config.windows:
        assert engine.scheduler.num_preemptions > 0
    return found


@pytest.fixture(scope="module")
def alone(model_of: Callable[[str], Transformer]) -> Callable[[str], Outcome]:
    """What each request of a family gets when the engine serves one at a time."""

    @cache
    def outcome_of(family: str) -> Outcome:
        model = half(model_of(family), torch.bfloat16)
        return outcome(model, deterministic=True, max_num_sequences=1, prefix_cache=False)

    return outcome_of


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_and_scores_are_the_same_to_the_last_bit(
    family: str,
    setup: str,
    model_of: Callable[[str], Transformer],
    alone: Callable[[str], Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(StepCost, "observe", lambda *_: None)  # or drafts would depend on the machine's speed
    model = half(model_of(family), torch.bfloat16)
    assert outcome(model, deterministic=True, **SETUPS[setup]) == alone(family)


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_a_warm_prefix_cache_changes_nothing(
    family: str, model_of: Callable[[str], Transformer], alone: Callable[[str], Outcome]
) -> None:
    model = half(model_of(family), torch.bfloat16)
    assert outcome(model, deterministic=True, rounds=2) == alone(family)


@pytest.mark.parametrize("form", ["float16", "float32", "int8"])
def test_other_number_formats_keep_the_promise(form: str, model_of: Callable[[str], Transformer]) -> None:
    dtype = getattr(torch, form) if form != "int8" else torch.bfloat16
    model = copy.deepcopy(model_of("llama")).to(dtype)
    if form == "int8":
        quantize_int8(model)
    single = outcome(model, deterministic=True, max_num_sequences=1, prefix_cache=False)
    assert outcome(model, deterministic=True, **SETUPS["together, more than a tile"]) == single
    assert outcome(model, deterministic=True, **SETUPS["prompts in crumbs"]) == single


def test_without_the_mode_scores_depend_on_the_company(model_of: Callable[[str], Transformer]) -> None:
    model = half(model_of("llama"), torch.bfloat16)
    single = outcome(model, max_num_sequences=1, prefix_cache=False)
    assert outcome(model, **SETUPS["together, more than a tile"]) != single


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("num_out", "num_in"), [(96, 32), (60, 100), (960, 576), (576, 1536)])
@torch.inference_mode()
def test_a_row_depends_on_neither_its_place_nor_its_neighbours(
    num_out: int, num_in: int, dtype: torch.dtype
) -> None:
    chance = torch.Generator().manual_seed(0)
    weight = torch.randn(num_out, num_in, generator=chance).to(dtype)
    product = FixedRows(lambda rows: F.linear(rows, weight))
    row = torch.randn(num_in, generator=chance).to(dtype)
    expected = product(row[None])[0]
    torch.testing.assert_close(expected, F.linear(row[None], weight)[0], atol=0.1, rtol=1e-2)
    for place in range(0, ROW_TILE + 3, 5):
        rows = torch.randn(1, ROW_TILE + 3, num_in, generator=chance).to(dtype)
        rows[0, place] = row
        assert torch.equal(product(rows)[0, place], expected)


def test_the_weights_are_shared_and_the_model_stays_as_it_was(
    model_of: Callable[[str], Transformer],
) -> None:
    for family in FAMILIES:  # with and without a head of its own
        model = model_of(family)
        fixed = with_fixed_rows(model)
        own = {weight.data_ptr() for weight in model.parameters()}
        assert {weight.data_ptr() for weight in fixed.parameters()} == own
        assert not any(isinstance(module, FixedRows) for module in model.modules())
        token_ids = torch.arange(7)[None]
        torch.testing.assert_close(fixed.project(fixed(token_ids)), model.project(model(token_ids)))


def test_another_attention_is_refused(model_of: Callable[[str], Transformer]) -> None:
    with pytest.raises(InvalidEngineConfig, match="deterministic engine cannot use the attention 'cpu'"):
        ContinuousBatchingEngine(model_of("llama"), deterministic=True, attention="cpu")
