"""The vector index on disk: a copy of what the catalog holds, so that opening need not build it again.

`vectors-<generation>.faiss` is an ordinary FAISS file, written under another name, synced and renamed; then
`vectors.json`, the stamp that says what it holds and for which catalog, is written the same way. So a crash
leaves the old pair or the new one. A file is never written over: whoever is reading the old one keeps it.

Where there are more chunks than are all compared, the stamp also names the files of an approximate index
(ivf_files.py), which stay as they are from checkpoint to checkpoint; the FAISS file then holds only the
chunks that came since. When those have become many, or many of the others have gone, all is made one again.

A checkpoint may be of a state a little before the catalog's: opening it follows the catalog from there. So a
few changed files do not cost writing every vector again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from indexer import catalog_reader, ivf_files, stored_files
from indexer.catalog_reader import NumberedVectors, Version
from indexer.catalog_writer import HISTORY_GENERATIONS
from indexer.errors import UnknownChunk
from indexer.faiss_files import read_flat
from indexer.faiss_files import write_index as _write_index
from indexer.flat_vectors import FlatVectors
from indexer.ivf_files import BaseStamp
from indexer.ivf_vectors import IvfVectors
from indexer.storage_errors import os_errors_translated
from indexer.stored_files import FileStamp
from indexer.vector_settings import VectorSettings
from indexer.vectors import VectorIndex

STAMP_NAME = "vectors.json"
_FORMAT = 1
# Larger files are hashed by `verify` only; reading them twice would be felt at every start.
HASHED_ON_OPEN_BYTES = 256 << 20
_MAX_REMOVED_SHARE = 0.2  # of an approximate index, before it is made anew without them
_SMALL_SHARE = 0.75  # of the chunks that may all be compared, below which they are again
# A larger file of vectors is left as it is until so large a share of its chunks came or went since: reading
# those from the catalog takes no longer than reading the file.
_REWRITTEN_UP_TO_BYTES = 1 << 20
_MAX_SHARE_BEHIND = 1 / 16
_MAX_GENERATIONS_BEHIND = HISTORY_GENERATIONS // 2  # the catalog remembers only so many
_DEFAULTS = VectorSettings()


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a checkpoint holds."""

    format: int
    generation: int
    token: str  # of the state of the catalog: see catalog_reader.Version
    file: str
    bytes: int
    sha256: str
    count: int  # of the vectors in that file
    dimension: int
    base: BaseStamp | None = None  # the approximate index beside it

    @property
    def total(self) -> int:
        """How many chunks can be found."""
        return self.count + (self.base.live if self.base else 0)


def save(folder: Path, vectors: VectorIndex, settings: VectorSettings = _DEFAULTS) -> Version:
    """Write a checkpoint and drop the earlier ones. The caller holds the writer's lock.

    From then on, `vectors` searches what was written, if that took another form.
    """
    with os_errors_translated(folder), vectors.lock.reading():
        version, base = vectors.version, vectors.base
        if _is_merge_due(vectors, settings):
            stamp = _build(
                folder,
                version,
                vectors.batches(),
                count=len(vectors),
                dimension=vectors.dimension,
                settings=settings,
                previous=base,
            )
        elif base is not None and len(vectors) <= _SMALL_SHARE * settings.exact_chunks:
            flat = FlatVectors(vectors.dimension)
            flat.add(vectors.batches())
            stamp = _write(folder, version, flat, None)
        else:
            stamp = _write(folder, version, vectors.tail, _base_stamp(folder, version, base))
        written = _other_form(folder, stamp, vectors)
    if written is not None:
        vectors.replace(written)
    return version


def build(
    folder: Path, connection: sqlite3.Connection, dimension: int, settings: VectorSettings = _DEFAULTS
) -> None:
    """Write a checkpoint of the connection's snapshot without having all its vectors in memory.

    For more chunks than are all compared. The caller holds the writer's lock.
    """
    with os_errors_translated(folder):
        _build(
            folder,
            catalog_reader.version(connection),
            catalog_reader.numbered_vectors(connection),
            count=catalog_reader.num_chunks(connection),
            dimension=dimension,
            settings=settings,
        )


def open_vectors(
    folder: Path, connection: sqlite3.Connection, dimension: int, *, device: str = "cpu"
) -> VectorIndex:
    """The vectors of the connection's snapshot, from the checkpoint or else from the catalog."""
    vectors, _ = open_saved(folder, connection, dimension, device=device)
    return in_memory(connection, dimension, device=device) if vectors is None else vectors


