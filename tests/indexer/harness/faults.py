"""Disks that are full, broken, slow to let go or not to be written to: each a typed error, and nothing lost.

Every fault takes a `World`, disturbs runs of it, and checks that the error is typed, that the index is sound
afterwards, and that the next run completes it with the answers of an undisturbed one. It returns what it did,
or why it could not.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from store_fakes import HashingEmbedder

from harness.ingest_child import TYPED_ERROR
from harness.world import World
from indexer.catalog import CATALOG_NAME, Catalog
from indexer.errors import IndexBusy, IndexNotFound
from indexer.index import Index

NUM_MOMENTS = 12  # of each fault of the disk
_TMPFS_BYTES = 192 << 10  # the catalog is made in it, and the corpus does not fit


def disk_full_at_any_write(world: World, rng: random.Random) -> str:
    """From a random write on, there is no space left."""
    return _disk_fails(world, rng, "writes", errno.ENOSPC, {"disk-full", "storage-failed"})


def disk_broken_at_any_write(world: World, rng: random.Random) -> str:
    """From a random write on, the disk reports errors."""
    return _disk_fails(world, rng, "writes", errno.EIO, {"storage-failed"})


def sync_fails(world: World, rng: random.Random) -> str:
    """From a random fsync on, SQLite's and the checkpoint's, the disk reports errors."""
    return _disk_fails(world, rng, "syncs", errno.EIO, {"storage-failed"})


def _disk_fails(world: World, rng: random.Random, where: str, error: int, codes: set[str]) -> str:
    if not world.has_faulty_disk:
        return "not tried: needs Linux and a C compiler"
    world.restore("changed")
    assert world.ingest(f"{where}:0") == 0
    num_calls = world.account().calls
    for _ in range(NUM_MOMENTS):
        world.restore("changed")
        moment = f"{where}:{rng.randint(1, num_calls)}"
        status = world.ingest(moment, disk_error=error)
        assert status in (0, TYPED_ERROR), f"{moment}: exit status {status}"
        if status:
            assert world.account().error in codes, f"{moment}: {world.account().error}"
        else:  # only tidying up, which may fail, came after the call
            assert world.answers() == world.expected["changed"], f"{moment}: it said that all was done"
        _check_and_complete(world, "changed")
    return f"{NUM_MOMENTS} moments passed"


def disk_full_for_large_files(world: World, rng: random.Random) -> str:
    """A limit on the size of a file: the catalog or its log cannot grow."""
    world.restore("empty")
    assert world.ingest(file_size_limit=96 << 10) == TYPED_ERROR
    assert world.account().error in ("disk-full", "storage-failed")
    _check_and_complete(world, "empty")
    return "passed"


def disk_full_in_truth(world: World, rng: random.Random) -> str:
    """A small file system in memory fills up; the ingest goes on when it is given more room."""
    world.restore("empty")
    with _mounted(world.index, f"size={_TMPFS_BYTES}") as mounted:
        if not mounted:
            return "not tried: needs root and a tmpfs"
        assert world.ingest() == TYPED_ERROR
        assert world.account().error == "disk-full"
        _remount(world.index, "size=64m")
        _check_and_complete(world, "empty")
    return "passed"


def read_only_folder(world: World, rng: random.Random) -> str:
    """The index lies where nothing can be written: searches go on, an ingest is refused with the reason."""
    world.restore("changed")
    before = world.answers()
    if os.geteuid():
        with _unwritable(world.index):
            _check_refused(world, before)
    else:  # permissions do not hold for root: a file system that is mounted for reading only does
        copy = world.index.with_name("copy")
        world.index.rename(copy)
        with _mounted(world.index, "size=64m") as mounted:
            if not mounted:
                copy.rename(world.index)
                return "not tried: needs a tmpfs, or another user than root"
            shutil.copytree(copy, world.index, dirs_exist_ok=True)
            shutil.rmtree(copy)
            _remount(world.index, "ro")
            _check_refused(world, before)
    world.restore("changed")
    _check_and_complete(world, "changed")
    return "passed"


def another_process_holds_the_database(world: World, rng: random.Random) -> str:
    """Somebody keeps a transaction open for longer than an ingest is willing to wait."""
    world.restore("changed")
    before = world.answers()
    holder = sqlite3.connect(world.index / CATALOG_NAME, isolation_level=None)
    with contextlib.closing(holder):
        holder.execute("BEGIN IMMEDIATE")
        catalog = Catalog.open(world.index, busy_seconds=0.05)
        with contextlib.closing(
            Index(world.index, catalog, embedder=HashingEmbedder(), device="cpu")
        ) as index:
            try:
                index.ingest([world.corpus])
                raise AssertionError("the ingest wrote into somebody else's transaction")
            except IndexBusy:
                pass
        assert world.answers() == before
        holder.execute("ROLLBACK")
    _check_and_complete(world, "changed")
    return "passed"


FAULTS: dict[str, Callable[[World, random.Random], str]] = {
    "Disk full, at random writes": disk_full_at_any_write,
    "Disk full, a small tmpfs": disk_full_in_truth,
    "Disk full, a limit on the size of a file": disk_full_for_large_files,
    "Disk broken, at random writes": disk_broken_at_any_write,
    "fsync fails, at random syncs": sync_fails,
    "Read-only folder": read_only_folder,
    "SQLite busy": another_process_holds_the_database,
}


def _check_and_complete(world: World, state: str) -> None:
    """The index is sound as it is, and the next run brings it to where an undisturbed one would be."""
    with contextlib.suppress(IndexNotFound):  # nothing could be written at all
        world.answers()
    assert world.ingest() == 0
    assert world.answers() == world.expected[state]


def _check_refused(world: World, before: object) -> None:
    assert world.answers() == before
    assert world.ingest() == TYPED_ERROR
    assert world.account().error == "index-not-writable"
    assert world.answers() == before


@contextlib.contextmanager
def _mounted(folder: Path, options: str) -> Iterator[bool]:
    """A file system in memory at the folder; False where it cannot be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], capture_output=True, check=True)
        folder.rmdir()


def _remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], capture_output=True, check=True)


@contextlib.contextmanager
def _unwritable(folder: Path) -> Iterator[None]:
    paths = [folder, *folder.iterdir()]
    modes = {path: path.stat().st_mode for path in paths}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
