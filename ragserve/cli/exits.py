"""Exit codes, and the ways in which a command ends early."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, ParamSpec

DONE, SOME_WORK_FAILED, CALL_WAS_WRONG, INTERRUPTED = 0, 1, 2, 130

P = ParamSpec("P")


def stop(code: int) -> NoReturn:
    """Ends a command that has printed what it has to say."""
    import typer

    raise typer.Exit(code)


def ending_with_its_reader(command: Callable[P, None]) -> Callable[P, None]:
    """Makes `ragserve search ... | head -1` end quietly: a reader that has gone is no error."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:
            _send_stdout_nowhere()
            stop(DONE)

    return run


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Lets SIGTERM end the process at once, with 0, where nothing is lost by that.

    Not by an exception: raised amid an import, it may be swallowed by whoever finds the import failing.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: os._exit(DONE))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _send_stdout_nowhere() -> None:
    """So that the interpreter's last flush does not fail in its turn."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