def open_saved(
    folder: Path, connection: sqlite3.Connection, dimension: int, *, device: str = "cpu"
) -> tuple[VectorIndex | None, Version | None]:
    """The vectors of the connection's snapshot from the checkpoint, and the state that it held.

    They are brought up to date from the catalog. None for a checkpoint that is missing, damaged, of another
    catalog or of a later state than the catalog's.
    """
    stamp = read_stamp(folder)
    while stamp is not None:
        vectors = _from_checkpoint(folder, stamp, connection, device)
        if vectors is not None and vectors.dimension == dimension:
            return vectors, Version(stamp.generation, stamp.token)
        now = read_stamp(folder)
        stamp = now if now != stamp else None  # it may have been replaced meanwhile
    return None, None


def in_memory(connection: sqlite3.Connection, dimension: int, *, device: str = "cpu") -> VectorIndex:
    """The vectors of the connection's snapshot from the catalog, which holds every one; all are compared."""
    vectors = VectorIndex(dimension, device=device)
    batches = catalog_reader.numbered_vectors(connection)
    vectors.apply(np.zeros(0, np.int64), batches, version=catalog_reader.version(connection))
    return vectors


def catch_up(vectors: VectorIndex, connection: sqlite3.Connection) -> bool:
    """Replay what the catalog did since; False if its history does not reach back to that state."""
    if not catalog_reader.remembers(connection, vectors.version):
        return False
    since = vectors.version.generation
    gone = catalog_reader.gone_since(connection, since)
    added = catalog_reader.numbered_vectors(connection, since=since)
    vectors.apply(gone, added, version=catalog_reader.version(connection))
    return True


def is_current(folder: Path, version: Version, settings: VectorSettings = _DEFAULTS) -> bool:
    """Whether there is a good checkpoint of this state, in the form that the settings ask for."""
    stamp = read_stamp(folder)
    if stamp is None or (stamp.generation, stamp.token) != version or not _plausible(folder, stamp):
        return False
    if stamp.base is None:
        return stamp.total <= settings.exact_chunks
    return (
        stamp.total > _SMALL_SHARE * settings.exact_chunks
        and stamp.base.recall_target == settings.recall_target
    )


def is_close(folder: Path, connection: sqlite3.Connection, settings: VectorSettings = _DEFAULTS) -> bool:
    """Whether there is a good checkpoint, of the snapshot or of a state so shortly before it that writing
    another one is not worth while.
    """
    stamp, now = read_stamp(folder), catalog_reader.version(connection)
    if stamp is None or (stamp.generation, stamp.token) == now:
        return is_current(folder, now, settings)
    if (
        stamp.base is not None  # then only what came since is in the file that is written
        or stamp.bytes <= _REWRITTEN_UP_TO_BYTES
        or now.generation - stamp.generation > _MAX_GENERATIONS_BEHIND
        or not catalog_reader.remembers(connection, Version(stamp.generation, stamp.token))
    ):
        return False
    changes = catalog_reader.num_changes_since(connection, stamp.generation)
    return (
        changes <= _MAX_SHARE_BEHIND * stamp.count
        and stamp.count + changes <= settings.exact_chunks
        and _plausible(folder, stamp)
    )


def read_stamp(folder: Path) -> Stamp | None:
    """The stamp, if there is one that makes sense."""
    try:
        value = json.loads((folder / STAMP_NAME).read_bytes())
        base = value.pop("base", None)
        stamp = Stamp(**value, base=None if base is None else BaseStamp.from_json(base))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    # The name comes from a file that anybody may have written: it must not lead out of the folder.
    return stamp if stamp.format == _FORMAT and stamp.file == f"vectors-{stamp.generation}.faiss" else None


def file_matches(folder: Path, stamp: FileStamp) -> bool:
    """Whether a file of the checkpoint is, byte for byte, what was written."""
    return stored_files.matches(folder, stamp)


# --- inside


def _is_merge_due(vectors: VectorIndex, settings: VectorSettings) -> bool:
    base = vectors.base
    if base is None or base.stamp is None:
        return len(vectors) > settings.exact_chunks
    if len(vectors) <= _SMALL_SHARE * settings.exact_chunks:
        return False
    return (
        len(vectors.tail) > settings.max_tail
        or base.num_removed > _MAX_REMOVED_SHARE * base.stamp.count
        or base.stamp.recall_target != settings.recall_target
    )


