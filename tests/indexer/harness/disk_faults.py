"""A disk that fails: at its n-th write or sync a process is killed, or told that the disk is full or broken.

The calls are counted below SQLite and FAISS, in a small library that is loaded before libc. It needs Linux
and a C compiler; `library` says None without them, and whoever wanted it does without.
"""

from __future__ import annotations

import ctypes
import enum
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_SOURCE = Path(__file__).with_name("faulty_io.c")


class Calls(enum.IntFlag):
    """Which calls count."""

    WRITES = 1
    SYNCS = 2


def library() -> Path | None:
    """The library, built on first use; None where it cannot be built."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        return None
    version = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    built = Path(tempfile.gettempdir()) / f"ragserve-faulty-io-{os.getuid()}" / f"{version}.so"
    if not built.exists():
        built.parent.mkdir(exist_ok=True, mode=0o700)
        fresh = built.with_name(f"{os.getpid()}.so")
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(fresh), str(_SOURCE), "-ldl"]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return None
        fresh.replace(built)
    return built


def arm(folder: Path, call: int, *, error: int = 0, calls: Calls = Calls.WRITES | Calls.SYNCS) -> None:
    """From now on, count this process's calls below the folder; at the given one, strike.

    With an errno that call and all later ones fail with it; without, the process is killed. Call 0 only
    counts. Needs a process that was started with the library in LD_PRELOAD.
    """
    ctypes.CDLL(None).faulty_io_arm(
        os.fsencode(folder.resolve()), ctypes.c_long(call), int(error), int(calls)
    )


def num_calls() -> int:
    """How many calls were counted since `arm`."""
    count = ctypes.CDLL(None).faulty_io_calls
    count.restype = ctypes.c_long
    return int(count())
