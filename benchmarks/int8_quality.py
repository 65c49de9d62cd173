"""What int8 weights cost in quality: next-token distributions beside those of the unquantised model.

    python benchmarks/int8_quality.py [--model FOLDER] [--shape smollm2-135m] [--texts FILE] ...

Without a model: random weights in a shape, on random tokens. With one: its own weights, on the lines of a
text file (or random tokens). With --reader: the vocabulary head of the shipped reader, likewise. Reported
are the largest difference of logits, the Kullback-Leibler divergence of the distributions in nats (mean,
p99; the perplexity on the own samples rises by the factor exp of the mean), and how often the most likely
token is the same. bfloat16 beside float32 is measured as well, because that is a loss everybody accepts.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from engine_setup import arguments_parser, finish, model_config, percentile, prepare, random_prompts
from engine_setup import random_transformer as build

from generator.checkpoint import CheckpointGenerator
from generator.model.transformer import Transformer
from generator.quantization import quantize_int8, weight_bytes


def main() -> None:
    parser = arguments_parser(__doc__, shape="smollm2-135m")
    parser.add_argument("--model", help="model folder instead of random weights")
    parser.add_argument("--reader", action="store_true", help="the shipped reader instead")
    parser.add_argument("--texts", type=Path, help="file of one text a line, for --model")
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    arguments = parser.parse_args()
    device, _ = prepare(arguments)
    if arguments.quick:
        arguments.sequences, arguments.tokens = 2, 8
    model, tokenizer = load(arguments, device)
    token_ids = read_tokens(arguments, model, tokenizer)
    variants = {"bfloat16": copy.deepcopy(model).bfloat16(), "int8": copy.deepcopy(model)}
    quantize_int8(variants["int8"])
    sizes = {name: weight_bytes(variant) for name, variant in variants.items()}
    reference = scores(model, token_ids)
    name = "reader" if arguments.reader else arguments.model or f"random {arguments.shape}"
    print(f"{name}: {sum(map(len, token_ids))} tokens, each beside float32")
    figures: dict[str, Any] = {"model": Path(name).name, "tokens": sum(map(len, token_ids))}
    for kind, variant in variants.items():
        found = compare(reference, scores(variant, token_ids))
        print(
            f"{kind:>9}: largest logit difference {found['max_logit_difference']:.4f}, KL mean "
            f"{found['kl_mean']:.2e} p99 {found['kl_p99']:.2e}, same first token "
            f"{found['same_first']:.1%}, {sizes[kind] / 2**20:.1f} MiB"
        )
        figures |= {f"{kind}_{key}": value for key, value in found.items()}
        figures[f"{kind}_bytes"] = sizes[kind]
    finish("int8_quality", figures)


def load(arguments: argparse.Namespace, device: torch.device) -> tuple[Transformer, Any]:
    """A float32 model, and its tokenizer if it has one."""
    if arguments.reader:
        from generator.embedded import ReaderGenerator

        loaded = ReaderGenerator.load(device=device, dtype=torch.float32, embeddings_folder=None)
        return loaded.reader.model.transformer, None
    if arguments.model:
        checkpoint = CheckpointGenerator.load(arguments.model, device=device, dtype=torch.float32)
        return checkpoint.model, checkpoint.tokenizer
    return build(model_config(arguments.shape), device=device, dtype=torch.float32), None


def read_tokens(arguments: argparse.Namespace, model: Transformer, tokenizer: Any) -> list[list[int]]:
    if arguments.texts is None or tokenizer is None:
        return random_prompts([arguments.tokens] * arguments.sequences, model.config.vocab_size)
    lines = [line for line in arguments.texts.read_text(encoding="utf-8").splitlines() if line.strip()]
    encoded = [tokenizer.encode(line)[: arguments.tokens] for line in lines[: arguments.sequences]]
    return [tokens for tokens in encoded if tokens]


@torch.inference_mode()
def scores(model: Transformer, token_ids: list[list[int]]) -> torch.Tensor:
    """Logits (tokens, V) in float32 over all sequences."""
    rows = [torch.tensor([tokens], device=model.device) for tokens in token_ids]
    return torch.cat([model.project(model(row))[0].float() for row in rows])


def compare(reference: torch.Tensor, found: torch.Tensor) -> dict[str, float]:
    expected, actual = reference.log_softmax(-1), found.log_softmax(-1)
    divergence = (expected.exp() * (expected - actual)).sum(-1)
    return {
        "max_logit_difference": float((reference - found).abs().max()),
        "kl_mean": float(divergence.mean()),
        "kl_p99": percentile(divergence.tolist(), 0.99),
        "same_first": float((reference.argmax(-1) == found.argmax(-1)).float().mean()),
    }


if __name__ == "__main__":
    main()
