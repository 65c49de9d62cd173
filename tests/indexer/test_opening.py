"""Opening an index at the very moment at which somebody else makes, replaces or writes to it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from indexer import database
from indexer.catalog import CATALOG_NAME, Catalog
from indexer.catalog_reader import meta
from indexer.errors import IndexBusy, IndexNotFound, IndexNotWritable
from indexer.storage_errors import from_sqlite


def make(folder: Path, name: str) -> Path:
    """An index that knows its name."""
    with closing(Catalog.open(folder)) as catalog, catalog.write() as writer:
        writer.set_meta("name", name)
    return folder


def name_of(catalog: Catalog) -> str | None:
    with catalog.read() as connection:
        return meta(connection, "name")


@pytest.mark.parametrize("read_only", [True, False])
def test_an_index_that_is_replaced_while_it_is_opened_is_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_only: bool
):
    folder, other = make(tmp_path / "index", "old"), make(tmp_path / "other", "new")
    real = sqlite3.connect

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        monkeypatch.setattr(sqlite3, "connect", real)
        connection = real(*arguments, **options)
        shutil.rmtree(folder)
        other.rename(folder)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)
    with closing(Catalog.open(folder, read_only=read_only)) as catalog:
        assert name_of(catalog) == "new"
        if not read_only:
            with catalog.write() as writer:
                writer.set_meta("name", "newer")
    with closing(Catalog.open(folder, read_only=True)) as catalog:
        assert name_of(catalog) == ("new" if read_only else "newer")


def test_an_index_that_is_deleted_while_it_is_opened_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = make(tmp_path / "index", "old")
    real = sqlite3.connect

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = real(*arguments, **options)
        shutil.rmtree(folder)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)
    with pytest.raises(IndexNotFound):
        Catalog.open(folder, read_only=True)


def test_two_processes_that_make_one_index_at_the_same_time_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """SQLite tells one of them at once that the file is locked, however long it is told to wait."""
    with closing(sqlite3.connect(tmp_path / CATALOG_NAME, isolation_level=None)) as first:
        first.execute("BEGIN IMMEDIATE")
        pauses = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            first.execute("ROLLBACK")

        monkeypatch.setattr(database, "time", SimpleNamespace(sleep=pause, monotonic=time.monotonic))
        with closing(Catalog.open(tmp_path)) as catalog:
            assert name_of(catalog) is None
    assert len(pauses) == 1


def test_a_lock_is_no_reason_to_read_without_locks(tmp_path: Path):
    folder = make(tmp_path / "index", "old")
    with closing(sqlite3.connect(folder / CATALOG_NAME, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("UPDATE meta SET value = 'new'")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # all is in the file, and the log empty
        with pytest.raises(IndexBusy):
            Catalog.open(folder, read_only=True, busy_seconds=0.01)


@pytest.fixture
def read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An index that this user can write nothing to, and whoever opens it for writing can."""
    folder = make(tmp_path / "index", "old")
    os.utime(folder / CATALOG_NAME, (1_000_000_000, 1_000_000_000))  # so that any change shows
    real = database.Database._connect

    def connect(self: Any, *, writable: bool, immutable: bool = False) -> Any:
        if not writable and not immutable:
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error
        return real(self, writable=writable, immutable=immutable)

    monkeypatch.setattr(database.Database, "_connect", connect)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    return folder


def test_who_reads_without_locks_sees_what_another_user_has_committed_since(read_only_folder: Path):
    with closing(Catalog.open(read_only_folder, read_only=True)) as reader:
        assert name_of(reader) == "old"
        make(read_only_folder, "new")
        assert name_of(reader) == "new"


def test_who_reads_without_locks_is_refused_while_another_user_writes(read_only_folder: Path):
    with closing(Catalog.open(read_only_folder, read_only=True)) as reader:
        assert name_of(reader) == "old"
        with closing(Catalog.open(read_only_folder)) as writing:
            with writing.write() as writer:
                writer.set_meta("name", "new")
            with pytest.raises(IndexNotWritable):
                name_of(reader)  # half of it may be in the log, which cannot be read without locks
        assert name_of(reader) == "new"


def test_that_sqlite_gives_up_among_many_is_a_busy_index():
    error = sqlite3.OperationalError("locking protocol")
    error.sqlite_errorcode = sqlite3.SQLITE_PROTOCOL
    assert isinstance(from_sqlite(error, Path("catalog.sqlite3")), IndexBusy)
