"""A matrix on disk, of which a search reads the few rows that it needs."""

from __future__ import annotations

import mmap
import os
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy

# A row that is touched brings what lies around it into the process: 64 KiB (the kernel's fault-around), or
# 2 MiB where the file system keeps files in huge pages. So it is looked at how much that comes to.
_BYTES_PER_TOUCH = 64 << 10
_TOUCHED_BYTES_BETWEEN_LOOKS = 4 << 20
_MAX_RESIDENT_BYTES = 256 << 20  # then the pages are let go; the kernel keeps them as long as it likes
_ROWS_PER_BLOCK = 8192
_ROWS_TO_PROBE = 4  # whose time shows whether rows come from memory or from the disk
_SLOW_SECONDS = 20e-6  # a row: a page that is in memory takes a tenth of it, one on a fast disk three times
_ROWS_PER_ANNOUNCEMENT = 64  # read ahead: enough for a disk to have many under way, few enough to stop soon
_STATM = Path("/proc/self/statm")


class RowFile:
    """A (n, dimension) float32 matrix in NumPy's format, memory-mapped: opening it reads only the header.

    What is resident of it stays at about 256 MiB, however many searches there are. Threads may share it.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError, and ValueError for a file that holds something else or less than it says."""
        with path.open("rb") as file:
            shape, offset = _read_header(file)
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._descriptor = os.dup(file.fileno())
        if hasattr(mmap, "MADV_RANDOM"):  # or a row brings all that the kernel reads ahead, often megabytes
            self._map.madvise(mmap.MADV_RANDOM)
        weakref.finalize(self, os.close, self._descriptor)
        self._offset = offset
        size = 4 * shape[0] * shape[1]
        if len(self._map) != offset + size:
            raise ValueError(f"{path.name} has {len(self._map)} bytes instead of {offset + size}")
        self.rows = np.frombuffer(self._map, "<f4", shape[0] * shape[1], offset).reshape(shape)
        self._touched = 0
        self._resident_before = _mapped_bytes() or 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dimension(self) -> int:
        """The length of a row."""
        return self.rows.shape[1]

    def take(self, positions: np.ndarray) -> np.ndarray:
        """(m, dimension) float32: a copy of rows.

        Where the first few show that they come from the disk, it is told of all others at once: it has many
        in the time of one.
        """
        if self._are_on_disk(positions[:_ROWS_TO_PROBE]):
            for position in positions[_ROWS_TO_PROBE:].tolist():
                self._announce(position, 1)
        if len(positions) > _ROWS_PER_BLOCK:
            parts = range(0, len(positions), _ROWS_PER_BLOCK)
            return np.concatenate([self._taken(positions[i : i + _ROWS_PER_BLOCK]) for i in parts])
        return self._taken(positions)

    def _taken(self, positions: np.ndarray) -> np.ndarray:
        rows = self.rows[positions]
        self._count(len(positions) * _BYTES_PER_TOUCH)
        return rows

    def _are_on_disk(self, positions: np.ndarray) -> bool:
        began = time.perf_counter()
        self.rows[positions]
        return time.perf_counter() - began > _SLOW_SECONDS * len(positions)

    def _announce(self, position: int, count: int) -> None:
        """Has the kernel read some rows, and does not wait for them."""
        if hasattr(os, "posix_fadvise"):
            size = 4 * self.dimension
            start = self._offset + position * size
            os.posix_fadvise(self._descriptor, start, count * size, os.POSIX_FADV_WILLNEED)

    @property
    def bytes_per_read(self) -> int:
        """What the disk hands over at least for a row."""
        return max(4 * self.dimension, mmap.PAGESIZE)

    def read_ahead(self, positions: np.ndarray, *, stopped: Callable[[], bool]) -> int:
        """Brings rows from the disk into the kernel's memory, until `stopped`; how many bytes, about.

        Through the file: a page that is missing in the mapping would hold up all threads of the interpreter.
        """
        if not hasattr(os, "pread"):
            return 0
        size = 4 * self.dimension
        for start in range(0, len(positions), _ROWS_PER_ANNOUNCEMENT):
            if stopped():
                return start * self.bytes_per_read
            some = positions[start : start + _ROWS_PER_ANNOUNCEMENT].tolist()
            for position in some:
                self._announce(position, 1)
            for position in some:
                os.pread(self._descriptor, size, self._offset + position * size)
        return len(positions) * self.bytes_per_read

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """All rows, block by block, each with the position of its first row."""
        for start in range(0, len(self), _ROWS_PER_BLOCK):
            self._announce(start, min(_ROWS_PER_BLOCK, len(self) - start))
            block = self.rows[start : start + _ROWS_PER_BLOCK]
            yield start, block
            self._count(block.nbytes)

    def _count(self, num_bytes: int) -> None:
        """Notes that so many bytes were touched, about, and lets them go when that has become too much."""
        self._touched += num_bytes
        if self._touched < _TOUCHED_BYTES_BETWEEN_LOOKS:
            return
        if (now := _mapped_bytes()) is None:
            grown = self._touched
        else:
            grown, self._touched = now - self._resident_before, 0
        if grown > _MAX_RESIDENT_BYTES:
            self._let_go()

    def _let_go(self) -> None:
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
        self._touched, self._resident_before = 0, _mapped_bytes() or 0


class StoredRows(NamedTuple):
    """Rows that may be needed soon, the likeliest first."""

    file: RowFile
    positions: np.ndarray  # (n,) int64

    def read_ahead(self, *, stopped: Callable[[], bool] = lambda: False) -> int:
        """See `RowFile.read_ahead`. Needs no lock: the file never changes."""
        return self.file.read_ahead(self.positions, stopped=stopped)


def _mapped_bytes() -> int | None:
    """Bytes of files that are mapped into this process and resident; None where the system does not say."""
    try:
        fields = _STATM.read_bytes().split()
    except OSError:  # not Linux
        return None
    return int(fields[2]) * mmap.PAGESIZE


def write_header(file: BinaryIO, shape: tuple[int, int]) -> None:
    """What a file of so many rows begins with; the rows follow as they are in memory."""
    npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})


def _read_header(file: BinaryIO) -> tuple[tuple[int, int], int]:
    if npy.read_magic(file) != (1, 0):
        raise ValueError("the file is in another version of NumPy's format")
    shape, fortran_order, dtype = npy.read_array_header_1_0(file)
    if fortran_order or dtype != np.dtype("<f4") or len(shape) != 2 or min(shape) < 1:
        raise ValueError("the file holds something else than rows of float32")
    return shape, file.tell()
