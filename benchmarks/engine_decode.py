"""One sequence decoded, in bfloat16 and int8, beside transformers.generate; and what a KV cache is worth.

    python benchmarks/engine_decode.py [--shape qwen2.5-0.5b] [--prompt-tokens 512] [--new-tokens 64] ...

First part: the same random weights in turns; prefill is left out of the decode figures. A step has to read
every weight and all keys and values once, so measured bandwidth over those bytes is the ceiling. int8 has
a ceiling of its own, since it has fewer bytes to read. Beside it stands what the products of one row with all
weights take, and nothing else: how much of bandwidth the kernels reach, and how much is left to the rest.

Second part, ours alone at one context length: no cache (everything is computed again for each token), a
cache, a cache shared by four query heads each, and that with a sliding window. Latency is one step's, memory
is that of keys and values held. Weights are random, so nothing is said about quality. The last line is JSON.
"""

from __future__ import annotations

import argparse
import copy
import time
from typing import Any

import torch
from engine_setup import (
    arguments_parser,
    decode_ceiling,
    engine_for,
    finish,
    heading,
    in_turns,
    kv_bytes_of,
    measure_ceilings,
    model_config,
    ours_of,
    prepare,
    random_model,
    random_prompts,
    random_transformer,
    requests_for,
    serve,
)
from torch import nn
from transformer_vs_transformers import seconds

from generator import KVCache
from generator.model.transformer import Transformer
from generator.quantization import Int8Linear, quantize_int8


def main() -> None:
    parser = arguments_parser(__doc__, shape="qwen2.5-0.5b")
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--table-tokens", type=int, default=2048, help="context of the table's steps")
    parser.add_argument("--window", type=int, default=512)
    arguments = parser.parse_args()
    device, dtype = prepare(arguments)
    if arguments.quick:
        arguments.prompt_tokens, arguments.new_tokens = 16, 4
        arguments.table_tokens, arguments.window = 48, 16
    ceilings = measure_ceilings(device, dtype, quick=arguments.quick)
    figures = heading(arguments, dtype, ceilings)
    figures |= {"prompt_tokens": arguments.prompt_tokens, "new_tokens": arguments.new_tokens}
    figures |= decode_against_transformers(arguments, device, dtype, ceilings)
    figures |= cache_table(arguments, device, dtype)
    finish("engine_decode", figures)


def decode_against_transformers(
    arguments: argparse.Namespace, device: torch.device, dtype: torch.dtype, ceilings: Any
) -> dict[str, Any]:
    theirs = random_model(arguments.shape, dtype=dtype)
    ours = ours_of(theirs, device=device, dtype=dtype)
    theirs = theirs.to(device)
    int8 = copy.deepcopy(ours)
    quantize_int8(int8)
    num_tokens = arguments.prompt_tokens + arguments.new_tokens
    prompts = random_prompts([arguments.prompt_tokens], ours.config.vocab_size)
    outputs: dict[str, list[int]] = {}

    def engine_side(name: str, model: Transformer) -> Any:
        engine = engine_for(model, num_tokens=num_tokens)

        def run() -> float:
            served = serve(engine, requests_for(prompts, max_new_tokens=arguments.new_tokens))
            outputs[name] = served.outputs[0]
            return served.decode_s_per_token

        return run

    def run_theirs() -> float:
        def generate(count: int) -> Any:
            ids = torch.tensor(prompts, device=device)
            return theirs.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count,
                do_sample=False,
            )  # fmt: skip

        first = seconds(lambda: generate(1), device)
        whole = seconds(lambda: outputs.update(theirs=generate(arguments.new_tokens)[0].tolist()), device)
        return (whole - first) / (arguments.new_tokens - 1)

    sides = {"ours": engine_side("ours", ours), "int8": engine_side("int8", int8), "theirs": run_theirs}
    step_s = in_turns(sides, arguments.rounds)
    middle = arguments.prompt_tokens + arguments.new_tokens // 2
    limits = {name: decode_ceiling(model, ceilings, num_tokens=middle) for name, model in
              (("ours", ours), ("int8", int8))}  # fmt: skip
    products = {"ours": products_seconds(ours), "int8": products_seconds(int8)}
    for name, label in (("ours", "ours"), ("int8", "ours, int8"), ("theirs", "transformers")):
        limit = limits.get(name, limits["ours"])
        alone = f"; its products alone: {1 / products[name] / limit:.0%}" if name in products else ""
        rate = 1 / step_s[name]
        print(f"{label:>14}: {rate:7.1f} tokens/s, {rate / limit:.0%} of {limit:.1f}{alone}")
    ratio, int8_ratio = step_s["theirs"] / step_s["ours"], step_s["ours"] / step_s["int8"]
    same = outputs["theirs"][arguments.prompt_tokens :] == outputs["ours"]
    print(f"ours / transformers {ratio:.2f}, int8 / ours {int8_ratio:.2f}, same tokens: {same}")
    return {
        "ours_tokens_per_second": 1 / step_s["ours"],
        "int8_tokens_per_second": 1 / step_s["int8"],
        "transformers_tokens_per_second": 1 / step_s["theirs"],
        "ours_fraction_of_ceiling": 1 / step_s["ours"] / limits["ours"],
        "int8_fraction_of_ceiling": 1 / step_s["int8"] / limits["int8"],
        "products_fraction_of_ceiling": 1 / products["ours"] / limits["ours"],
        "int8_products_fraction_of_ceiling": 1 / products["int8"] / limits["int8"],
        "decode_ratio": ratio,
        "int8_ratio": int8_ratio,
        "same_tokens": same,
    }


