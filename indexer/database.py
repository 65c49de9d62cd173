"""Connections to the catalog's SQLite file: snapshots for many readers, transactions for one writer."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from indexer.errors import (
    IndexClosed,
    IndexCorrupt,
    IndexerError,
    IndexNotFound,
    IndexNotWritable,
    IndexTooNew,
    SqliteTooOld,
)
from indexer.schema import APPLICATION_ID, MIGRATIONS, PAGE_BYTES, SCHEMA_VERSION, statements
from indexer.storage_errors import sqlite_errors_translated

BUSY_SECONDS = 10.0
MAX_IDLE_READERS = 8
_OLDEST_SQLITE = (3, 37, 0)  # STRICT tables
_RETRY_SECONDS = 0.01  # where SQLite itself does not wait for another process


class _Connection(sqlite3.Connection):
    """A connection that knows its file."""

    file: tuple[int, ...]  # what `Database._file_on_disk` said
    immutable: bool  # it reads without locks, as if nobody could write


class Database:
    """A pool of reading connections and one writing connection; safe to share between threads."""

    def __init__(self, path: Path, *, read_only: bool = False, busy_seconds: float = BUSY_SECONDS) -> None:
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise SqliteTooOld(
                f"Python's SQLite is {sqlite3.sqlite_version}; the catalog needs 3.37 or later.",
                hint="Use a Python from python.org, conda or a current distribution.",
            )
        self.path = path
        self.read_only = read_only
        self._busy_seconds = busy_seconds
        self._idle: deque[_Connection] = deque()
        self._writer: _Connection | None = None
        self._write_lock = threading.Lock()
        self._pool_lock = threading.Lock()
        self._closed = False
        with sqlite_errors_translated(self.path):
            if read_only:
                self._give_back(self._connect_for_reading())
            else:
                self._open_for_writing()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection in a read transaction: one consistent snapshot, whatever others commit meanwhile."""
        connection = self._take()
        try:
            with sqlite_errors_translated(self.path):
                connection.execute("BEGIN")
                yield connection
        finally:
            self._give_back(connection)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """The writing connection inside a transaction: committed and on disk at the end, or rolled back."""
        with self._write_lock:
            writer = self._checked_writer()
            with sqlite_errors_translated(self.path):
                writer.execute("BEGIN IMMEDIATE")
                try:
                    yield writer
                    writer.execute("COMMIT")
                except BaseException:
                    # SQLite has already rolled back after some errors (a full disk, an I/O error).
                    if writer.in_transaction:
                        writer.execute("ROLLBACK")
                    raise

    def replace_with(self, source: sqlite3.Connection) -> None:
        """Make the content that of another database, in one transaction: on disk at the end, or as before."""
        with self._write_lock:
            writer = self._checked_writer()
            with sqlite_errors_translated(self.path):
                source.backup(writer)

    def close(self) -> None:
        """Close every connection that is not in use; those in use are closed when they come back."""
        with self._write_lock, self._pool_lock:
            self._closed = True
            connections = [*self._idle, *([self._writer] if self._writer else [])]
            self._idle.clear()
            self._writer = None
        for connection in connections:
            connection.close()

    def _checked_writer(self) -> _Connection:
        """The writing connection, if there is one and it still leads to the file at the path."""
        if self._writer is None:
            raise self._not_writable()
        if self._writer.file != self._file_on_disk():
            raise IndexNotFound(
                f"The index at {self.path.parent} was replaced while it was open.", hint="Open it again."
            )
        return self._writer

    def _take(self) -> _Connection:
        self._file_on_disk()
        with self._pool_lock:
            if self._closed:
                raise IndexClosed("The index is closed.", hint="Open it again.")
            while self._idle:
                connection = self._idle.pop()
                if self._is_current(connection):
                    return connection
                connection.close()  # to a file that is not there any more
        with sqlite_errors_translated(self.path):
            return self._connect_for_reading()

    def _give_back(self, connection: _Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            connection.close()  # a connection that cannot even end its snapshot is of no further use
            return
        with self._pool_lock:
            if not self._closed and len(self._idle) < MAX_IDLE_READERS:
                self._idle.append(connection)
                return
        connection.close()

    def _file_on_disk(self, *, immutable: bool = False) -> tuple[int, ...]:
        """Which file is at the path now: an index may be deleted and made again while it is open.

        `immutable`: also in which state, for whoever reads without locks: it may be written to after all.
        """
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            raise IndexNotFound(
                f"There is no index at {self.path.parent}.", hint="Create it by ingesting a folder."
            ) from None
        state = (status.st_size, status.st_mtime_ns, self._log_bytes()) if immutable else ()
        return status.st_dev, status.st_ino, *state

    def _is_current(self, connection: _Connection) -> bool:
        """Whether a connection leads to what is at the path now."""
        return connection.file == self._file_on_disk(immutable=connection.immutable)

    def _log_bytes(self) -> int:
        """The size of the write-ahead log."""
        with suppress(FileNotFoundError):
            return os.stat(f"{self.path}-wal").st_size
        return 0

    def _connect_for_reading(self) -> _Connection:
        """A connection that was seen to read a catalog of the present schema."""
        try:
            return self._seen_to_read(self._connect(writable=False))
        except sqlite3.OperationalError as error:
            # A journal to roll back is there only until there is a write-ahead log: whoever was making the
            # catalog died before there was anything in it.
            if error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK:
                raise self._empty() from error
            # On a read-only disk SQLite cannot make the shared-memory file of a WAL database. With no log
            # beside it the file is complete. Whatever else goes wrong, a lock for one, is no reason to read
            # without locks.
            if not self._is_of_a_read_only_folder(error) or self._log_bytes():
                raise
        return self._seen_to_read(self._connect(writable=False, immutable=True))

    def _is_of_a_read_only_folder(self, error: sqlite3.OperationalError) -> bool:
        refused = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
        return refused and not os.access(self.path.parent, os.W_OK)

    def _seen_to_read(self, connection: _Connection) -> _Connection:
        try:
            version = self._version(connection)
            if version == 0:
                raise self._empty()
            if version < SCHEMA_VERSION:
                raise IndexNotWritable(
                    f"The index at {self.path.parent} is from an older version and has to be upgraded.",
                    hint="Open it once for writing, for example by ingesting a folder.",
                )
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_for_writing(self) -> None:
        connection = self._connect(writable=True)
        try:
            if self._version(connection) < SCHEMA_VERSION:
                _upgrade(connection, busy_seconds=self._busy_seconds)
        except BaseException:
            connection.close()
            raise
        self._writer = connection

    def _connect(self, *, writable: bool, immutable: bool = False) -> _Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={'rwc' if writable else 'ro'}"
        while True:
            if writable and not self.path.exists():
                sqlite3.connect(uri, uri=True).close()  # so that there is a file to know it by
            file = self._file_on_disk(immutable=immutable)
            connection = sqlite3.connect(
                f"{uri}&immutable=1" if immutable else uri,
                uri=True,
                timeout=self._busy_seconds,
                isolation_level=None,  # transactions are begun and ended here, not by the sqlite3 module
                check_same_thread=False,  # a connection moves between threads, but serves one at a time
                cached_statements=256,
                factory=_Connection,
            )
            connection.file, connection.immutable = file, immutable
            with suppress(IndexNotFound):
                if self._is_current(connection):
                    break
            connection.close()  # to a file that was replaced just then
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA foreign_keys = ON")
        if writable:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")
        return connection

    def _version(self, connection: sqlite3.Connection) -> int:
        """The schema version of one of our files, 0 for an empty one; raises for any other."""
        # One snapshot for all three: between two reads another process may finish making the catalog.
        connection.execute("BEGIN")
        try:
            application_id = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            num_objects = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        finally:
            if connection.in_transaction:  # SQLite ends it by itself after some errors
                connection.execute("ROLLBACK")
        if application_id == 0 and num_objects == 0:
            return 0
        if application_id != APPLICATION_ID:
            raise IndexCorrupt(
                f"{self.path} is an SQLite file of another program.", hint="Choose another index folder."
            )
        if version > SCHEMA_VERSION:
            raise IndexTooNew(
                f"{self.path.parent} was made by a later version of ragserve"
                f" (its schema is {version}, this one's {SCHEMA_VERSION}).",
                hint="Upgrade ragserve, or ingest into a new index folder.",
            )
        return version

    def _empty(self) -> IndexNotFound:
        return IndexNotFound(f"The index at {self.path.parent} is empty.", hint="Ingest a folder into it.")

    def _not_writable(self) -> IndexerError:
        if self._closed:
            return IndexClosed("The index is closed.", hint="Open it again.")
        return IndexNotWritable("The index was opened for reading only.", hint="Open it without read_only.")


def _upgrade(connection: sqlite3.Connection, *, busy_seconds: float) -> None:
    """Brings an empty or older file to the present schema, in one transaction."""
    _use_write_ahead_log(connection, busy_seconds=busy_seconds)
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have been first.
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for script in MIGRATIONS[version:]:
            for statement in statements(script):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _use_write_ahead_log(connection: sqlite3.Connection, *, busy_seconds: float) -> None:
    """Makes the change that cannot be part of a transaction.

    Where two processes make a catalog at the same time, SQLite tells one of them at once, without waiting,
    that it is locked.
    """
    deadline = time.monotonic() + busy_seconds
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return
