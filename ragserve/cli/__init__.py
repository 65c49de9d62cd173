"""The command line: parses flags, calls the pipeline, prints. `main` is the `ragserve` command."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 done, 1 some work failed, 2 the call was wrong."""
    from ragserve.cli.run import run

    return run(arguments)
