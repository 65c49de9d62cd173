"""What it costs to get the same tokens whatever else the engine serves.

    python benchmarks/engine_deterministic.py [--shape qwen2.5-0.5b] [--requests 16] [--new-tokens 64] ...

The same random weights in two engines, one with `deterministic=True`, in turns: one request alone, then
ragged ones together. For both it is counted how many requests get the same tokens in either company; random
weights make near ties frequent, so the plain engine's share is not what a trained model would show. A step
has to read every weight and all keys and values once, so measured bandwidth over those bytes is the ceiling
of decoding alone. The last line is JSON.
"""

from __future__ import annotations

from typing import Any

from engine_setup import (
    arguments_parser,
    decode_ceiling,
    engine_for,
    finish,
    heading,
    in_turns,
    measure_ceilings,
    model_config,
    prepare,
    random_prompts,
    random_transformer,
    requests_for,
    serve,
)

MODES = {"plain": {}, "deterministic": {"deterministic": True}}


def main() -> None:
    parser = arguments_parser(__doc__, shape="qwen2.5-0.5b")
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--shortest", type=int, default=128)
    parser.add_argument("--longest", type=int, default=1024)
    parser.add_argument("--new-tokens", type=int, default=64)
    arguments = parser.parse_args()
    device, dtype = prepare(arguments)
    if arguments.quick:
        arguments.requests, arguments.shortest, arguments.longest, arguments.new_tokens = 3, 8, 40, 4
    ceilings = measure_ceilings(device, dtype, quick=arguments.quick)
    figures = heading(arguments, dtype, ceilings)
    model = random_transformer(model_config(arguments.shape), device=device, dtype=dtype)
    spread = arguments.longest - arguments.shortest
    lengths = [
        arguments.shortest + spread * index // max(arguments.requests - 1, 1)
        for index in range(arguments.requests)
    ]
    prompts = random_prompts(lengths, model.config.vocab_size)
    num_new = arguments.new_tokens
    num_tokens = sum(lengths) + arguments.requests * num_new
    engines = {mode: engine_for(model, num_tokens=num_tokens, **options) for mode, options in MODES.items()}
    outputs: dict[str, list[list[int]]] = {}

    def decode_alone(mode: str) -> float:
        return serve(engines[mode], requests_for(prompts[:1], max_new_tokens=num_new)).decode_s_per_token

    def serve_together(mode: str) -> float:
        served = serve(engines[mode], requests_for(prompts, max_new_tokens=num_new))
        outputs[mode] = served.outputs
        return served.seconds

    alone = in_turns({mode: lambda mode=mode: decode_alone(mode) for mode in MODES}, arguments.rounds)
    together = in_turns({mode: lambda mode=mode: serve_together(mode) for mode in MODES}, arguments.rounds)
    ceiling = decode_ceiling(model, ceilings, num_tokens=lengths[0] + num_new // 2)
    figures |= {"requests": arguments.requests, "prompt_tokens": sum(lengths), "new_tokens": num_new}
    for mode, engine in engines.items():
        figures |= report(mode, alone[mode], together[mode], ceiling, arguments.requests * num_new)
        same = 0
        for prompt, output in zip(prompts, outputs[mode], strict=True):
            same += serve(engine, requests_for([prompt], max_new_tokens=num_new)).outputs[0] == output
        print(f"{'':>14}  {same} of {len(prompts)} requests say the same alone and together")
        figures[f"{mode}_same_outputs"] = same
    figures |= {
        "decode_cost_ratio": alone["deterministic"] / alone["plain"],
        "together_cost_ratio": together["deterministic"] / together["plain"],
    }
    print(
        f"deterministic takes {figures['decode_cost_ratio']:.2f} times as long for a token alone, "
        f"{figures['together_cost_ratio']:.2f} times for {arguments.requests} requests together"
    )
    finish("engine_deterministic", figures)


def report(mode: str, step_s: float, whole_s: float, ceiling: float, num_tokens: int) -> dict[str, Any]:
    print(
        f"{mode:>14}: {1 / step_s:7.1f} tokens/s alone, {1 / step_s / ceiling:.0%} of {ceiling:.1f}; "
        f"{num_tokens / whole_s:7.1f} tokens/s together, prompts included"
    )
    return {
        f"{mode}_decode_tokens_per_second": 1 / step_s,
        f"{mode}_fraction_of_ceiling": 1 / step_s / ceiling,
        f"{mode}_together_tokens_per_second": num_tokens / whole_s,
    }


if __name__ == "__main__":
    main()
