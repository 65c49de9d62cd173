"""Around every command: whatever goes wrong ends as a sentence, a remedy and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from ragserve.cli import output
from ragserve.cli.exits import CALL_WAS_WRONG, DONE, INTERRUPTED, SOME_WORK_FAILED
from ragserve.errors import TypedError

# Errors that no other call would have avoided: the machine or the data failed, not the caller.
WORK_FAILED = frozenset(
    {
        "index-corrupt",
        "snapshot-damaged",
        "index-locked",
        "index-busy",
        "index-not-writable",
        "disk-full",
        "storage-failed",
        "embedder-failed",
        "embedding-failed",
        "hub-unavailable",
        "out-of-memory",
        "non-finite-logits",
        "answer-missing",
        "training-diverged",
        "data-loading-failed",
    }
)


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command in `arguments` (default: the process's own) and returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    flags = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json = "--json" in flags
    output.make_streams_safe()
    _quiet_libraries()
    try:
        return _run_app(arguments, as_json=as_json)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if "--debug" in flags:
            raise
        return _report(error, as_json=as_json)


def _run_app(arguments: list[str], *, as_json: bool) -> int:
    import typer

    from ragserve.cli.app import app

    usage_error: Any = typer.BadParameter.__base__  # of all that is wrong with a call; has no public name
    try:
        code = app(arguments, prog_name="ragserve", standalone_mode=False)
    except usage_error as error:
        return _report_usage(error, as_json=as_json)
    except typer.Abort:
        output.print_error("The input ended before it was complete.", "")
        return SOME_WORK_FAILED
    except SystemExit as exit_:  # how typer ends a command whose reader has gone
        return exit_.code if isinstance(exit_.code, int) else DONE
    return code if isinstance(code, int) else DONE


def _report_usage(error: Any, *, as_json: bool) -> int:
    """Says what typer cannot read: on stderr in its words, which begin with the usage of the command."""
    if as_json:
        command = "ragserve" if error.ctx is None else error.ctx.command_path
        message = f"{error.format_message().rstrip('.')}."
        output.print_json(_error_document("usage", message, f"See {command} --help."))
    error.show()
    return CALL_WAS_WRONG


def _report(error: Exception, *, as_json: bool) -> int:
    if isinstance(error, TypedError):
        message, hint, code = error.message, error.hint, error.code
        exit_code = SOME_WORK_FAILED if code in WORK_FAILED else CALL_WAS_WRONG
    elif isinstance(error, OSError):
        message, hint, code = f"{_sentence(error)}.", "", "operating-system"
        exit_code = SOME_WORK_FAILED
    else:
        message = f"Ragserve hit a bug: {type(error).__name__}: {error}."
        hint, code = "Run the command again with --debug and report what it prints.", "bug"
        exit_code = SOME_WORK_FAILED
    if as_json:
        output.print_json(_error_document(code, message, hint))
    output.print_error(message, hint)
    return exit_code


def _error_document(code: str, message: str, hint: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "hint": hint}}


def _sentence(error: OSError) -> str:
    if error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return error.strerror or str(error) or type(error).__name__


def _quiet_libraries() -> None:
    """Keeps other libraries' progress bars and fork warnings off the terminal; an explicit choice stands."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
