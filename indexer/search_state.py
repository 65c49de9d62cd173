"""The newest committed state of an index in the form that is searched: vectors and postings, kept current."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexer import catalog_reader, checkpoint
from indexer.catalog import Catalog
from indexer.catalog_reader import Version
from indexer.errors import IndexerError
from indexer.lexical import LexicalIndex
from indexer.lines import LineNumbers
from indexer.stored_files import StoredFile
from indexer.types import Filters
from indexer.vector_settings import VectorSettings
from indexer.view import IndexView

if TYPE_CHECKING:
    from indexer.vectors import VectorIndex


class SearchState:
    """Follows a catalog. Threads may share it.

    `check` is called with a connection before a state that somebody committed is taken over, and may refuse
    it. `lock` is the writer's lock, for whoever puts a good checkpoint in the place of a bad one.
    """

    def __init__(
        self,
        folder: Path,
        catalog: Catalog,
        *,
        device: str,
        settings: VectorSettings,
        check: Callable[[sqlite3.Connection], None],
        lock: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.lexical = LexicalIndex()
        self.lines = LineNumbers()
        self.saved_version: Version | None = None  # of the checkpoint that is on disk, if it is good
        self._folder = folder
        self._catalog = catalog
        self._device = device
        self._settings = settings
        self._check = check
        self._lock = lock
        self._vectors: VectorIndex | None = None  # loaded by the first search
        self._tried: StoredFile | None = (
            None  # the last approximate index that was loaded in place of another
        )
        self._refresh_lock = threading.Lock()
        self._allowed: tuple[tuple[Filters, Version], np.ndarray] | None = None  # the last filters' numbers
        with catalog.read() as connection:
            self.version = catalog_reader.version(connection)

    def close(self) -> None:
        """Let go of the vectors."""
        self._vectors = None

    def refresh(self) -> bool:
        """Pick up what was committed since, by this process or another; True if there was anything."""
        with self._catalog.read() as connection:
            if catalog_reader.version(connection) == self.version:
                self._take_what_was_merged()
                return False
        with self._refresh_lock, self._catalog.read() as connection:
            version = catalog_reader.version(connection)
            if version == self.version:
                return False
            self._check(connection)
            vectors, self._vectors = self._vectors, None  # if anything fails, the next search loads them anew
            if not catalog_reader.remembers(connection, self.version):
                self.lexical = LexicalIndex()  # another index has taken the place of this one
            elif vectors is not None and checkpoint.catch_up(vectors, connection):
                self._vectors = vectors
            self.version = version
            return True

    def vectors(self, *, locked: bool = False) -> VectorIndex | None:
        """The vector index, loaded on first use; None while there is nothing to search.

        `locked`: the caller holds the writer's lock.
        """
        index = self._vectors
        if index is not None:
            return index
        with self._refresh_lock:
            while self._vectors is None:
                with self._catalog.read() as connection:
                    dimension = catalog_reader.dimension(connection)
                    if dimension is None:
                        return None
                    opened = self._open(connection, dimension, locked=locked)
                if opened is not None:
                    self._vectors, self.version = opened, opened.version
            return self._vectors

    @contextmanager
    def view(self) -> Iterator[IndexView]:
        """The newest committed state, held still until the context is left: ingests go on meanwhile."""
        while True:
            self.refresh()
            vectors = self.vectors()
            with ExitStack() as held:
                if vectors is not None:
                    held.enter_context(vectors.lock.reading())
                connection = held.enter_context(self._catalog.read())
                version = catalog_reader.version(connection)
                # Somebody may have committed, or moved the vectors on, between one line and the next.
                if version == (vectors.version if vectors is not None else self.version):
                    yield IndexView(connection, version, vectors, self.lexical, self.lines)
                    return

    def matching_numbers(self, filters: Filters | None) -> np.ndarray | None:
        """(n,) int64 sorted numbers of the chunks that pass the filters; None if all of them do."""
        if filters is None:
            return None
        key = (filters, self.version)
        last = self._allowed
        if last is not None and last[0] == key:
            return last[1]
        with self._catalog.read() as connection:
            key = (filters, catalog_reader.version(connection))
            numbers = catalog_reader.matching_numbers(connection, filters)
        if numbers is not None:
            self._allowed = (key, numbers)
        return numbers

    def save(self) -> None:
        """Write the checkpoint of the present state, unless there is one that will do; the caller holds the
        writer's lock."""
        self.refresh()
        if self._is_saved():
            return
        was_loaded = self._vectors is not None
        vectors = self.vectors(locked=True)
        if vectors is not None and (was_loaded or not self._is_saved()):  # loading may have saved them
            self.saved_version = checkpoint.save(self._folder, vectors, self._settings)

    # --- inside

    def _is_saved(self) -> bool:
        """Whether there is a good checkpoint, in the form that the settings ask for, to go on from."""
        with self._catalog.read() as connection:
            return checkpoint.is_close(self._folder, connection, self._settings)

    def _take_what_was_merged(self) -> None:
        """Let the next search load a checkpoint of the same chunks that compares fewer of them one by one.

        Another process has written it; this one has only followed the catalog, chunk by chunk.
        """
        vectors = self._vectors
        if vectors is None:
            return
        limit = self._settings.exact_chunks if vectors.base is None else self._settings.max_tail
        if len(vectors.tail) <= limit:
            return
        stamp = checkpoint.read_stamp(self._folder)
        base = stamp.base if stamp else None
        if base is not None and base.codes not in (self._tried, vectors.base and vectors.base.stamp.codes):
            self._tried = base.codes  # once: it may turn out to be unusable
            with self._refresh_lock:
                self._vectors = None

    def _open(self, connection: sqlite3.Connection, dimension: int, *, locked: bool) -> VectorIndex | None:
        """The vectors of a snapshot. Unless something stands in the way, there is a good checkpoint then.

        The catalog holds everything, so not having one costs time at the next start and nothing else. None if
        there is a later state meanwhile: its checkpoint may be why there is none of this one.
        """
        vectors, self.saved_version = self._open_saved(connection, dimension)
        if vectors is None and not self._catalog.read_only:
            with suppress(IndexerError), nullcontext() if locked else self._lock():
                if not self._is_behind(connection):  # and nobody commits while the lock is held
                    vectors = self._save_anew(connection, dimension)
        if vectors is None and not self._is_behind(connection):
            vectors = checkpoint.in_memory(connection, dimension, device=self._device)
        return vectors

    def _is_behind(self, connection: sqlite3.Connection) -> bool:
        """Whether somebody has committed since the connection's snapshot was taken."""
        with self._catalog.read() as newest:
            return catalog_reader.version(newest) != catalog_reader.version(connection)

    def _open_saved(
        self, connection: sqlite3.Connection, dimension: int
    ) -> tuple[VectorIndex | None, Version | None]:
        return checkpoint.open_saved(self._folder, connection, dimension, device=self._device)

    def _save_anew(self, connection: sqlite3.Connection, dimension: int) -> VectorIndex | None:
        if catalog_reader.num_chunks(connection) > self._settings.exact_chunks:
            checkpoint.build(self._folder, connection, dimension, self._settings)
            vectors, self.saved_version = self._open_saved(connection, dimension)
        else:
            vectors = checkpoint.in_memory(connection, dimension, device=self._device)
            self.saved_version = checkpoint.save(self._folder, vectors, self._settings)
        return vectors
