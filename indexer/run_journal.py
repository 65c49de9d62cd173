"""The journal of an index: which ingests and imports there were, and how each of them ended."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from indexer.writer_lock import runs_since

RunOutcome = Literal["running", "finished", "interrupted", "failed"]
_COUNTS = ("indexed", "unchanged", "skipped", "failed", "removed", "chunks")


@dataclass(frozen=True, slots=True)
class RunRecord:
    """An ingest or an import."""

    command: str  # "ingest" or "import"
    roots: tuple[str, ...]  # what it was given
    started_at: float  # Unix seconds
    seconds: float | None  # None: it did not come to tell
    outcome: RunOutcome  # interrupted: by Ctrl-C, or killed; failed: by an error, a full disk for one
    counts: Mapping[str, int]  # of files by what became of them, and of chunks; empty if it was killed

    @property
    def is_cut_off(self) -> bool:
        """Whether it ended before it was done."""
        return self.outcome in ("interrupted", "failed")


def last_runs(connection: sqlite3.Connection, limit: int) -> list[RunRecord]:
    """The last runs, the newest first; all of them where the limit is negative."""
    rows = connection.execute(
        "SELECT started_at, finished_at, pid, roots, outcome, report FROM runs ORDER BY rowid DESC LIMIT ?",
        (limit,),
    )
    return [_record(*row) for row in rows]


def unfinished(connection: sqlite3.Connection) -> list[RunRecord]:
    """The runs that were cut off and that no later one has made good, the newest first.

    That is one that came to its end and was given the same paths, or folders that they are in. Of paths that
    are gone nothing can be made good: a run of such ones is told while it is the last.
    """
    found: list[RunRecord] = []
    made_good: set[tuple[str, str]] = set()  # command and path
    for number, run in enumerate(last_runs(connection, -1)):  # all of them
        if run.outcome == "finished":
            made_good |= {(run.command, root) for root in run.roots}
        elif run.is_cut_off:
            open_ = [root for root in run.roots if not _is_within(run.command, root, made_good)]
            if open_ and (number == 0 or any(map(os.path.lexists, open_))):
                found.append(run)
    return found


def _is_within(command: str, path: str, known: Collection[tuple[str, str]]) -> bool:
    return any((command, str(folder)) in known for folder in (path, *Path(path).parents))


def _record(
    started_at: float, finished_at: float | None, pid: int, roots: str, outcome: RunOutcome, report: str
) -> RunRecord:
    if outcome == "running" and not runs_since(pid, started_at):
        outcome = "interrupted"  # which it could not say itself; the next run would note it
    told = json.loads(report)
    return RunRecord(
        command=told.get("command", "ingest"),
        roots=tuple(json.loads(roots)),
        started_at=started_at,
        seconds=None if finished_at is None else max(0.0, finished_at - started_at),
        outcome=outcome,
        counts={name: told[name] for name in _COUNTS if name in told},
    )
