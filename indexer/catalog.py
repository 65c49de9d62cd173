"""The catalog: what is indexed, in one SQLite file. It is the truth; every other file can be made from it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from indexer.catalog_writer import CatalogWriter
from indexer.database import BUSY_SECONDS, Database
from indexer.errors import IndexNotFound, NotAnIndex
from indexer.storage_errors import os_errors_translated

CATALOG_NAME = "catalog.sqlite3"
LOCK_NAME = "writer.lock"
SNAPSHOTS_NAME = "snapshots"


class ChunkChange(NamedTuple):
    """What a transaction is about to commit, by chunk number (the rowid in the table of chunks)."""

    added: tuple[int, ...]
    removed: tuple[int, ...]
    generation: int
    documents: tuple[int, ...] = ()  # those that were written, by row; they may have been removed again


class CommitHook(Protocol):
    """Keeps something derived from the chunks in step with them, inside the transactions that change them."""

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Called in a transaction when the catalog is opened for writing: make tables, catch up."""

    def before_commit(self, connection: sqlite3.Connection, change: ChunkChange) -> None:
        """Called in each transaction that adds or removes chunks, after the table of chunks was changed."""


class Catalog:
    """The catalog of one index folder; safe to share between threads, and to open in several processes.

    What is in it is read by the functions of `catalog_reader`, within `read()`, and changed by the methods of
    `CatalogWriter`, within `write()`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hooks: list[CommitHook] = []

    @classmethod
    def open(
        cls, folder: Path, *, create: bool = True, read_only: bool = False, busy_seconds: float = BUSY_SECONDS
    ) -> Catalog:
        """Open the catalog in a folder, making both where they are missing and may be made."""
        path = folder / CATALOG_NAME
        with os_errors_translated(folder):
            exists = path.exists()
        if not exists:
            if read_only or not create:
                raise IndexNotFound(
                    f"There is no index at {folder}.", hint="Create it by ingesting a folder."
                )
            _make_folder(folder)
        return cls(Database(path, read_only=read_only, busy_seconds=busy_seconds))

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return self._database.path

    @property
    def read_only(self) -> bool:
        """True if nothing can be written through this object."""
        return self._database.read_only

    def close(self) -> None:
        """Close the connections. Using the catalog afterwards raises IndexClosed."""
        self._database.close()

    def read(self) -> AbstractContextManager[sqlite3.Connection]:
        """A connection that sees one consistent snapshot for as long as it is held."""
        return self._database.read()

    @contextmanager
    def write(self) -> Iterator[CatalogWriter]:
        """A transaction: what the writer does is committed and on disk at the end, or none of it is."""
        with self._database.write() as connection:
            writer = CatalogWriter(connection)
            yield writer
            added, removed = writer.finish()
            if added or removed:
                change = ChunkChange(added, removed, writer.generation, writer.documents)
                for hook in self._hooks:
                    hook.before_commit(connection, change)

    def replace_with(self, source: sqlite3.Connection) -> None:
        """Make the content that of another catalog, in one transaction; readers go on and see it next."""
        self._database.replace_with(source)

    def add_hook(self, hook: CommitHook) -> None:
        """Keep something in step with the chunks from now on. Needs a catalog that is open for writing."""
        with self._database.write() as connection:
            hook.prepare(connection)
        self._hooks.append(hook)


def _make_folder(folder: Path) -> None:
    """Makes an index folder, but not out of a folder that has other things in it."""
    if folder.exists() and not folder.is_dir():
        raise NotAnIndex(f"{folder} is a file.", hint="Choose a folder for the index.")
    with os_errors_translated(folder):
        folder.mkdir(parents=True, exist_ok=True)
        others = [entry.name for entry in folder.iterdir() if not _is_ours(entry.name)]
    if others:
        raise NotAnIndex(
            f"{folder} holds other files ({min(others)}) and no index.",
            hint="Choose an empty folder, or one that does not exist yet, for the index.",
        )


def _is_ours(name: str) -> bool:
    return name in (LOCK_NAME, SNAPSHOTS_NAME) or name.startswith((CATALOG_NAME, "vectors"))