def _build(
    folder: Path,
    version: Version,
    batches: Iterable[NumberedVectors],
    *,
    count: int,
    dimension: int,
    settings: VectorSettings,
    previous: IvfVectors | None = None,
) -> Stamp:
    base = ivf_files.build(
        folder,
        version.generation,
        batches,
        count=count,
        dimension=dimension,
        recall_target=settings.recall_target,
        previous=previous,
    )
    return _write(folder, version, FlatVectors(dimension), base)


def _other_form(folder: Path, stamp: Stamp, vectors: VectorIndex) -> VectorIndex | None:
    """The files that were written, opened, if they are of another form than what they were written from."""
    before = vectors.base.stamp.codes if vectors.base and vectors.base.stamp else None
    after = stamp.base.codes if stamp.base else None
    written = _opened(folder, stamp, "cpu") if before != after else None
    if written is not None:
        written.tail.ids = vectors.ids_of(written.tail.numbers)
    return written


def _base_stamp(folder: Path, version: Version, base: IvfVectors | None) -> BaseStamp | None:
    """The stamp of an approximate index as it is now, without what went."""
    if base is None or base.stamp is None:
        return None
    removed = ivf_files.store_removed(folder, version.generation, base.removed_numbers())
    return replace(base.stamp, removed=removed, live=len(base))


def _write(folder: Path, version: Version, flat: FlatVectors, base: BaseStamp | None) -> Stamp:
    """Write the FAISS file, then the stamp; then drop what it does not name."""
    name = f"vectors-{version.generation}.faiss"
    stored = stored_files.store(folder, name, lambda file: _write_index(file, flat.index))
    stamp = Stamp(
        format=_FORMAT,
        generation=version.generation,
        token=version.token,
        file=stored.file,
        bytes=stored.bytes,
        sha256=stored.sha256,
        count=len(flat),
        dimension=flat.dimension,
        base=base,
    )
    content = asdict(stamp)
    if base is None:
        del content["base"]
    stored_files.replace_file(folder / STAMP_NAME, lambda file: file.write(json.dumps(content).encode()))
    named = {name} | {file.file for file in (base.files if base else ())}
    for path in folder.glob("vectors-*"):
        if path.name not in named:
            path.unlink(missing_ok=True)
    return stamp


def _from_checkpoint(
    folder: Path, stamp: Stamp, connection: sqlite3.Connection, device: str
) -> VectorIndex | None:
    version = Version(stamp.generation, stamp.token)
    if not catalog_reader.remembers(connection, version) or not _plausible(folder, stamp):
        return None
    vectors = _opened(folder, stamp, device)
    if vectors is None or not catch_up(vectors, connection):
        return None
    if vectors.base is not None:
        return vectors if _named(vectors, connection) else None
    numbers, ids = catalog_reader.numbered_ids(connection)
    if not np.array_equal(numbers, vectors.numbers):
        return None
    vectors.name(ids)
    return vectors


def _named(vectors: VectorIndex, connection: sqlite3.Connection) -> bool:
    """Whether there are as many chunks as in the catalog, and those that came last are in it.

    Comparing all numbers would read all chunks; `verify` does.
    """
    if catalog_reader.num_chunks(connection) != len(vectors):
        return False
    with suppress(UnknownChunk):
        ids = catalog_reader.chunk_ids(connection, vectors.tail.numbers.tolist())
        vectors.name(np.array(ids, "S32"))
        return True
    return False


def _opened(folder: Path, stamp: Stamp, device: str) -> VectorIndex | None:
    """What the checkpoint's files hold; the ids of the tail are still to be set."""
    index = read_flat(folder / stamp.file)
    if index is None or (index.ntotal, index.d) != (stamp.count, stamp.dimension):
        return None
    base = ivf_files.load(folder, stamp.base, stamp.dimension) if stamp.base else None
    if stamp.base and base is None:
        return None
    vectors = VectorIndex.adopt(index, base=base, device=device)
    vectors.version = Version(stamp.generation, stamp.token)
    return vectors


def _plausible(folder: Path, stamp: Stamp) -> bool:
    """Whether the files have their sizes, and those that are read at once their content."""
    base = stamp.base
    if base is not None and not stored_files.has_its_size(folder, base.rows):
        return False
    read_at_once: list[FileStamp] = [stamp]
    if base is not None:
        read_at_once += [file for file in base.files if file != base.rows]
    return all(
        stored_files.has_its_size(folder, file)
        and (file.bytes > HASHED_ON_OPEN_BYTES or file_matches(folder, file))
        for file in read_at_once
    )
