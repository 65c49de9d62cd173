"""Our transformer against Hugging Face transformers: the same random weights, in the same run, in turns.

    python benchmarks/transformer_vs_transformers.py [--shape smollm2-135m] [--batch 1] [--dtype auto] ...

Greedy generation to a fixed length. Decode speed is taken between a run of N tokens and a run of one, so
prefill is timed apart. A decode step must read every weight and all keys and values so far once, so memory
bandwidth is its ceiling; it is measured here, too, as the faster of a sum and a matrix-vector product over
a block that no cache holds. Rounds alternate between the two sides; medians are compared. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from generator.cache.kv_cache import KVCache
from generator.checkpoint import CheckpointGenerator
from generator.engine.generate import batch_generate
from generator.hardware import resolve_device, resolve_dtype
from generator.model.config import ModelConfig
from generator.types import SamplingOptions

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "vocab_size": 1000,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "smollm2-135m": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "qwen2.5-0.5b": {
        "vocab_size": 151936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
    "llama-3.2-1b": {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
BLOCK_BYTES = 512 * 2**20  # larger than any cache


@dataclass(frozen=True)
class Speed:
    """Medians over the rounds."""

    prefill_tokens_per_s: float
    decode_tokens_per_s: float


def main() -> None:
    arguments = parse()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = resolve_device(arguments.device)
    dtype = resolve_dtype(arguments.dtype, device)
    with tempfile.TemporaryDirectory() as folder:
        theirs = random_model(arguments.shape).to(dtype)
        theirs.save_pretrained(folder)
        theirs = theirs.to(device)
        started = time.perf_counter()
        ours = CheckpointGenerator.load(Path(folder), device=device, dtype=dtype)
        load_seconds = time.perf_counter() - started
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randint(
        0, ours.model.config.vocab_size, (arguments.batch, arguments.prompt_tokens), generator=generator
    )

    def run_ours(num_tokens: int) -> list[list[int]]:
        options = SamplingOptions(max_new_tokens=num_tokens, ignore_eos=True)
        return batch_generate(ours.model, prompts.tolist(), options)

    def run_theirs(num_tokens: int) -> list[list[int]]:
        output = theirs.generate(
            prompts.to(device),
            attention_mask=torch.ones_like(prompts, device=device),
            max_new_tokens=num_tokens,
            min_new_tokens=num_tokens,
            do_sample=False,
            cache_implementation=arguments.cache,
        )
        return output[:, arguments.prompt_tokens :].tolist()

    identical = run_ours(arguments.new_tokens) == run_theirs(arguments.new_tokens)  # warms both up as well
    our_speed, their_speed = race([run_ours, run_theirs], arguments, device)
    bandwidth = read_bandwidth(device)
    num_bytes = bytes_a_step(ours.model.config, ours.model, arguments, dtype)
    report(
        arguments,
        dtype=dtype,
        ours=our_speed,
        theirs=their_speed,
        bandwidth=bandwidth,
        ceiling=bandwidth / num_bytes * arguments.batch,
        identical=identical,
        load_seconds=load_seconds,
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads; PyTorch's choice if left out")
    parser.add_argument(
        "--cache", choices=["dynamic", "static"], help="of transformers; its choice if left out"
    )
    return parser.parse_args()


def random_model(shape: str) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging as their_logging

    their_logging.set_verbosity_error()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPES[shape],
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        initializer_range=0.05,
    )
    return LlamaForCausalLM(config).eval()


def race(
    sides: list[Callable[[int], Any]], arguments: argparse.Namespace, device: torch.device
) -> tuple[Speed, ...]:
    """Time all sides in turns, so that what disturbs the machine disturbs all of them."""
    first: list[list[float]] = [[] for _ in sides]
    rest: list[list[float]] = [[] for _ in sides]
    for _ in range(arguments.rounds):
        for side, run in enumerate(sides):
            one = seconds(lambda run=run: run(1), device)
            full = seconds(lambda run=run: run(arguments.new_tokens), device)
            first[side].append(one)
            rest[side].append(full - one)
    decoded = arguments.batch * (arguments.new_tokens - 1)
    read = arguments.batch * arguments.prompt_tokens
    return tuple(
        Speed(read / statistics.median(prefill), decoded / statistics.median(decode))
        for prefill, decode in zip(first, rest, strict=True)
    )


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def read_bandwidth(device: torch.device) -> float:
    """Bytes a second that this device reads from memory."""
    block = torch.ones(BLOCK_BYTES // 4 // 4096, 4096, device=device)
    vector = torch.ones(4096, device=device)
    best = min(seconds(work, device) for work in (block.sum, lambda: block @ vector) for _ in range(8))
    return BLOCK_BYTES / best


def bytes_a_step(
    config: ModelConfig, model: torch.nn.Module, arguments: argparse.Namespace, dtype: torch.dtype
) -> float:
    """What a decode step has to read: each weight once, and the keys and values at half time."""
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    mean_length = arguments.prompt_tokens + arguments.new_tokens // 2
    return weights + KVCache.from_model_config(config, arguments.batch, mean_length, "meta", dtype).num_bytes


def report(
    arguments: argparse.Namespace,
    *,
    dtype: torch.dtype,
    ours: Speed,
    theirs: Speed,
    bandwidth: float,
    ceiling: float,
    identical: bool,
    load_seconds: float,
) -> None:
    name = str(dtype).removeprefix("torch.")
    print(f"{arguments.shape}, {name}, batch {arguments.batch}, {torch.get_num_threads()} CPU threads")
    print(f"measured read bandwidth {bandwidth / 1e9:.1f} GB/s, so at most {ceiling:.1f} tokens/s")
    for label, speed in (("ours", ours), ("transformers", theirs)):
        prefill, decode = speed.prefill_tokens_per_s, speed.decode_tokens_per_s
        print(
            f"{label:>12}: prefill {prefill:8.1f} tokens/s, decode {decode:7.1f} tokens/s, "
            f"{decode / ceiling:.0%} of the ceiling"
        )
    decode_ratio = ours.decode_tokens_per_s / theirs.decode_tokens_per_s
    prefill_ratio = ours.prefill_tokens_per_s / theirs.prefill_tokens_per_s
    print(f"ours / transformers: prefill {prefill_ratio:.2f}, decode {decode_ratio:.2f}")
    print(f"same tokens: {identical}, loaded in {load_seconds:.2f} s")
    result = {
        "benchmark": "transformer_vs_transformers",
        "shape": arguments.shape,
        "dtype": name,
        "batch": arguments.batch,
        "prompt_tokens": arguments.prompt_tokens,
        "new_tokens": arguments.new_tokens,
        "threads": torch.get_num_threads(),
        "ours": asdict(ours),
        "transformers": asdict(theirs),
        "decode_ratio": decode_ratio,
        "prefill_ratio": prefill_ratio,
        "bandwidth_gb_per_s": bandwidth / 1e9,
        "decode_ceiling_tokens_per_s": ceiling,
        "decode_fraction_of_ceiling": ours.decode_tokens_per_s / ceiling,
        "same_tokens": identical,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
