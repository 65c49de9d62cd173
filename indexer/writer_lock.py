"""One writer an index: a lock file that the operating system releases when its holder dies."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from indexer.catalog import LOCK_NAME
from indexer.errors import IndexLocked
from indexer.storage_errors import from_os

_CLOCK_SLACK_SECONDS = 2.0  # for a clock that was set meanwhile


@contextmanager
def writer_lock(folder: Path, *, holder: Callable[[], int | None]) -> Iterator[None]:
    """Hold the lock, or raise IndexLocked at once; `holder` says which process seems to have it."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK_NAME, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        pid = holder()
        raise IndexLocked(
            f"Another ingest is running{f' (pid {pid})' if pid and is_alive(pid) else ''}.",
            hint="Wait until it is done, or stop it; what it has committed is kept.",
        ) from None
    except OSError as error:
        raise from_os(error, folder) from error
    try:
        yield
    finally:
        lock.release()


def is_alive(pid: int) -> bool:
    """Whether there is a process with this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is there, and somebody else's
        return True
    return True


def runs_since(pid: int, since: float) -> bool:
    """Whether the process with this number runs and did at a time, in Unix seconds.

    A later process may have its number: containers use few.
    """
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):  # no such process, or not Linux
        return is_alive(pid)
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age <= since + _CLOCK_SLACK_SECONDS
