"""Decoding on a GPU in the shape of Llama 3.1 8B, beside transformers with static cache and compile.

    python benchmarks/engine_gpu.py [--shape llama-3.1-8b] [--batches 1 32] [--no-generate-batch] ...
    python benchmarks/engine_gpu.py --attention sdpa | --no-cuda-graphs | --compile-layers

The second line takes the engine's parts away or adds one, to see what each is worth; what ran is printed.
The same random weights on both sides, one after the other on the same GPU, in turns. Prefill is left out of
the decode figures but for generate_batch, which reports no token times: it is compared over the whole run. A
step has to read every weight and all keys and values once, so measured bandwidth over those bytes is the
ceiling. The last line is JSON.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
from engine_setup import (
    Ceilings,
    arguments_parser,
    decode_ceiling,
    engine_for,
    finish,
    heading,
    in_turns,
    measure_ceilings,
    ours_of,
    prepare,
    random_model,
    random_prompts,
    requests_for,
    serve,
)
from engine_throughput import their_batch
from transformer_vs_transformers import seconds

from generator import ContinuousBatchingEngine
from generator.model.fused_layers import FusedLayer
from generator.model.transformer import Transformer


def main() -> None:
    parser = arguments_parser(__doc__, shape="llama-3.1-8b")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--prompt-tokens", type=int, default=1024)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--no-generate-batch", action="store_true")
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--no-cuda-graphs", action="store_true")
    parser.add_argument("--compile-layers", action="store_true")
    parser.set_defaults(device="cuda")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no CUDA device here. Give --device cpu to see whether the script runs.")
    device, dtype = prepare(arguments)
    if arguments.quick:
        arguments.batches, arguments.prompt_tokens, arguments.new_tokens = [1, 2], 16, 4
    ceilings = measure_ceilings(device, dtype, quick=arguments.quick)
    figures = heading(arguments, dtype, ceilings)
    if device.type == "cuda":
        figures["device"] = torch.cuda.get_device_name(device)
        print(figures["device"])
    figures |= {"prompt_tokens": arguments.prompt_tokens, "new_tokens": arguments.new_tokens}
    theirs = random_model(arguments.shape, dtype=dtype)
    ours = ours_of(theirs, device=device, dtype=dtype)
    theirs = theirs.to(device)
    for batch in arguments.batches:
        figures |= compare(arguments, ours, theirs, ceilings, batch)
    finish("engine_gpu", figures)


def compare(
    arguments: argparse.Namespace, ours: Transformer, theirs: Any, ceilings: Ceilings, batch: int
) -> dict[str, Any]:
    """Decode `batch` prompts of one length on all sides; seconds a step, that is a token for each."""
    num_new, length = arguments.new_tokens, arguments.prompt_tokens
    prompts = random_prompts([length] * batch, ours.config.vocab_size)
    engine = engine_for(
        ours, num_tokens=batch * (length + num_new), max_num_sequences=max(batch, 2),
        max_tokens_per_step=2048, attention=arguments.attention,
        cuda_graphs=False if arguments.no_cuda_graphs else None, compile_layers=arguments.compile_layers,
    )  # fmt: skip
    whole: dict[str, float] = {}

    def run_engine() -> float:
        served = serve(engine, requests_for(prompts, max_new_tokens=num_new))
        whole["engine"] = served.seconds
        # From when the last request has its first token: only decodes are left.
        begun = max(times[0] for times in served.token_times)
        ended = max(times[-1] for times in served.token_times)
        left = sum(time > begun for times in served.token_times for time in times) / batch
        return (ended - begun) / max(left, 1)

    def run_static() -> float:
        ids = torch.tensor(prompts, device=ours.device)

        def generate(count: int) -> Any:
            # On a GPU transformers compiles the step of a static cache by itself.
            return theirs.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count,
                do_sample=False, cache_implementation="static",
            )  # fmt: skip

        first = seconds(lambda: generate(1), ours.device)
        return (seconds(lambda: generate(num_new), ours.device) - first) / (num_new - 1)

    def run_batch() -> float:
        whole["batch"] = seconds(lambda: their_batch(theirs, prompts, num_new), ours.device)
        return whole["batch"]

    sides = {"engine": run_engine, "static": run_static}
    if not arguments.no_generate_batch:
        sides["batch"] = run_batch
    step_s = in_turns(sides, arguments.rounds)  # its first turn, which compiles and records, is not timed
    ceiling = decode_ceiling(ours, ceilings, num_tokens=length + num_new // 2, batch=batch)
    speed, static = batch / step_s["engine"], batch / step_s["static"]
    taken = path_of(engine)
    print(f"batch {batch}, at most {ceiling:.0f} tokens/s; {', '.join(f'{k} {v}' for k, v in taken.items())}")
    print(f"        engine: {speed:8.1f} tokens/s, {speed / ceiling:.0%} of the ceiling")
    print(f"  static cache: {static:8.1f} tokens/s, engine / static {speed / static:.2f}")
    figures = {
        **{f"batch{batch}_{name}": value for name, value in taken.items()},
        f"batch{batch}_tokens_per_second": speed,
        f"batch{batch}_fraction_of_ceiling": speed / ceiling,
        f"batch{batch}_static_ratio": speed / static,
    }
    if "batch" in step_s:
        ratio = step_s["batch"] / whole["engine"]
        print(
            f"generate_batch: {batch * num_new / step_s['batch']:8.1f} tokens/s whole run, ratio {ratio:.2f}"
        )
        figures[f"batch{batch}_generate_batch_ratio"] = ratio
    return figures


def path_of(engine: ContinuousBatchingEngine) -> dict[str, Any]:
    """How the engine ran: what was asked for may have fallen back."""
    runner = engine.runner
    return {
        "attention": runner.backend.name,
        "graph_rows": list(runner.graphs.num_rows) if runner.graphs is not None else [],
        "compiled_layers": isinstance(runner.model.layers[0], FusedLayer),
    }


if __name__ == "__main__":
    main()
