"""How far an ingest is: a bar on a terminal, now and then a line where there is none. All of it on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ragserve.cli import output

if TYPE_CHECKING:
    from indexer.types import IngestProgress

_SECONDS_BETWEEN_LINES = 10.0
_STAGES = {"discover": "Looking", "index": "Indexing", "prune": "Pruning", "checkpoint": "Saving"}


@contextmanager
def ingest_progress() -> Iterator[Callable[[IngestProgress], None]]:
    """Yields what to call with every IngestProgress."""
    if sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield _Lines()


@contextmanager
def _bar() -> Iterator[Callable[[IngestProgress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description:<8}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("files  {task.fields[rate]:>6,.0f} chunks/s"),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
        expand=True,
    )
    with bar:
        task = bar.add_task(_STAGES["discover"], total=None, rate=0.0)

        def show(progress: IngestProgress) -> None:
            bar.update(
                task,
                description=_STAGES[progress.stage],
                completed=progress.files_done,
                total=progress.files_found if progress.all_found else None,
                rate=progress.chunks_per_second,
            )

        yield show


class _Lines:
    """One line every ten seconds, for logs."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, progress: IngestProgress) -> None:
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        more = "" if progress.all_found else "+"
        output.note(
            f"{progress.files_done:,}/{progress.files_found:,}{more} files, {progress.chunks:,} chunks, "
            f"{progress.chunks_per_second:,.0f} chunks/s"
        )
