"""Exit codes, and the ways in which a command ends early."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def ending_on_sigint() -> Iterator[None]:
    """Lets Ctrl-C end the process at once, with 130, where nothing is kept that could be left half done.

    Not by an exception: raised amid an import, it may leave the lock of that import held, and who then waits
    for a thread that loads a model waits for ever. Only the main thread may set this, and only in place of
    what Python does by itself: a signal that is ignored or has its own handler stays so.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    before = signal.signal(signal.SIGINT, _end_interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_interrupted(*_: object) -> None:
    with suppress(Exception):  # the reader may have gone, or the signal may have come amid a write
        sys.stdout.flush()
    os._exit(INTERRUPTED)


def _send_stdout_nowhere() -> None:
    """So that the interpreter's last flush does not fail in its turn."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
