"""Time and tokens to a target F1: six optimisers on a small grounded-QA workload, equally tuned.

    python benchmarks/optimizers.py DATA MINILM            (25 minutes on two cores)
    python benchmarks/optimizers.py --quick                (a minute: invented questions, random weights)

After AlgoPerf (arXiv 2306.07179), in small: every optimiser gets the same number of learning rates, drawn
quasi-randomly and log-uniformly from a range as wide as every other's; each trial may take the same number of
steps over the same tokens, and its schedule ends with them. The best rate is then run again with fresh seeds,
and only these count. What is measured is the training time (validation does not count) and the tokens until
validation F1, of the span head on held-out titles, first reaches the target. DATA holds squad_v1_train.jsonl;
MINILM is the folder of all-MiniLM-L6-v2.

Not measured: what other settings (betas, weight decay) would give an optimiser, and how they rank on
longer runs.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from generator.training.config import OptimizerConfig, RunConfig, TrainingConfig
from generator.training.grounded_config import GroundedQAConfig, Stage, UnanswerableConfig

# Lowest learning rate tried; the highest is `WIDTH` times as large. Around what each one's authors recommend;
# Adafactor's is relative to the size of the weights.
LOWEST = {
    "adamw": 1e-4,
    "muon": 1e-4,
    "lion": 1e-5,
    "adafactor": 2e-3,
    "soap": 1e-4,
    "schedule-free-adamw": 2e-4,
}
WIDTH = 30.0
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Trial:
    """What one run came to; seconds and tokens are None where it never reached the target."""

    learning_rate: float
    seconds: float | None
    tokens: float | None
    best_f1: float
    tokens_per_second: float
    flop_share: float

    @property
    def rank(self) -> tuple[float, float]:
        """Smaller is better: soon at the target, else near it."""
        return (math.inf if self.seconds is None else self.seconds, -self.best_f1)


class TargetReached(Exception):
    """Ends a run."""


def main() -> int:
    """Tune, repeat, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("start", nargs="?", type=Path, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--quick", action="store_true", help="invented data, tiny random model")
    parser.add_argument("--optimizers", nargs="+", choices=list(LOWEST), default=list(LOWEST))
    parser.add_argument("--target", type=float, help="validation F1 in percent (default 40; 50 with --quick)")
    parser.add_argument("--steps", type=int, help="of each run (default 60; 40 with --quick)")
    parser.add_argument("--rates", type=int, default=3, help="learning rates tried by each optimiser")
    parser.add_argument("--seeds", type=int, default=2, help="runs at the best one of them, at least 1")
    parser.add_argument("--validate-steps", type=int, default=10, help="steps from validation to validation")
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error("--seeds is at least 1: only these runs count")
    if not options.quick and (options.data is None or options.start is None):
        parser.error("name DATA and MINILM, or use --quick")
    with tempfile.TemporaryDirectory() as folder:
        return compare(options, Path(folder))


def compare(options: argparse.Namespace, scratch: Path) -> int:
    """All optimisers; prints a table and one JSON line."""
    import torch

    from generator.training.ceiling import measure_flop_ceiling
    from generator.training.memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(options.threads)
    ceiling = measure_flop_ceiling(torch.device("cpu"), getattr(torch, options.precision), seconds=1.0)
    task = quick_task(scratch) if options.quick else real_task(options.data, options.start)
    target = options.target or (50.0 if options.quick else 40.0)
    runs = len(options.optimizers) * (options.rates + options.seeds)
    run = RunConfig(
        folder="",
        max_steps=options.steps or (40 if options.quick else 60),
        validate_steps=options.validate_steps,
        checkpoint_seconds=1e9,
        precision=options.precision,
        flop_ceiling=ceiling,
        device="cpu",
        plots=False,
    )
    print(f"target F1 {target:.0f}, {run.max_steps} steps a run, {runs} runs, {options.precision}")
    print(f"ceiling: {ceiling / 1e12:.2f} TFLOP/s of 1024 x 1024 products, {options.threads} threads\n")
    print(
        f"{'optimiser':<20} {'rate':>9} {'reached':>8} {'seconds':>16} {'tokens':>10} "
        f"{'best F1':>8} {'FLOPs':>6}"
    )
    figures: dict[str, Any] = {
        "target_f1": target,
        "run_steps": run.max_steps,
        "rates": options.rates,
        "seeds": options.seeds,
        "precision": options.precision,
        "threads": options.threads,
        "device": "cpu",
        "quick": options.quick,
        "ceiling_flops_per_second": round(ceiling),
    }
    # One for each seed, shared by all trials: they are slow to read.
    workloads = {seed: build_workload(task, seed) for seed in range(options.seeds + 1)}
    for name in options.optimizers:
        final = tune_and_repeat(name, run, workloads, target, options, scratch)
        figures |= summary(name, final)
    print()
    print(json.dumps(figures))
    return 0


def tune_and_repeat(
    name: str,
    run: RunConfig,
    workloads: Mapping[int, Any],
    target: float,
    options: argparse.Namespace,
    scratch: Path,
) -> list[Trial]:
    """The runs with fresh seeds at the learning rate that was best in tuning."""
    # The tiny model of --quick wants larger steps than MiniLM.
    lowest = LOWEST[name] * (8 if options.quick else 1)
    rates = [lowest * quasi_random(index) for index in range(options.rates)]
    tuned = [trial(name, rate, 0, run, workloads, target, scratch) for rate in rates]
    best = min(tuned, key=lambda t: t.rank).learning_rate
    return [trial(name, best, seed, run, workloads, target, scratch) for seed in range(1, options.seeds + 1)]


def quasi_random(index: int) -> float:
    """A log-uniform factor in [1, WIDTH): steps of the golden ratio fill a line evenly, however many."""
    return WIDTH ** ((0.5 + index * GOLDEN) % 1)


def trial(
    name: str,
    rate: float,
    seed: int,
    run: RunConfig,
    workloads: Mapping[int, Any],
    target: float,
    scratch: Path,
) -> Trial:
    """One run up to the target or to its end."""
    from generator.training.errors import TrainingDiverged
    from generator.training.trainer import Trainer

    workload = workloads[seed]
    workload.begin(target)
    folder = Path(tempfile.mkdtemp(dir=scratch))
    config = TrainingConfig(
        replace(run, folder=str(folder), seed=seed),
        {},
        OptimizerConfig(
            name=name,  # type: ignore[arg-type]
            learning_rate=rate,
            schedule="constant" if name == "schedule-free-adamw" else "linear",
        ),
    )
    shares: list[float] = []
    trainer = Trainer(config, workload, on_progress=lambda progress: shares.append(progress.flop_share))
    began = time.perf_counter()
    reached = None
    try:
        trainer.run()
    except TargetReached:
        reached = time.perf_counter() - began - workload.validating_seconds
    except TrainingDiverged:
        workload.history.append(0.0)
    spent = time.perf_counter() - began - workload.validating_seconds
    tokens = trainer.counters.get("tokens", 0.0)
    return Trial(
        learning_rate=rate,
        seconds=reached,
        tokens=None if reached is None else tokens,
        best_f1=max(workload.history, default=0.0),
        tokens_per_second=tokens / spent,
        flop_share=statistics.median(shares or [0.0]),
    )


def build_workload(config: GroundedQAConfig, seed: int) -> Any:
    """The task that stops at the target."""
    from generator.training.grounded_qa import GroundedQATask

    class Workload(GroundedQATask):
        """Leaves the loss out of its validation, so that no best checkpoint is written."""

        def begin(self, target: float) -> None:
            self.target = target
            self.history: list[float] = []
            self.validating_seconds = 0.0

        def validate(self, model: Any) -> dict[str, float]:
            began = time.perf_counter()
            f1 = super().validate(model)["f1"]
            self.validating_seconds += time.perf_counter() - began
            self.history.append(f1)
            if f1 >= self.target:
                raise TargetReached
            return {"f1": f1}

    return Workload(config, seed=seed)


def summary(name: str, trials: Sequence[Trial]) -> dict[str, Any]:
    """Print an optimiser's line; its figures under names of their own."""
    reached = [t for t in trials if t.seconds is not None and t.tokens is not None]
    all_reached = bool(trials) and len(reached) == len(trials)
    seconds = sorted(t.seconds for t in reached if t.seconds is not None)
    tokens = [t.tokens for t in reached if t.tokens is not None]
    span = f"{statistics.median(seconds):.1f} ({seconds[0]:.1f}-{seconds[-1]:.1f})" if all_reached else "-"
    share = statistics.median(t.flop_share for t in trials)
    best = statistics.median(t.best_f1 for t in trials)
    count = f"{statistics.median(tokens):,.0f}" if all_reached else "-"
    print(
        f"{name:<20} {trials[0].learning_rate:>9.2e} {len(reached):>3} of {len(trials)} {span:>16} "
        f"{count:>10} {best:>8.1f} {share:>6.1%}",
        flush=True,
    )
    key = name.replace("-", "_")
    return {
        f"{key}_learning_rate": trials[0].learning_rate,
        f"{key}_reached": len(reached),
        f"{key}_seconds": round(statistics.median(seconds), 2) if all_reached else None,
        f"{key}_seconds_slowest": round(seconds[-1], 2) if all_reached else None,
        f"{key}_tokens": round(statistics.median(tokens)) if all_reached else None,
        f"{key}_best_f1": round(best, 2),
        f"{key}_tokens_per_second": round(statistics.median(t.tokens_per_second for t in trials)),
        f"{key}_flop_share": round(share, 4),
    }


def real_task(data: Path, start: Path) -> GroundedQAConfig:
    """Short windows of SQuAD's training part; more questions than any trial gets to see."""
    return GroundedQAConfig(
        start_folder=str(start),
        data_folder=str(data),
        questions=("squad_v1_train.jsonl",),
        stages=(Stage(questions=40_000, windows=(48, 64)),),
        weights={"squad_v1_train": 1.0},
        validation_questions=200,
        validation_window=64,
        tokens_per_batch=1500,
        unanswerable=UnanswerableConfig(share=0.0),
    )


def quick_task(folder: Path) -> GroundedQAConfig:
    """Invented passages of three facts, asked for one of them, and a BERT of random weights."""
    things = ["boat", "car", "dog", "ferry", "lamp", "ring", "map", "bell"]
    places = ["harbour", "tower", "garden", "kitchen", "market", "forest", "school", "church"]
    write_random_bert(folder, ["where", "is", "the", "in", "?", ".", *things, *places])
    rng = random.Random(0)
    with (folder / "facts.jsonl").open("w", encoding="utf-8") as file:
        for index in range(400):
            pairs = list(zip(rng.sample(things, 3), rng.sample(places, 3), strict=True))
            thing, place = rng.choice(pairs)
            record = {
                "id": str(index),
                "title": f"title {index % 50}",
                "question": f"Where is the {thing}?",
                "answers": [place],
                "passage": " ".join(f"The {one} is in the {other}." for one, other in pairs),
            }
            file.write(json.dumps(record) + "\n")
    return GroundedQAConfig(
        start_folder=str(folder),
        data_folder=str(folder),
        questions=("facts.jsonl",),
        stages=(Stage(questions=20_000, windows=(48, 48)),),
        weights={"facts": 1.0},
        validation_share=0.1,
        validation_questions=32,
        validation_window=48,
        tokens_per_batch=800,
        unanswerable=UnanswerableConfig(share=0.0),
    )


def write_random_bert(folder: Path, words: Sequence[str]) -> None:
    """config.json, tokenizer.json and model.safetensors in the layout of all-MiniLM-L6-v2."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.save(str(folder / "tokenizer.json"))
    hidden, inner, positions, layers = 32, 64, 96, 2
    shape = {
        "model_type": "bert",
        "vocab_size": len(pieces),
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": positions,
        "layer_norm_eps": 1e-12,
    }
    (folder / "config.json").write_text(json.dumps(shape), encoding="utf-8")
    generator = torch.Generator().manual_seed(0)

    def matrix(rows: int, columns: int, std: float) -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator) * std

    tensors = {
        "embeddings.word_embeddings.weight": matrix(len(pieces), hidden, 1.0),
        "embeddings.position_embeddings.weight": matrix(positions, hidden, 0.1),
        "embeddings.token_type_embeddings.weight": matrix(2, hidden, 0.1),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(layers):
        prefix = f"encoder.layer.{layer}"
        norms += [f"{prefix}.attention.output.LayerNorm", f"{prefix}.output.LayerNorm"]
        linear = {
            **{f"attention.self.{part}": (hidden, hidden) for part in ("query", "key", "value")},
            "attention.output.dense": (hidden, hidden),
            "intermediate.dense": (inner, hidden),
            "output.dense": (hidden, inner),
        }
        for name, (rows, columns) in linear.items():
            tensors[f"{prefix}.{name}.weight"] = matrix(rows, columns, 0.15)
            tensors[f"{prefix}.{name}.bias"] = torch.zeros(rows)
    for name in norms:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = torch.ones(hidden), torch.zeros(hidden)
    save_file(tensors, folder / "model.safetensors")


if __name__ == "__main__":
    sys.exit(main())
