"""Vectors that indexes share: a text is embedded once, whichever index it is in, also after that is deleted.

One SQLite file in a folder of the user's choice. It only ever saves time: whatever is wrong with it, a text
is embedded as if there were none, and a file that is damaged makes way for a new one.
"""

from __future__ import annotations

import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from indexer.embedding_batches import embed_in_batches

if TYPE_CHECKING:
    from indexer.embedding import Embedder

CACHE_NAME = "embeddings.sqlite3"
_LOCK_NAME = "embeddings.lock"
_BUSY_SECONDS = 5.0  # after which a batch goes without the cache
_KEYS_PER_BATCH = 500
_KEPT_SHARE = 0.9  # of the limit, when it was exceeded
_VERSION = 1  # of the table below; another one is as good as damaged
_UNIT_TOLERANCE = 1e-3

_SCHEMA = """
CREATE TABLE vectors (
    rowid INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,   -- sha256 of the embedder's fingerprint and the text
    vector BLOB NOT NULL,       -- float32, little endian
    crc INTEGER NOT NULL,       -- of key and vector: SQLite does not notice a bit that flipped
    used INTEGER NOT NULL       -- when it was last stored or found, counted in batches
) STRICT
"""
_T = TypeVar("_T")


class Batch(NamedTuple):
    """Vectors by key, and how many of them had to be made."""

    vectors: dict[bytes, np.ndarray]
    embedded: int


class EmbeddingCache:
    """Keeps up to about `max_bytes` of vectors, those used last. Threads and processes may share it."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def load(self, keys: Iterable[bytes], *, dimension: int) -> dict[bytes, np.ndarray]:
        """The (dimension,) float32 vectors of those keys that are known."""
        return self._attempt(lambda connection: _load(connection, list(keys), dimension), {})

    def store(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        """Keep vectors, and forget those that were not used for longest when there are too many."""
        self._attempt(lambda connection: _store(connection, vectors, self._max_bytes), None)

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _attempt(self, work: Callable[[sqlite3.Connection], _T], otherwise: _T) -> _T:
        """The result of a transaction; if that fails for whatever reason, it is as if nothing were cached."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._open()
                connection = self._connection
                connection.execute("BEGIN IMMEDIATE")
                try:
                    result = work(connection)
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
                return result
            except (sqlite3.Error, OSError) as error:
                if _is_damage(error):
                    self._discard()
                return otherwise

    def _open(self) -> sqlite3.Connection:
        from filelock import FileLock

        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # One process at a time, so that nobody meets the remains of a file that is being replaced.
        with FileLock(self._folder / _LOCK_NAME, timeout=_BUSY_SECONDS):
            try:
                return _connect(self._folder / CACHE_NAME)
            except sqlite3.Error as error:
                if not _is_damage(error):
                    raise
                _remove(self._folder / CACHE_NAME)
                return _connect(self._folder / CACHE_NAME)

    def _discard(self) -> None:
        """Take a file away that turned out to be damaged, unless somebody has done so already."""
        from filelock import FileLock

        connection, self._connection = self._connection, None
        if connection is None:
            return
        with suppress(OSError, sqlite3.Error), FileLock(self._folder / _LOCK_NAME, timeout=_BUSY_SECONDS):
            connection.close()
            try:
                probe = _connect(self._folder / CACHE_NAME)
                damaged = probe.execute("PRAGMA quick_check(1)").fetchone() != ("ok",)
                probe.close()
            except sqlite3.Error as error:
                damaged = _is_damage(error)
            if damaged:
                _remove(self._folder / CACHE_NAME)


def vectors_in_batches(
    embedder: Embedder, texts: Mapping[bytes, str], cache: EmbeddingCache | None
) -> Iterator[Batch]:
    """The vectors of keyed texts: from the cache as far as they are there, from the embedder otherwise."""
    remaining = dict(texts)
    keys = iter(texts)
    while cache is not None and (some := list(islice(keys, _KEYS_PER_BATCH))):
        found = cache.load(some, dimension=embedder.dimension)
        for key in found:
            del remaining[key]
        if found:
            yield Batch(found, 0)
    for vectors in embed_in_batches(embedder, remaining):
        if cache is not None:
            cache.store(vectors)
        yield Batch(vectors, len(vectors))


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if version != _VERSION and tables:
            raise sqlite3.DatabaseError("a cache of another version")
        if not tables:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # so that the file shrinks with the limit
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_SCHEMA)
            connection.execute("CREATE INDEX vectors_by_use ON vectors (used)")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.execute("COMMIT")
        connection.execute("PRAGMA synchronous = NORMAL")  # a loss of power costs the last batches at most
        connection.execute(f"PRAGMA journal_size_limit = {16 << 20}")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_damage(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # our own: another version
        return type(error) is sqlite3.DatabaseError
    # A table or column that is not there is an SQLITE_ERROR: the file is somebody else's.
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def _remove(path: Path) -> None:
    for suffix in ("-wal", "-shm", "-journal", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _load(connection: sqlite3.Connection, keys: list[bytes], dimension: int) -> dict[bytes, np.ndarray]:
    found: dict[bytes, np.ndarray] = {}
    for start in range(0, len(keys), _KEYS_PER_BATCH):
        some = keys[start : start + _KEYS_PER_BATCH]
        marks = ", ".join("?" * len(some))
        for key, blob, crc in connection.execute(
            f"SELECT key, vector, crc FROM vectors WHERE key IN ({marks})", some
        ):
            vector = np.frombuffer(blob, "<f4").astype(np.float32) if len(blob) == 4 * dimension else None
            if vector is not None and crc == _crc(key, blob) and _is_unit(vector):
                found[key] = vector
    now = _now(connection)
    connection.executemany("UPDATE vectors SET used = ? WHERE key = ?", ((now, key) for key in found))
    return found


def _store(connection: sqlite3.Connection, vectors: Mapping[bytes, np.ndarray], max_bytes: int) -> None:
    now = _now(connection)
    rows = ((key, vector.astype("<f4").tobytes()) for key, vector in vectors.items())
    connection.executemany(
        "INSERT OR REPLACE INTO vectors (key, vector, crc, used) VALUES (?, ?, ?, ?)",
        ((key, blob, _crc(key, blob), now) for key, blob in rows),
    )
    while (size := _bytes(connection)) > max_bytes:
        (count,) = connection.execute("SELECT count(*) FROM vectors").fetchone()
        if not count:
            break
        surplus = max(1, int(count * (1 - _KEPT_SHARE * max_bytes / size)))
        connection.execute(
            "DELETE FROM vectors WHERE rowid IN (SELECT rowid FROM vectors ORDER BY used, rowid LIMIT ?)",
            (surplus,),
        )
        connection.execute("PRAGMA incremental_vacuum").fetchall()


def _bytes(connection: sqlite3.Connection) -> int:
    """Of the pages that hold something."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _now(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT coalesce(max(used), 0) + 1 FROM vectors").fetchone()[0]


def _crc(key: bytes, blob: bytes) -> int:
    return zlib.crc32(blob, zlib.crc32(key))


def _is_unit(vector: np.ndarray) -> bool:
    return abs(float(np.linalg.norm(vector)) - 1) <= _UNIT_TOLERANCE
