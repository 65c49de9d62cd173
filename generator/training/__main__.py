"""`python -m generator.training CONFIG.toml [section.key=value ...]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from generator.errors import GeneratorError
from generator.training import TrainingProgress, train_from_file
from generator.training.distributed import Processes


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; progress goes to stderr, the report as JSON to stdout."""
    parser = argparse.ArgumentParser(prog="python -m generator.training", description="Train a model.")
    parser.add_argument("config", help="TOML file, for example generator/training/recipes/reader.toml")
    parser.add_argument("overrides", nargs="*", help="section.key=value, for example run.folder=runs/reader")
    options = parser.parse_args(arguments)
    try:
        report = train_from_file(options.config, overrides=options.overrides, on_progress=_print)
    except GeneratorError as error:
        print(error, file=sys.stderr)
        return 2
    if Processes.from_environment().is_first:
        print(json.dumps(asdict(report), indent=2))
    return 1 if report.interrupted else 0


def _print(progress: TrainingProgress) -> None:
    details = " ".join(f"{name} {value:.3g}" for name, value in progress.metrics.items())
    left = "?" if progress.eta_seconds is None else f"{progress.eta_seconds:.0f}"
    print(
        f"step {progress.step}/{progress.num_steps} loss {progress.loss:.4f} {details} "
        f"lr {progress.learning_rate:.2e} tokens/s {progress.tokens_per_second:.0f} "
        f"FLOPs {progress.flop_share:.0%} waiting {progress.waiting_share:.0%} "
        f"{progress.seconds:.0f} s, {left} s left",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
