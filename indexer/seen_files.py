"""The files that an ingest has come across, and so the ones that are gone."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from indexer import catalog_reader
from indexer.catalog import Catalog
from indexer.catalog_reader import KnownFile
from indexer.storage_errors import sqlite_errors_translated


class SeenFiles:
    """A set of uris that may outgrow memory: a private SQLite file that goes with it.

    What that file's disk refuses is raised as an IndexerError that names its folder.
    """

    def __init__(self) -> None:
        self._folder = _temporary_folder()
        with sqlite_errors_translated(self._folder):
            self._connection = sqlite3.connect("", isolation_level=None)  # "": on disk once it is large
            self._connection.execute("CREATE TABLE seen (uri TEXT PRIMARY KEY) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def add(self, uris: Iterable[str]) -> None:
        """Remember files."""
        with sqlite_errors_translated(self._folder):
            self._connection.execute("BEGIN")
            self._connection.executemany("INSERT OR IGNORE INTO seen VALUES (?)", ((uri,) for uri in uris))
            self._connection.execute("COMMIT")

    def missing(self, catalog: Catalog, root: str) -> Iterator[list[KnownFile]]:
        """The catalog's files at or below a root that were not seen, in batches that may be removed."""
        last = ""
        while True:
            with catalog.read() as connection:
                files = catalog_reader.files_below(connection, root, after=last)
            if not files:
                return
            last = files[-1].uri
            seen = self._between(files[0].uri, files[-1].uri)
            missing = [file for file in files if file.uri not in seen]
            if missing:
                yield missing

    def _between(self, first: str, last: str) -> set[str]:
        """Those that were seen from one uri to another; an ingest has noted all of them in the catalog."""
        with sqlite_errors_translated(self._folder):
            rows = self._connection.execute("SELECT uri FROM seen WHERE uri BETWEEN ? AND ?", (first, last))
            return {uri for (uri,) in rows}


def _temporary_folder() -> Path:
    """Where SQLite keeps temporary files, which it does not tell (https://sqlite.org/tempfiles.html)."""
    named = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp")
    folders = (Path(name) for name in named if name)
    return next((folder for folder in folders if _takes_files(folder)), Path())


def _takes_files(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
