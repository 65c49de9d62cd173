"""Speculation by prompt lookup on extractive answers: identical output, and how much sooner.

    python benchmarks/engine_speculation.py [--shape qwen2.5-0.5b] [--span-tokens 24] ...

Nothing random copies, so the weights are made to: the head holds the embeddings in another order, so that
after token t the model says the successor of t, at the full cost of its shape. The prompt's passage holds
the answer in shuffled spans: within a span a draft is right, at its end it is wrong. A second prompt
holds none of the answer, which shows what speculation costs where it does not pay. Batch 1, in turns; the
ceiling is that of plain decoding, which speculation may pass. The last line is JSON.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
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
    random_transformer,
    requests_for,
    serve,
)

from generator.model.transformer import Transformer


def main() -> None:
    parser = arguments_parser(__doc__, shape="qwen2.5-0.5b")
    parser.add_argument("--context-tokens", type=int, default=1024)
    parser.add_argument("--span-tokens", type=int, default=24)
    parser.add_argument("--new-tokens", type=int, default=192)
    arguments = parser.parse_args()
    device, dtype = prepare(arguments)
    if arguments.quick:
        arguments.context_tokens, arguments.span_tokens, arguments.new_tokens = 64, 12, 24
    ceilings = measure_ceilings(device, dtype, quick=arguments.quick)
    figures = heading(arguments, dtype, ceilings)
    config = model_config(arguments.shape, tied_embeddings=False)
    model = random_transformer(config, device=device, dtype=dtype, std=0.02)
    successor = teach_succession(model)
    num_tokens = arguments.context_tokens + arguments.new_tokens
    ceiling = decode_ceiling(model, ceilings, num_tokens=num_tokens)
    print(f"plain decoding at most {ceiling:.1f} tokens/s")
    figures |= {name: getattr(arguments, name) for name in ("context_tokens", "span_tokens", "new_tokens")}
    figures |= {"plain_ceiling_tokens_per_second": ceiling}
    for name, prompt in (
        ("extractive", extractive_prompt(successor, arguments)),
        ("unrelated", unrelated_prompt(successor, arguments)),
    ):
        figures |= compare(model, name, prompt, arguments)
    finish("engine_speculation", figures)


def compare(
    model: Transformer, name: str, prompt: list[int], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Plain against speculating decoding of one prompt."""
    outputs: dict[str, list[int]] = {}
    num_tokens = len(prompt) + arguments.new_tokens
    engines = {
        side: engine_for(model, num_tokens=num_tokens, speculation=side == "speculating")
        for side in ("plain", "speculating")
    }

    def run(side: str) -> float:
        served = serve(engines[side], requests_for([prompt], max_new_tokens=arguments.new_tokens))
        outputs[side] = served.outputs[0]
        return served.decode_s_per_token

    step_s = in_turns(
        {"plain": lambda: run("plain"), "speculating": lambda: run("speculating")}, arguments.rounds
    )
    ratio, identical = step_s["plain"] / step_s["speculating"], outputs["plain"] == outputs["speculating"]
    accepted = engines["speculating"].stats.acceptance_rate
    print(
        f"{name:>11}: plain {1 / step_s['plain']:.1f} tokens/s, speculating "
        f"{1 / step_s['speculating']:.1f}, ratio {ratio:.2f}, {accepted:.0%} of drafts accepted, "
        f"identical: {identical}"
    )
    return {
        f"{name}_plain_tokens_per_second": 1 / step_s["plain"],
        f"{name}_speculating_tokens_per_second": 1 / step_s["speculating"],
        f"{name}_ratio": ratio,
        f"{name}_acceptance_rate": accepted,
        f"{name}_identical": identical,
    }


@torch.no_grad()
def teach_succession(model: Transformer) -> list[int]:
    """Make the model say successor[t] after t; one cycle through the whole vocabulary."""
    size = model.config.vocab_size
    cycle = torch.randperm(size, generator=torch.Generator().manual_seed(3))
    successor = torch.empty(size, dtype=torch.long)
    successor[cycle] = cycle.roll(-1)
    # The embedding outweighs in the residual stream what the layers add to it.
    table = model.embed_tokens.weight
    table.copy_(torch.randn(table.shape, generator=torch.Generator().manual_seed(4)) * 20)
    assert model.lm_head is not None
    model.lm_head.weight[successor.to(table.device)] = table / 20
    return successor.tolist()


def walk(successor: list[int], start: int, num_tokens: int) -> list[int]:
    """Tokens from `start` along the successors."""
    tokens = [start]
    while len(tokens) < num_tokens:
        tokens.append(successor[tokens[-1]])
    return tokens


def extractive_prompt(successor: list[int], arguments: argparse.Namespace) -> list[int]:
    """The answer's spans in another order, then its first tokens."""
    span = arguments.span_tokens
    whole = walk(successor, 0, arguments.context_tokens // span * span)
    spans = [whole[start : start + span] for start in range(0, len(whole), span)]
    order = torch.randperm(len(spans), generator=torch.Generator().manual_seed(5)).tolist()
    return [token for index in order for token in spans[index]] + whole[:4]


def unrelated_prompt(successor: list[int], arguments: argparse.Namespace) -> list[int]:
    """As many tokens, in which no two follow each other as in the answer, then the answer's first ones."""
    size = len(successor)
    source = torch.Generator().manual_seed(6)
    tokens = torch.randint(0, size, (arguments.context_tokens,), generator=source).tolist()
    apart = [token for before, token in zip([0, *tokens], tokens, strict=False) if successor[before] != token]
    return apart + walk(successor, 0, 4)


if __name__ == "__main__":
    main()
