"""Sixteen ragged RAG requests at once, beside transformers' generate_batch and our own static batching.

    python benchmarks/engine_throughput.py [--shape qwen2.5-0.5b] [--requests 16] [--new-tokens 64] ...

Prompts of 1k to 4k random tokens, all there at the start, no prefix shared, greedy to a fixed length:
prefill and decode together, as a server meets them. Static batching pads to the longest prompt. Output
tokens a second over the whole run are compared, in turns; the ceiling counts every weight once a prompt token
(operations) and once a step (bytes). The last line is JSON.
"""

from __future__ import annotations

import logging
from typing import Any

from engine_setup import (
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
from transformer_vs_transformers import seconds

from generator import SamplingOptions, batch_generate

THEIR_PAGE_TOKENS, THEIR_TOKENS_PER_STEP = 256, 2048


def main() -> None:
    parser = arguments_parser(__doc__, shape="qwen2.5-0.5b")
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--shortest", type=int, default=1024)
    parser.add_argument("--longest", type=int, default=4096)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--tokens-per-step", type=int, default=512)
    parser.add_argument("--no-peer", action="store_true", help="leave transformers out")
    arguments = parser.parse_args()
    device, dtype = prepare(arguments)
    if arguments.quick:
        arguments.requests, arguments.shortest, arguments.longest, arguments.new_tokens = 3, 8, 24, 4
    ceilings = measure_ceilings(device, dtype, quick=arguments.quick)
    figures = heading(arguments, dtype, ceilings)
    theirs = random_model(arguments.shape, dtype=dtype)
    ours = ours_of(theirs, device=device, dtype=dtype)
    theirs = theirs.to(device)

    spread = arguments.longest - arguments.shortest
    lengths = [
        arguments.shortest + spread * index // max(arguments.requests - 1, 1)
        for index in range(arguments.requests)
    ]
    prompts = random_prompts(lengths, ours.config.vocab_size)
    num_new = arguments.new_tokens
    engine = engine_for(
        ours, num_tokens=sum(lengths) + arguments.requests * num_new,
        max_tokens_per_step=arguments.tokens_per_step,
    )  # fmt: skip
    outputs: dict[str, list[list[int]]] = {}

    def run_engine() -> float:
        served = serve(engine, requests_for(prompts, max_new_tokens=num_new))
        outputs["engine"] = served.outputs
        return served.seconds

    def run_static() -> float:
        options = SamplingOptions(max_new_tokens=num_new, ignore_eos=True)
        return seconds(lambda: outputs.update(static=batch_generate(ours, prompts, options)), device)

    def run_theirs() -> float:
        return seconds(lambda: outputs.update(theirs=their_batch(theirs, prompts, num_new)), device)

    sides = {"engine": run_engine, "static": run_static}
    if not arguments.no_peer:
        sides["theirs"] = run_theirs
    taken = in_turns(sides, arguments.rounds)
    num_tokens = arguments.requests * num_new
    prefill_s = 2 * sum(lengths) * body_parameters(ours) / ceilings.operations_per_s
    mean = sum(lengths) // len(lengths) + num_new // 2
    decode_s = num_tokens / decode_ceiling(ours, ceilings, num_tokens=mean, batch=arguments.requests)
    ceiling = num_tokens / (prefill_s + decode_s)
    print(
        f"{arguments.requests} prompts, {sum(lengths)} tokens, {num_new} new ones each; at most {ceiling:.1f}"
    )
    figures |= {"requests": arguments.requests, "prompt_tokens": sum(lengths), "new_tokens": num_new}
    figures |= {"ceiling_tokens_per_second": ceiling}
    for name, label in (("engine", "engine"), ("static", "static batch"), ("theirs", "generate_batch")):
        if name not in taken:
            continue
        speed = num_tokens / taken[name]
        same = sum(map(list.__eq__, outputs[name], outputs["engine"]))
        print(
            f"{label:>14}: {speed:8.1f} tokens/s, {speed / ceiling:.0%} of the ceiling, "
            f"engine is {taken[name] / taken['engine']:.2f} times as fast, same tokens {same}/{len(prompts)}"
        )
        figures |= {
            f"{name}_tokens_per_second": speed,
            f"{name}_ratio": taken[name] / taken["engine"],
            f"{name}_same_outputs": same,
        }
    finish("engine_throughput", figures)


def body_parameters(model: Any) -> int:
    """Weights that every prompt token meets: all but embeddings and head."""
    return sum(weight.numel() for weight in model.layers.parameters())


def their_batch(model: Any, prompts: list[list[int]], num_new: int) -> list[list[int]]:
    """Transformers' continuous batching; results in the order of the prompts.

    Its memory is bounded to what the prompts need, because by default it takes most of the machine's.
    """
    from transformers import ContinuousBatchingConfig, GenerationConfig

    logging.getLogger("transformers").setLevel(logging.ERROR)
    config = GenerationConfig(
        max_new_tokens=num_new, do_sample=False, eos_token_id=-1, pad_token_id=0, use_cache=True
    )
    pages = sum(-(-(len(prompt) + num_new) // THEIR_PAGE_TOKENS) + 1 for prompt in prompts)
    memory = ContinuousBatchingConfig(
        page_size=THEIR_PAGE_TOKENS, num_blocks=pages, max_batch_tokens=THEIR_TOKENS_PER_STEP
    )
    # It computes in a thread of its own, which torch.inference_mode() here would not cover.
    results = model.generate_batch(
        inputs=prompts, generation_config=config, continuous_batching_config=memory
    )
    if errors := [result.error for result in results.values() if result.error]:
        raise RuntimeError(f"generate_batch failed: {errors[0]}")
    by_prompt = {tuple(result.prompt_ids): list(result.generated_tokens) for result in results.values()}
    return [by_prompt[tuple(prompt)] for prompt in prompts]


if __name__ == "__main__":
    main()
