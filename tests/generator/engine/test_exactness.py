"""Greedy tokens are the same whatever happens around a request."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from generator.engine.engine import ContinuousBatchingEngine
from generator.engine.generate import generate_with_cache
from generator.engine.requests import GenerationRequest
from generator.engine.speculation import StepCost
from generator.types import SamplingOptions

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
NUM_REQUESTS = 40  # a family; 200 in all

SETUPS: dict[str, dict[str, Any]] = {
    "alone": {"max_num_sequences": 1, "requests": 8},
    "together": {},
    "prompts in crumbs": {"max_num_sequences": 3, "max_tokens_per_step": 3, "requests": 10},
    "reference attention": {"attention": "sdpa"},
    "block tables": {"attention": "flex", "requests": 4},
    "contiguous": {"layout": "contiguous"},
    "no prefix cache": {"prefix_cache": False},
    "prefill first": {"prefill_first": True},
    "scarce memory": {"blocks": 24},
    "scarce memory, reference attention": {"blocks": 24, "attention": "sdpa", "requests": 20},
    "scarce rows": {"layout": "contiguous", "blocks": 50, "requests": 20},
}


def random_requests(seed: int) -> list[tuple[list[int], int]]:
    """Prompts with common beginnings and repetitions, so that caches and drafts have something to find."""
    chance = random.Random(seed)
    beginnings = [[chance.randrange(60) for _ in range(chance.randrange(1, 25))] for _ in range(4)]
    requests = []
    for _ in range(NUM_REQUESTS):
        phrase = [chance.randrange(60) for _ in range(chance.randrange(1, 7))]
        prompt = chance.choice(beginnings) + phrase * chance.randrange(1, 4)
        requests.append((prompt, chance.randrange(1, 14)))
    return requests


@pytest.fixture(scope="module")
def expected(model_of: Callable[[str], Any]) -> Callable[[str], list[list[int]]]:
    """What each request of a family gets when it is alone in the world."""
    known: dict[str, list[list[int]]] = {}

    def outputs(family: str) -> list[list[int]]:
        if family not in known:
            known[family] = [
                generate_with_cache(model_of(family), prompt, SamplingOptions(max_new_tokens=length))
                for prompt, length in random_requests(FAMILIES.index(family))
            ]
        return known[family]

    return outputs


@pytest.mark.usefixtures("plain_flex")
@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_do_not_depend_on_the_setup(
    family: str,
    setup: str,
    model_of: Callable[[str], Any],
    build_engine: Callable[..., ContinuousBatchingEngine],
    finish: Callable[..., Any],
    expected: Callable[[str], list[list[int]]],
) -> None:
    options = dict(SETUPS[setup])
    config = model_of(family).config
    requests = random_requests(FAMILIES.index(family))[: options.pop("requests", NUM_REQUESTS)]
    if blocks := options.pop("blocks", None):
        options["kv_bytes"] = blocks * 4 * config.num_layers * 2 * config.kv_size * 4
    engine = build_engine(family, **options)
    order = list(range(len(requests)))
    random.Random(setup).shuffle(order)
    outputs = finish(
        engine,
        [
            GenerationRequest(
                prompt_token_ids=requests[index][0],
                max_new_tokens=requests[index][1],
                request_id=str(index),
                priority=index % 3,
            )
            for index in order
        ],
        steps_between=1 if setup == "together" else 0,
    )
    tokens = [list(outputs[str(index)].token_ids) for index in range(len(requests))]
    assert tokens == expected(family)[: len(requests)]
    assert engine.scheduler.memory.usage == 0
    if setup == "scarce memory" and family != "mistral":  # whose layers all let go behind their window
        assert engine.scheduler.num_preemptions > 0


@pytest.mark.parametrize("layout", ["paged", "contiguous"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_warm_prefix_cache_changes_nothing(
    family: str,
    layout: str,
    build_engine: Callable[..., ContinuousBatchingEngine],
    finish: Callable[..., Any],
    expected: Callable[[str], list[list[int]]],
) -> None:
    engine = build_engine(family, layout=layout, max_num_sequences=4)
    for _ in range(2):
        requests = random_requests(FAMILIES.index(family))
        outputs = finish(
            engine,
            [
                GenerationRequest(prompt_token_ids=prompt, max_new_tokens=length, request_id=str(index))
                for index, (prompt, length) in enumerate(requests)
            ],
        )
        assert [list(outputs[str(index)].token_ids) for index in range(NUM_REQUESTS)] == expected(family)
    assert engine.stats.prefix_hit_rate > 0.1


@pytest.mark.parametrize("blocks", [None, 40])
@pytest.mark.parametrize("family", FAMILIES)
def test_speculation_changes_how_fast_tokens_come_and_not_which(
    family: str,
    blocks: int | None,
    model_of: Callable[[str], Any],
    build_engine: Callable[..., ContinuousBatchingEngine],
    finish: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(StepCost, "observe", lambda *_: None)  # or drafts would depend on the machine's speed
    config = model_of(family).config
    kv_bytes = blocks and blocks * 4 * config.num_layers * 2 * config.kv_size * 4
    engine = build_engine(family, speculation=True, kv_bytes=kv_bytes, max_tokens_per_step=40)
    prompts = [[token, token, token] for token in range(6)]
    outputs = finish(
        engine,
        [
            GenerationRequest(prompt_token_ids=prompt, max_new_tokens=70, request_id=str(index))
            for index, prompt in enumerate(prompts)
        ],
    )
    options = SamplingOptions(max_new_tokens=70)
    expected = [generate_with_cache(model_of(family), prompt, options) for prompt in prompts]
    assert [list(outputs[str(index)].token_ids) for index in range(len(prompts))] == expected
    assert engine.stats.num_accepted_tokens > 5  # a tiny model left alone soon repeats itself
    assert engine.stats.num_steps < 6 * 70
