"""What the engine's benchmarks share: shapes, the same weights on both sides, ceilings, timed serving."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformer_vs_transformers import SHAPES as SMALL_SHAPES
from transformer_vs_transformers import read_bandwidth, seconds

from generator import ContinuousBatchingEngine, GenerationRequest
from generator.cache.kv_cache import KVCache
from generator.checkpoint import CheckpointGenerator
from generator.hardware import resolve_device, resolve_dtype
from generator.model.config import ModelConfig
from generator.model.transformer import Transformer
from generator.quantization import weight_bytes

SHAPES: dict[str, dict[str, Any]] = {
    **SMALL_SHAPES,
    "llama-3.1-8b": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
_TIED = frozenset({"tiny", "smollm2-135m", "qwen2.5-0.5b", "llama-3.2-1b"})
_PRODUCT_SIZE = 2048


@dataclass(frozen=True)
class Ceilings:
    """What this machine can do at best, measured here and now."""

    bandwidth_bytes_per_s: float
    operations_per_s: float

    def figures(self) -> dict[str, float]:
        return {
            "bandwidth_gb_per_s": self.bandwidth_bytes_per_s / 1e9,
            "ceiling_tflops": self.operations_per_s / 1e12,
        }


@dataclass(frozen=True)
class Served:
    """A set of requests that were served together."""

    seconds: float
    outputs: list[list[int]]
    token_times: list[list[float]]  # of each request's tokens, since the start

    @property
    def num_tokens(self) -> int:
        return sum(len(output) for output in self.outputs)

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.seconds

    @property
    def decode_s_per_token(self) -> float:
        """Of the first request, its prefill left out."""
        times = self.token_times[0]
        return (times[-1] - times[0]) / max(len(times) - 1, 1)


def arguments_parser(docstring: str | None, *, shape: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(docstring or "").splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default=shape)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, help="CPU threads; PyTorch's choice if left out")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    return parser


def prepare(arguments: argparse.Namespace) -> tuple[torch.device, torch.dtype]:
    """Device and dtype of the run; `--quick` shrinks what every script has."""
    if arguments.quick:
        arguments.shape, arguments.rounds = "tiny", 1
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = resolve_device(arguments.device)
    return device, resolve_dtype(arguments.dtype, device)


def random_model(shape: str, *, dtype: torch.dtype, max_positions: int = 16384) -> Any:
    """A LlamaForCausalLM with random weights, on the CPU."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging as their_logging

    their_logging.set_verbosity_error()
    their_logging.disable_progress_bar()
    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPES[shape],
        max_position_embeddings=max_positions,
        tie_word_embeddings=shape in _TIED,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        initializer_range=0.05,
    )
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(default)


def ours_of(theirs: Any, *, device: torch.device, dtype: torch.dtype) -> Transformer:
    """Our transformer with the weights of theirs, through a model folder."""
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return CheckpointGenerator.load(Path(folder), device=device, dtype=dtype).model


def random_transformer(
    config: ModelConfig, *, device: torch.device, dtype: torch.dtype, std: float = 0.05
) -> Transformer:
    """Our transformer alone, with random weights."""
    model = Transformer(config).to(device=device, dtype=dtype).eval()
    model.initialise(std=std)
    return model


def model_config(shape: str, *, max_positions: int = 16384, **changes: Any) -> ModelConfig:
    fields = SHAPES[shape]
    heads, hidden = fields["num_attention_heads"], fields["hidden_size"]
    values = {
        "vocab_size": fields["vocab_size"],
        "hidden_size": hidden,
        "intermediate_size": fields["intermediate_size"],
        "num_layers": fields["num_hidden_layers"],
        "num_heads": heads,
        "num_kv_heads": fields["num_key_value_heads"],
        "head_dim": hidden // heads,
        "max_positions": max_positions,
        "tied_embeddings": shape in _TIED,
    }
    return ModelConfig(**{**values, **changes})


def random_prompts(lengths: Sequence[int], vocab_size: int, *, seed: int = 1) -> list[list[int]]:
    source = torch.Generator().manual_seed(seed)
    return [torch.randint(0, vocab_size, (length,), generator=source).tolist() for length in lengths]


