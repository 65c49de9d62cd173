"""`ragserve train`: runs, or resumes, what a training configuration describes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragserve.cli import options as flags
from ragserve.cli import output
from ragserve.cli.care import plain
from ragserve.cli.exits import SOME_WORK_FAILED, stop
from ragserve.errors import PathNotFound

if TYPE_CHECKING:
    from generator.training import TrainingProgress


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="What to train, on what, and how.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="SECTION.KEY=VALUE", help="Values that replace those of the file."),
    ] = None,
    as_json: flags.JsonFlag = False,
    debug: flags.DebugFlag = False,
) -> None:
    """Train or fine-tune an answering model.

    A run that was interrupted is resumed; the exit code is 1 when it was interrupted again.
    """
    if not config.is_file():
        raise PathNotFound(f"There is no file {config}.", hint="Name a training configuration in TOML.")
    from generator.training import train_from_file
    from generator.training.distributed import Processes

    report = train_from_file(config, overrides=tuple(overrides or ()), on_progress=_show)
    if not Processes.from_environment().is_first:
        pass  # torchrun started several, and one speaks for all
    elif as_json:
        output.print_json(plain(report))
    else:
        for name, value in plain(report).items():
            output.print_text(output.fill(str(value), first=f"{name}: ", width=output.width(sys.stdout)))
    if report.interrupted:
        stop(SOME_WORK_FAILED)


def _show(progress: TrainingProgress) -> None:
    parts = [
        f"step {progress.step}/{progress.num_steps}",
        f"loss {progress.loss:.4f}",
        *(f"{name} {value:.3g}" for name, value in progress.metrics.items()),
        f"{progress.tokens_per_second:,.0f} tokens/s",
        f"{progress.flop_share:.0%} of the FLOP ceiling",
        f"{progress.waiting_share:.0%} waiting for data",
        f"{progress.seconds:,.0f} s",
    ]
    if progress.eta_seconds is not None:
        parts.append(f"{progress.eta_seconds:,.0f} s left")
    output.note("  ".join(parts))
