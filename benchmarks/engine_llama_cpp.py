"""Our engine beside llama.cpp: the same random weights in bfloat16 and in eight bits, at batch 1 and 16.

    python benchmarks/engine_llama_cpp.py --peer .venv-llama-cpp/bin/python [--shape qwen2.5-0.5b] ...

The peer has an environment of its own:

    python -m venv .venv-llama-cpp
    .venv-llama-cpp/bin/pip install llama-cpp-python==0.3.36 gguf==0.19.0

`llama_cpp_peer.py` runs in it: it writes the weights as a GGUF file (Llama architecture, no tokenizer) and
decodes with as many threads. q8_0 has a scale for every 32 weights, our int8 one for every row. Sides take
turns, each as a whole; prefill is left out. q8_0 runs without repacking for AMX, which crashes on some
machines. bfloat16 weights are the same, so the share of equal greedy
tokens is printed, too: it falls with the first near tie. The last line is JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engine_setup import (
    Served,
    arguments_parser,
    decode_ceiling,
    engine_for,
    finish,
    heading,
    measure_ceilings,
    ours_of,
    prepare,
    random_model,
    random_prompts,
    requests_for,
    serve,
)

from generator.model.transformer import Transformer
from generator.quantization import quantize_int8

PEER = Path(__file__).parent / "llama_cpp_peer.py"
FORMATS = {"bf16": "bfloat16 and bf16", "q8_0": "int8 and q8_0"}


def main() -> None:
    parser = arguments_parser(__doc__, shape="qwen2.5-0.5b")
    parser.add_argument("--peer", type=Path, required=True, help="interpreter that has llama-cpp-python")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.set_defaults(rounds=3, dtype="bfloat16")
    arguments = parser.parse_args()
    device, dtype = prepare(arguments)
    if arguments.quick:
        arguments.batches, arguments.prompt_tokens, arguments.new_tokens = [1, 2], 8, 4
    ceilings = measure_ceilings(device, dtype, quick=arguments.quick)
    figures = heading(arguments, dtype, ceilings)
    figures |= {"prompt_tokens": arguments.prompt_tokens, "new_tokens": arguments.new_tokens}
    theirs = random_model(arguments.shape, dtype=dtype)
    models = {"bf16": ours_of(theirs, device=device, dtype=dtype)}
    models["q8_0"] = copy.deepcopy(models["bf16"])
    quantize_int8(models["q8_0"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export(theirs, folder)
        del theirs
        for form, model in models.items():
            for batch in arguments.batches:
                limit = decode_ceiling(
                    model,
                    ceilings,
                    num_tokens=arguments.prompt_tokens + arguments.new_tokens // 2,
                    batch=batch,
                )
                figures |= compare(arguments, folder, form, model, batch, limit)
    finish("engine_llama_cpp", figures)


def compare(
    arguments: argparse.Namespace, folder: Path, form: str, model: Transformer, batch: int, ceiling: float
) -> dict[str, Any]:
    """Tokens a second of both sides at one batch size, over rounds in turns."""
    prompts = random_prompts([arguments.prompt_tokens] * batch, model.config.vocab_size)
    engine = engine_for(model, num_tokens=batch * (arguments.prompt_tokens + arguments.new_tokens))
    ours, theirs = [], []
    for _ in range(arguments.rounds + 1):
        served = serve(engine, requests_for(prompts, max_new_tokens=arguments.new_tokens))
        ours.append(decode_speed(served, batch))
        answer = ask_peer(arguments, folder, form, prompts)
        theirs.append(answer["tokens_per_second"])
    same = sum(a == b for mine, yours in zip(served.outputs, answer["outputs"], strict=True)
               for a, b in zip(mine, yours, strict=True))  # fmt: skip
    speed, peer_speed = statistics.median(ours[1:]), statistics.median(theirs[1:])
    share = same / (batch * arguments.new_tokens)
    print(
        f"{FORMATS[form]}, {batch}: ours {speed:7.1f} tokens/s, {speed / ceiling:.0%} of {ceiling:.1f}, "
        f"llama.cpp {peer_speed:7.1f}, ratio {speed / peer_speed:.2f}, {share:.0%} of tokens equal"
    )
    key = f"{form}_batch{batch}"
    return {
        f"{key}_tokens_per_second": speed,
        f"{key}_llama_cpp_tokens_per_second": peer_speed,
        f"{key}_ratio": speed / peer_speed,
        f"{key}_equal_tokens": share,
        "llama_cpp_version": answer["version"],
    }


def decode_speed(served: Served, batch: int) -> float:
    """Tokens a second from when every request has its first one."""
    begun = max(times[0] for times in served.token_times)
    ended = max(times[-1] for times in served.token_times)
    return sum(time > begun for times in served.token_times for time in times) / max(ended - begun, 1e-9)


def ask_peer(
    arguments: argparse.Namespace, folder: Path, form: str, prompts: list[list[int]]
) -> dict[str, Any]:
    """One run of the peer, as a process of its own."""
    task = {
        "folder": str(folder), "form": form, "prompts": prompts, "new_tokens": arguments.new_tokens,
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    command = [str(arguments.peer), str(PEER)]
    result = subprocess.run(command, input=json.dumps(task), text=True, stdout=subprocess.PIPE, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def export(model: Any, folder: Path) -> None:
    """Weights as raw bfloat16 bits, one file a tensor, and the shape as JSON."""
    for name, tensor in model.state_dict().items():
        bits = tensor.detach().to(torch.bfloat16).view(torch.int16).numpy()
        np.save(folder / f"{name}.npy", bits)
    config = model.config.to_dict()
    config["rope_theta"] = (config.get("rope_parameters") or config).get("rope_theta", 10_000.0)
    (folder / "config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    main()
