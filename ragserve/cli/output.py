"""What goes where: results to stdout, everything else to stderr, and bars only on a terminal."""

from __future__ import annotations

import io
import json
import shutil
import sys
import textwrap
from typing import IO, Any

_MAX_WIDTH = 100  # longer lines are hard to read, however wide the terminal is


def make_streams_safe() -> None:
    """A character that the terminal cannot show is printed as an escape, not as a UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_json(document: Any) -> None:
    """Prints one JSON document to stdout, in ASCII where that is all the terminal knows."""
    text = json.dumps(document, indent=2, ensure_ascii=not _is_utf8(sys.stdout), allow_nan=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()  # a server says where it listens and then goes on


def print_json_line(document: Any) -> None:
    """Prints one JSON document on a line of its own, for those that come one after another."""
    sys.stdout.write(json.dumps(document, ensure_ascii=not _is_utf8(sys.stdout), allow_nan=False) + "\n")
    sys.stdout.flush()


def print_text(text: str) -> None:
    """Prints a result to stdout."""
    sys.stdout.write(text + "\n")


def note(message: str) -> None:
    """Prints a message to stderr, wrapped to the terminal."""
    print(fill(message, width=width(sys.stderr)), file=sys.stderr, flush=True)


def print_error(message: str, hint: str) -> None:
    """Prints what went wrong and what to do about it to stderr."""
    columns = width(sys.stderr)
    print(fill(message, first="Error: ", width=columns), file=sys.stderr)
    if hint:
        print(fill(hint, first="Hint:  ", width=columns), file=sys.stderr)
    sys.stderr.flush()


def fill(text: str, *, first: str = "", width: int) -> str:
    """Wraps a text, its first line after `first`, the others indented as far; words stay whole."""
    return textwrap.fill(
        text,
        width=width,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )


def width(stream: IO[str]) -> int:
    """Columns to print for: the terminal's, at most 100; 80 where there is no terminal."""
    if not stream.isatty():
        return 80
    return max(40, min(shutil.get_terminal_size().columns, _MAX_WIDTH))


def _is_utf8(stream: IO[str]) -> bool:
    return (stream.encoding or "").lower().replace("-", "") == "utf8"
