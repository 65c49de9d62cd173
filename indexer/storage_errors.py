"""Typed errors for what SQLite and the file system report."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from indexer.errors import (
    DiskFull,
    IndexBusy,
    IndexCorrupt,
    IndexerError,
    IndexNotWritable,
    StorageFailed,
)


@contextmanager
def sqlite_errors_translated(path: Path) -> Iterator[None]:
    """Raise IndexerErrors in place of what SQLite says about the disk, the file or another process."""
    try:
        yield
    except sqlite3.Error as error:
        typed = from_sqlite(error, path)
        if typed is None:
            raise
        raise typed from error


@contextmanager
def os_errors_translated(path: Path) -> Iterator[None]:
    """Raise IndexerErrors in place of what the file system refuses."""
    try:
        yield
    except OSError as error:
        raise from_os(error, path) from error


def from_sqlite(error: sqlite3.Error, path: Path) -> IndexerError | None:
    """The typed error for a database file's trouble; None for our own mistakes."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    match code & 0xFF:  # the low byte is the cause, the rest says where it struck
        case sqlite3.SQLITE_FULL:
            return _disk_full(path)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return _not_writable(path, str(error))
        # SQLITE_PROTOCOL: others have started so often, just when this one did, that it has given up.
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return IndexBusy(
                f"Another process keeps {path} locked.", hint="Wait until it is done, then run it again."
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return IndexCorrupt(
                f"{path} is damaged or no SQLite file ({error}).",
                hint="Restore the folder from a copy, or delete it and ingest again.",
            )
        case sqlite3.SQLITE_IOERR:
            return StorageFailed(
                f"Reading or writing {path} failed ({error}).", hint="Check the disk and the file system."
            )
    return None


def from_os(error: OSError, path: Path) -> IndexerError:
    """The typed error for what the file system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full(path)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return _not_writable(path, error.strerror or str(error))
    return StorageFailed(
        f"Reading or writing {path} failed ({error.strerror or error}).",
        hint="Check the disk and the file system.",
    )


def _disk_full(path: Path) -> DiskFull:
    return DiskFull(f"The disk that holds {path} is full.", hint="Free some space and run it again.")


def _not_writable(path: Path, detail: str) -> IndexNotWritable:
    return IndexNotWritable(
        f"{path} cannot be opened or written to ({detail}).",
        hint="Check the permissions of the folder and of the files in it.",
    )
