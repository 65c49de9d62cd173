"""Long prompts arriving into running decodes: split and fused with them, or computed first.

    python benchmarks/engine_mixed_load.py [--shape qwen2.5-0.5b] [--decodes 16] [--arrivals 4] ...

Sixteen requests decode; every so many tokens an 8k prompt arrives. One engine, one flag: by default each step
carries all decodes and as many prompt tokens as its budget leaves; with `prefill_first` a waiting prompt goes
before everything else, as engines without split-fuse do it. Compared are the gaps between a decode's
tokens from the first arrival on (median and p99) and the tokens a second of the whole run, in turns. The
decodes' gap before the first arrival is the floor. The last line is JSON.
"""

from __future__ import annotations

import statistics
from itertools import pairwise

from engine_setup import (
    Served,
    arguments_parser,
    engine_for,
    finish,
    heading,
    measure_ceilings,
    model_config,
    percentile,
    prepare,
    random_prompts,
    random_transformer,
    requests_for,
    serve,
)


def main() -> None:
    parser = arguments_parser(__doc__, shape="qwen2.5-0.5b")
    parser.add_argument("--decodes", type=int, default=16)
    parser.add_argument("--decode-prompt", type=int, default=256, help="their prompts, in tokens")
    parser.add_argument("--new-tokens", type=int, default=256)
    parser.add_argument("--arrivals", type=int, default=4)
    parser.add_argument("--arriving-prompt", type=int, default=8192)
    parser.add_argument("--tokens-per-step", type=int, default=256)
    parser.set_defaults(rounds=3)
    arguments = parser.parse_args()
    device, dtype = prepare(arguments)
    if arguments.quick:
        arguments.decodes, arguments.decode_prompt, arguments.new_tokens = 3, 8, 24
        arguments.arrivals, arguments.arriving_prompt, arguments.tokens_per_step = 2, 64, 16
    ceilings = measure_ceilings(device, dtype, quick=arguments.quick)
    figures = heading(arguments, dtype, ceilings)
    model = random_transformer(model_config(arguments.shape), device=device, dtype=dtype)
    vocab_size = model.config.vocab_size
    running = random_prompts([arguments.decode_prompt] * arguments.decodes, vocab_size)
    long = random_prompts([arguments.arriving_prompt] * arguments.arrivals, vocab_size, seed=2)
    interval = arguments.new_tokens // (arguments.arrivals + 1)
    num_tokens = sum(map(len, running + long)) + arguments.new_tokens * arguments.decodes

    def run(prefill_first: bool) -> Served:
        engine = engine_for(
            model, num_tokens=num_tokens, prefill_first=prefill_first,
            max_tokens_per_step=arguments.tokens_per_step,
            max_num_sequences=arguments.decodes + arguments.arrivals,
        )  # fmt: skip
        arriving = [
            ((index + 1) * interval, request)
            for index, request in enumerate(requests_for(long, max_new_tokens=8))
        ]
        return serve(engine, requests_for(running, max_new_tokens=arguments.new_tokens), arriving=arriving)

    runs: dict[bool, list[Served]] = {False: [], True: []}
    run(False)
    for _ in range(arguments.rounds):
        for prefill_first, served in runs.items():
            served.append(run(prefill_first))

    floor = statistics.median(
        gap for served in runs[False] for gap in gaps(served, arguments.decodes, 1, interval)
    )
    print(f"{arguments.decodes} decodes, {arguments.arrivals} arrivals of {arguments.arriving_prompt} tokens")
    print(f"{'decodes alone':>14}: {floor * 1e3:8.1f} ms between tokens")
    figures |= {"decodes": arguments.decodes, "arrivals": arguments.arrivals}
    figures |= {"arriving_prompt_tokens": arguments.arriving_prompt, "decode_only_ms": floor * 1e3}
    p99, speed = {}, {}
    for prefill_first, label in ((False, "split and fused"), (True, "prefill first")):
        found = [
            gap
            for served in runs[prefill_first]
            for gap in gaps(served, arguments.decodes, interval, arguments.new_tokens)
        ]
        p99[prefill_first] = percentile(found, 0.99)
        speed[prefill_first] = statistics.median(served.tokens_per_s for served in runs[prefill_first])
        middle = statistics.median(found)
        print(
            f"{label:>14}: median {middle * 1e3:8.1f} ms, p99 {p99[prefill_first] * 1e3:8.1f} ms, "
            f"{speed[prefill_first]:.1f} tokens/s"
        )
        key = label.replace(" ", "_")
        figures |= {f"{key}_median_ms": middle * 1e3, f"{key}_p99_ms": p99[prefill_first] * 1e3}
        figures |= {f"{key}_tokens_per_second": speed[prefill_first]}
    figures |= {"p99_ratio": p99[True] / p99[False], "throughput_ratio": speed[False] / speed[True]}
    print(
        f"p99 {figures['p99_ratio']:.2f} times lower at {figures['throughput_ratio']:.2f} of the throughput"
    )
    finish("engine_mixed_load", figures)


def gaps(served: Served, num_decodes: int, first: int, last: int) -> list[float]:
    """Seconds between neighbouring tokens of the decodes, from token `first` to token `last`."""
    return [
        after - before
        for times in served.token_times[:num_decodes]
        for before, after in pairwise(times[first:last])
    ]


if __name__ == "__main__":
    main()
