"""Named states of an index to go back to: copies of the catalog, from which everything else is made.

A snapshot is the folder `snapshots/NAME` in the index: the catalog as SQLite's backup copied it, and a
manifest. It is made under another name and renamed, so there is a whole one or none. Going back writes the
copy over the catalog in one SQLite transaction, as a new generation: searches see one state, then the other.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

from indexer import catalog_reader
from indexer.catalog import CATALOG_NAME, SNAPSHOTS_NAME, Catalog, CommitHook
from indexer.errors import InvalidSnapshotName, SnapshotDamaged, SnapshotExists, SnapshotNotFound
from indexer.storage_errors import os_errors_translated, sqlite_errors_translated
from indexer.types import SnapshotInfo
from indexer.writer_lock import runs_since

_MANIFEST_NAME = "snapshot.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TEMPORARY = re.compile(r"\.(\d+)-[0-9a-f]+\.tmp")  # the process that made it


def create(catalog: Catalog, folder: Path, name: str) -> SnapshotInfo:
    """Keep the newest committed state under a name. An ingest may go on meanwhile."""
    target = _path(folder, name)
    with os_errors_translated(folder):
        if target.exists():
            raise SnapshotExists(
                f"There is a snapshot {name} already.", hint="Choose another name, or delete it first."
            )
        with _temporary_folder(folder) as temporary:
            copy = temporary / CATALOG_NAME
            with catalog.read() as connection:
                info = _describe(connection, name)
                _copy(connection, copy)
            _sync(copy)
            info = SnapshotInfo(**{**asdict(info), "bytes": copy.stat().st_size, "sha256": _sha256(copy)})
            manifest = temporary / _MANIFEST_NAME
            manifest.write_text(json.dumps(asdict(info), indent=2), encoding="utf-8")
            _sync(manifest)
            _sync(temporary)
            try:
                temporary.rename(target)
            except OSError as error:
                if target.exists():  # made by another process since
                    raise SnapshotExists(
                        f"There is a snapshot {name} already.", hint="Choose another name."
                    ) from error
                raise
            _sync(target.parent)
    return info


def snapshots(folder: Path) -> list[SnapshotInfo]:
    """All snapshots, oldest first. One whose manifest cannot be read is listed as damaged."""
    with os_errors_translated(folder):
        names = [entry.name for entry in _entries(folder) if _NAME.fullmatch(entry.name)]
        found = [_manifest(folder, name) for name in names]
        # One that was deleted since its name was read is not damaged, but gone.
        there = [info for info in found if not info.damaged or _path(folder, info.name).is_dir()]
    return sorted(there, key=lambda info: (info.created_at, info.name))


def restore(catalog: Catalog, folder: Path, which: str, *, hooks: Sequence[CommitHook]) -> SnapshotInfo:
    """Make the catalog what it was, as a new generation. The caller holds the writer's lock.

    `which` is a name; or the number of a generation, if no snapshot has that name: then it is the last one
    that was made of it. `hooks` are what is kept in step with the chunks. Raises SnapshotDamaged before
    anything is changed if the copy is not what was written.
    """
    with os_errors_translated(folder):
        info = _of_name_or_generation(folder, which)
        name, source = info.name, _path(folder, info.name)
        if info.damaged or _sha256(source / CATALOG_NAME) != info.sha256:
            raise SnapshotDamaged(
                f"The snapshot {name} is not what was written.",
                hint="Nothing was changed. Restore another snapshot, and delete this one.",
            )
        with _temporary_folder(folder) as temporary:
            copy = temporary / CATALOG_NAME
            shutil.copyfile(source / CATALOG_NAME, copy)
            with closing(Catalog.open(temporary, create=False)) as prepared:  # also upgrades an older schema
                for hook in hooks:
                    prepared.add_hook(hook)
                with catalog.read() as live, prepared.write() as writer:
                    _continue_from(live, writer.connection)
                with prepared.read() as connection:
                    catalog.replace_with(connection)
    return info


def delete(folder: Path, name: str) -> SnapshotInfo:
    """Forget a snapshot; the index stays as it is."""
    with os_errors_translated(folder):
        info = _existing(folder, name)
        with _temporary_folder(folder) as temporary:
            _path(folder, name).rename(temporary / name)  # from here on it is gone, whatever happens
    return info


def _continue_from(live: sqlite3.Connection, saved: sqlite3.Connection) -> None:
    """Number on from the live catalog: what it has given out since the snapshot is never used again."""
    generation = 1 + max(catalog_reader.version(live).generation, catalog_reader.version(saved).generation)
    saved.execute("INSERT INTO commits VALUES (?, ?, ?)", (generation, secrets.token_hex(16), time.time()))
    for table, last in live.execute("SELECT name, seq FROM sqlite_sequence").fetchall():
        if saved.execute(
            "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (last, table)
        ).rowcount:
            continue
        if saved.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
            saved.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, last))
    if live.execute("SELECT 1 FROM sqlite_master WHERE name = 'lexical_state'").fetchone():
        (last,) = live.execute("SELECT version FROM lexical_state").fetchone()
        saved.execute("UPDATE lexical_state SET version = max(version, ?) + 1", (last,))


def _describe(connection: sqlite3.Connection, name: str) -> SnapshotInfo:
    def count(table: str) -> int:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    return SnapshotInfo(
        name=name,
        created_at=time.time(),
        generation=catalog_reader.version(connection).generation,
        files=count("files"),
        documents=count("documents"),
        chunks=count("chunks"),
    )


def _copy(connection: sqlite3.Connection, path: Path) -> None:
    with sqlite_errors_translated(path), closing(sqlite3.connect(path)) as target:
        connection.backup(target)


def _path(folder: Path, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise InvalidSnapshotName(
            f"{name!r} is no name for a snapshot.",
            hint="Use up to 64 letters, digits, dots, dashes and underscores, a letter or digit first.",
        )
    return folder / SNAPSHOTS_NAME / name


def _of_name_or_generation(folder: Path, which: str) -> SnapshotInfo:
    if which.isascii() and which.isdecimal() and not _path(folder, which).is_dir():
        of_it = [info for info in snapshots(folder) if info.generation == int(which) and not info.damaged]
        if not of_it:
            raise SnapshotNotFound(
                f"There is no snapshot of generation {which}, and none of that name.",
                hint="`ragserve snapshot list` says which there are.",
            )
        return of_it[-1]
    return _existing(folder, which)


def _existing(folder: Path, name: str) -> SnapshotInfo:
    if not _path(folder, name).is_dir():
        raise SnapshotNotFound(
            f"There is no snapshot {name}.", hint="`ragserve snapshot list` says which there are."
        )
    return _manifest(folder, name)


def _manifest(folder: Path, name: str) -> SnapshotInfo:
    try:
        info = SnapshotInfo(**json.loads((_path(folder, name) / _MANIFEST_NAME).read_bytes()))
    except (OSError, ValueError, TypeError):
        return SnapshotInfo(name, created_at=0, generation=0, files=0, documents=0, chunks=0, damaged=True)
    return SnapshotInfo(**{**asdict(info), "name": name})


@contextmanager
def _temporary_folder(folder: Path) -> Iterator[Path]:
    """A folder beside the snapshots that goes at the end unless it was renamed.

    What a killed process left behind is cleared up by the next one.
    """
    parent = folder / SNAPSHOTS_NAME
    parent.mkdir(exist_ok=True)
    for entry in _entries(folder):
        if _is_left_behind(entry):
            shutil.rmtree(entry, ignore_errors=True)
    temporary = parent / f".{os.getpid()}-{secrets.token_hex(4)}.tmp"
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_left_behind(entry: Path) -> bool:
    """Whether the process that made a temporary folder has ended."""
    match = _TEMPORARY.fullmatch(entry.name)
    if match is None:
        return False
    try:
        return not runs_since(int(match[1]), entry.stat().st_mtime)
    except FileNotFoundError:  # its process is done with it
        return False


def _entries(folder: Path) -> list[Path]:
    parent = folder / SNAPSHOTS_NAME
    return [entry for entry in parent.iterdir() if entry.is_dir()] if parent.is_dir() else []


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def _sync(path: Path) -> None:
    """Have a file, or a folder's list of names, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