def requests_for(prompts: Sequence[Sequence[int]], *, max_new_tokens: int) -> list[GenerationRequest]:
    return [
        GenerationRequest(prompt_token_ids=prompt, max_new_tokens=max_new_tokens, ignore_eos=True)
        for prompt in prompts
    ]


def engine_for(model: Transformer, *, num_tokens: int, **options: Any) -> ContinuousBatchingEngine:
    """An engine whose memory holds `num_tokens` with room to spare; no prefix is reused unless asked for."""
    kv_bytes = kv_bytes_of(model.config, num_tokens + 4096, model.dtype)
    return ContinuousBatchingEngine(model, kv_bytes=kv_bytes, **{"prefix_cache": False, **options})


def kv_bytes_of(config: ModelConfig, num_tokens: int, dtype: torch.dtype) -> int:
    return KVCache.from_model_config(config, 1, num_tokens, "meta", dtype).num_bytes


def serve(
    engine: ContinuousBatchingEngine,
    requests: Sequence[GenerationRequest],
    *,
    arriving: Sequence[tuple[int, GenerationRequest]] = (),
) -> Served:
    """Run requests to their end. `arriving` join when the first request has that many tokens."""
    everyone = [*requests, *(request for _, request in arriving)]
    place = {request.request_id: index for index, request in enumerate(everyone)}
    outputs: list[list[int]] = [[] for _ in everyone]
    times: list[list[float]] = [[] for _ in everyone]
    pending = list(arriving)
    started = time.perf_counter()
    for request in requests:
        engine.add_request(request)
    while engine.has_pending_work or pending:
        while pending and len(outputs[0]) >= pending[0][0]:
            engine.add_request(pending.pop(0)[1])
        for progress in engine.step():
            index = place[progress.request_id]
            if progress.error is not None:
                raise progress.error
            now = time.perf_counter() - started
            times[index] += [now] * (len(progress.token_ids) - len(outputs[index]))
            outputs[index] = list(progress.token_ids)
    return Served(time.perf_counter() - started, outputs, times)


def in_turns(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of what each side returns; rounds alternate, after a warm-up of every side."""
    for side in sides.values():
        side()
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            found[name].append(side())
    return {name: statistics.median(values) for name, values in found.items()}


def measure_ceilings(device: torch.device, dtype: torch.dtype, *, quick: bool = False) -> Ceilings:
    """Read bandwidth, and the rate of one large matrix product."""
    size = 256 if quick else _PRODUCT_SIZE * (4 if device.type == "cuda" else 1)
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = min(seconds(lambda: left @ right, device) for _ in range(2 if quick else 8))
    return Ceilings(read_bandwidth(device), 2 * size**3 / best)


def decode_ceiling(model: Transformer, ceilings: Ceilings, *, num_tokens: int, batch: int = 1) -> float:
    """Tokens a second when each step reads every weight once, and `num_tokens` of keys and values a row.

    An embedding table that is no head gives only a row a token.
    """
    table = model.embed_tokens.weight
    lookup_only = table.nbytes if model.lm_head is not None else 0
    kv = batch * kv_bytes_of(model.config, num_tokens, model.dtype)
    return batch * ceilings.bandwidth_bytes_per_s / (weight_bytes(model) - lookup_only + kv)


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def heading(arguments: argparse.Namespace, dtype: torch.dtype, ceilings: Ceilings) -> dict[str, Any]:
    """Print what the run is about; returns the same as the first figures of the JSON line."""
    name = str(dtype).removeprefix("torch.")
    threads = torch.get_num_threads()
    print(f"{arguments.shape}, {name}, {threads} CPU threads")
    print(
        f"measured: read bandwidth {ceilings.bandwidth_bytes_per_s / 1e9:.1f} GB/s, "
        f"matrix product {ceilings.operations_per_s / 1e12:.2f} TFLOP/s"
    )
    return {"shape": arguments.shape, "dtype": name, "threads": threads, **ceilings.figures()}


def finish(benchmark: str, figures: dict[str, Any]) -> None:
    print(json.dumps({"benchmark": benchmark, **figures}))