@torch.inference_mode()
def products_seconds(model: Transformer) -> float:
    """The fastest of a few passes over every linear layer and the head, one row each."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | Int8Linear)]
    sizes = {layer.in_features for layer in layers} | {model.config.hidden_size}
    rows = {size: torch.randn(1, 1, size, device=model.device, dtype=model.dtype) for size in sizes}
    times = []
    for _ in range(6):
        started = time.perf_counter()
        for layer in layers:
            if layer is not model.lm_head:
                layer(rows[layer.in_features])
        float(model.project(rows[model.config.hidden_size]).sum())  # waits for the device
        times.append(time.perf_counter() - started)
    return min(times)


def cache_table(arguments: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Steps of our transformer with more and more of what makes a cache cheap."""
    # A multiple of four heads, so that groups of four fit every shape.
    heads = max(model_config(arguments.shape).num_heads // 4 * 4, 4)
    base = {"num_heads": heads, "max_positions": arguments.table_tokens + 8}
    windows = (arguments.window,) * model_config(arguments.shape).num_layers
    rows = {
        "no cache": (base | {"num_kv_heads": heads}, False),
        "cache": (base | {"num_kv_heads": heads}, True),
        "+ GQA 4:1": (base | {"num_kv_heads": heads // 4}, True),
        "+ window": (base | {"num_kv_heads": heads // 4, "windows": windows}, True),
    }
    print(f"\n{heads} heads, {arguments.table_tokens} tokens of context, window {arguments.window}")
    figures: dict[str, Any] = {"table_tokens": arguments.table_tokens, "window": arguments.window}
    for label, (changes, cached) in rows.items():
        config = model_config(arguments.shape, **changes)
        model = random_transformer(config, device=device, dtype=dtype)
        step_s = step_seconds(model, arguments.table_tokens, cached=cached, rounds=arguments.rounds)
        kept = min(arguments.window, arguments.table_tokens) if config.windows else arguments.table_tokens
        num_bytes = kv_bytes_of(config, kept, dtype) if cached else 0
        print(f"{label:>14}: {step_s * 1e3:9.1f} ms a token, {num_bytes / 2**20:8.2f} MiB of keys and values")
        key = label.replace("+ ", "").replace(" ", "_").replace(":", "_").lower()
        figures |= {f"{key}_ms": step_s * 1e3, f"{key}_kv_bytes": num_bytes}
    return figures


@torch.inference_mode()
def step_seconds(model: Transformer, num_tokens: int, *, cached: bool, rounds: int) -> float:
    """The fastest of a few steps at a context of `num_tokens`."""
    token_ids = torch.tensor(random_prompts([num_tokens], model.config.vocab_size), device=model.device)
    cache = None
    if cached:
        cache = KVCache.from_model_config(model.config, 1, num_tokens, model.device, model.dtype)
        model(token_ids[:, :-1], cache=cache)
    times = []
    for _ in range(2 * rounds + 1):
        started = time.perf_counter()
        hidden = model(token_ids[:, -1:], cache=cache) if cached else model(token_ids)
        int(model.project(hidden[:, -1]).argmax())  # waits for the device
        times.append(time.perf_counter() - started)
        if cache is not None:
            cache.truncate([num_tokens - 1])
    return min(times)


if __name__ == "__main__":
    main()
