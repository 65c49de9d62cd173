"""The vector index on disk: a copy of what the catalog holds, so that opening need not build it again.

`vectors-<generation>.faiss` is an ordinary FAISS file, written under another name, synced and renamed; then
`vectors.json`, the stamp that says what it holds and for which catalog, is written the same way. So a crash
leaves the old pair or the new one. A file is never written over: whoever is reading the old one keeps it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from indexer import catalog_reader
from indexer.catalog_reader import Version
from indexer.storage_errors import os_errors_translated
from indexer.vectors import VectorIndex, load_faiss

STAMP_NAME = "vectors.json"
_FORMAT = 1
# Larger files are hashed by `verify` only; reading them twice would be felt at every start.
HASHED_ON_OPEN_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a checkpoint holds."""

    format: int
    generation: int
    token: str  # of the state of the catalog: see catalog_reader.Version
    file: str
    bytes: int
    sha256: str
    count: int
    dimension: int


def save(folder: Path, vectors: VectorIndex) -> Version:
    """Write a checkpoint and drop the earlier ones. The caller holds the writer's lock."""
    with os_errors_translated(folder):
        with vectors.lock.reading():
            version = vectors.version
            name = f"vectors-{version.generation}.faiss"
            digest = hashlib.sha256()
            _replace(folder / name, lambda file: _write_index(file, vectors.index, digest.update))
            stamp = Stamp(
                format=_FORMAT,
                generation=version.generation,
                token=version.token,
                file=name,
                bytes=(folder / name).stat().st_size,
                sha256=digest.hexdigest(),
                count=len(vectors),
                dimension=vectors.dimension,
            )
        _replace(folder / STAMP_NAME, lambda file: file.write(json.dumps(asdict(stamp)).encode()))
        for path in folder.glob("vectors-*"):
            if path.name != name:
                path.unlink(missing_ok=True)
    return version


def open_vectors(
    folder: Path, connection: sqlite3.Connection, dimension: int, *, device: str = "cpu"
) -> tuple[VectorIndex, Version | None]:
    """The vectors of the connection's snapshot, and the state that a usable checkpoint held.

    It is brought up to date from the catalog. One that is missing, damaged, of another catalog or of a later
    state than the catalog's gives way to building from the catalog, which holds every vector.
    """
    stamp = read_stamp(folder)
    vectors = _from_checkpoint(folder, stamp, connection, device) if stamp else None
    if vectors is not None and vectors.dimension == dimension:
        return vectors, Version(stamp.generation, stamp.token)
    vectors = VectorIndex(dimension, device=device)
    batches = catalog_reader.numbered_vectors(connection)
    vectors.apply(np.zeros(0, np.int64), batches, version=catalog_reader.version(connection))
    return vectors, None


def catch_up(vectors: VectorIndex, connection: sqlite3.Connection) -> bool:
    """Replay what the catalog did since; False if its history does not reach back to that state."""
    if not catalog_reader.remembers(connection, vectors.version):
        return False
    since = vectors.version.generation
    gone = catalog_reader.gone_since(connection, since)
    added = catalog_reader.numbered_vectors(connection, since=since)
    vectors.apply(gone, added, version=catalog_reader.version(connection))
    return True


def is_current(folder: Path, version: Version) -> bool:
    """Whether there is a good checkpoint of this state."""
    stamp = read_stamp(folder)
    return stamp is not None and (stamp.generation, stamp.token) == version and _plausible(folder, stamp)


def read_stamp(folder: Path) -> Stamp | None:
    """The stamp, if there is one that makes sense."""
    try:
        stamp = Stamp(**json.loads((folder / STAMP_NAME).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    # The name comes from a file that anybody may have written: it must not lead out of the folder.
    return stamp if stamp.format == _FORMAT and stamp.file == f"vectors-{stamp.generation}.faiss" else None


def file_matches(folder: Path, stamp: Stamp) -> bool:
    """Whether the checkpoint is, byte for byte, what was written."""
    try:
        with (folder / stamp.file).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == stamp.sha256
    except OSError:
        return False


def _from_checkpoint(
    folder: Path, stamp: Stamp, connection: sqlite3.Connection, device: str
) -> VectorIndex | None:
    version = Version(stamp.generation, stamp.token)
    if not catalog_reader.remembers(connection, version) or not _plausible(folder, stamp):
        return None
    index = _read_index(folder / stamp.file)
    if index is None or (index.ntotal, index.d) != (stamp.count, stamp.dimension):
        return None
    vectors = VectorIndex.adopt(index, device=device)
    vectors.version = version
    if not catch_up(vectors, connection):
        return None
    numbers, ids = catalog_reader.numbered_ids(connection)
    if not np.array_equal(numbers, vectors.numbers):
        return None
    vectors.name(ids)
    return vectors


def _plausible(folder: Path, stamp: Stamp) -> bool:
    try:
        size = (folder / stamp.file).stat().st_size
    except OSError:
        return False
    return size == stamp.bytes and (size > HASHED_ON_OPEN_BYTES or file_matches(folder, stamp))


def _read_index(path: Path) -> Any | None:
    """An IndexIDMap2 of an IndexFlatIP; None for anything else."""
    faiss = load_faiss()
    try:
        with path.open("rb") as file:
            index = faiss.read_index(faiss.PyCallbackIOReader(file.read))
    except (OSError, RuntimeError, MemoryError):  # RuntimeError: FAISS's own; MemoryError: a damaged length
        return None
    if not isinstance(index, faiss.IndexIDMap2):
        return None
    flat = faiss.downcast_index(index.index)
    is_flat = isinstance(flat, faiss.IndexFlat) and flat.metric_type == faiss.METRIC_INNER_PRODUCT
    return index if is_flat else None


def _write_index(file: BinaryIO, index: Any, observe: Callable[[bytes], None]) -> None:
    """Write a FAISS index, showing every piece to an observer."""
    faiss = load_faiss()
    failure: list[OSError] = []

    def write(piece: bytes) -> int:
        observe(piece)
        try:
            return file.write(piece)
        except OSError as error:  # must not travel through FAISS, which would make a RuntimeError of it
            failure.append(error)
            return 0

    try:
        faiss.write_index(index, faiss.PyCallbackIOWriter(write))
    except RuntimeError:
        if not failure:
            raise
    if failure:
        raise failure[0]


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Puts a new file in the place of an old one, in one step that survives a loss of power."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
