"""An approximate index on disk: the codes, the vectors, which chunks they are of. Never written over."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.lib import format as npy

from indexer import ivf_building
from indexer.catalog_reader import NumberedVectors
from indexer.faiss_files import read_ivf, write_index
from indexer.ivf_vectors import IvfVectors
from indexer.row_file import RowFile, write_header
from indexer.search_plan import PlanPoint, SearchPlan
from indexer.stored_files import HashingWriter, StoredFile, store

_CHUNK = np.dtype([("number", "<i8"), ("id", "S32")])
_NAME = re.compile(r"vectors-\d+-[0-9a-f]{8}\.(ivf|rows\.npy|chunks\.npy|removed\.npy)")
_RETRAIN_FACTOR = 2  # the lists are laid anew when the corpus has grown or shrunk so much since


@dataclass(frozen=True, slots=True)
class BaseStamp:
    """What an approximate index consists of, and how it is searched."""

    codes: StoredFile  # a FAISS file
    rows: StoredFile  # the vectors, in NumPy's format
    chunks: StoredFile  # numbers and ids in the order of the rows, in NumPy's format
    removed: StoredFile | None  # numbers of chunks that went since, in NumPy's format
    count: int  # of the rows
    live: int  # of them, those of chunks that did not go
    trained_on: int  # how many vectors there were when the lists were laid
    recall_target: float
    plan: tuple[PlanPoint, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises TypeError, ValueError or KeyError for what makes no sense."""
        files = {name: _stored(value[name]) for name in ("codes", "rows", "chunks")}
        removed = None if value["removed"] is None else _stored(value["removed"])
        plan = SearchPlan.of(PlanPoint(**point) for point in value["plan"]).points
        return cls(**{**value, **files, "removed": removed, "plan": plan})

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """All files."""
        return tuple(file for file in (self.codes, self.rows, self.chunks, self.removed) if file)


def build(
    folder: Path,
    generation: int,
    batches: Iterable[NumberedVectors],
    *,
    count: int,
    dimension: int,
    recall_target: float,
    previous: IvfVectors | None = None,
) -> BaseStamp:
    """Make an approximate index of `count` chunks that come by rising number.

    Memory is bounded: the vectors go to disk batch by batch, and are read from there. The lists and codes of
    `previous` are kept where they still suit. Raises OSError.
    """
    name = f"vectors-{generation}-{secrets.token_hex(4)}"
    chunks = np.zeros(count, _CHUNK)

    def write_rows(file: HashingWriter) -> None:
        write_header(file, (count, dimension))
        start = 0
        for batch in batches:
            stop = start + len(batch.numbers)
            chunks["number"][start:stop], chunks["id"][start:stop] = batch.numbers, batch.ids
            file.write(np.ascontiguousarray(batch.vectors, "<f4").tobytes())
            start = stop
        if start != count:
            raise ValueError(f"{start} chunks came instead of {count}")

    stored_rows = store(folder, f"{name}.rows.npy", write_rows)
    stored_chunks = store(folder, f"{name}.chunks.npy", lambda file: npy.write_array(file, chunks))
    rows = RowFile(folder / stored_rows.file)
    index, trained_on = _trained(rows, previous)
    ivf_building.encode(index, rows)
    vectors = IvfVectors(index, rows, chunks["number"].copy(), chunks["id"], ivf_building.WHOLE)
    plan = ivf_building.tune(vectors, recall_target)
    codes = store(folder, f"{name}.ivf", lambda file: write_index(file, index))
    return BaseStamp(
        codes, stored_rows, stored_chunks, None, count, count, trained_on, recall_target, plan.points
    )


def load(folder: Path, stamp: BaseStamp, dimension: int) -> IvfVectors | None:
    """Open what was built: the codes are read, the vectors only mapped. None for what cannot be used."""
    index = read_ivf(folder / stamp.codes.file)
    if index is None or (index.ntotal, index.d) != (stamp.count, dimension):
        return None
    try:
        rows = RowFile(folder / stamp.rows.file)
        chunks = np.load(folder / stamp.chunks.file, mmap_mode="r", allow_pickle=False)
        removed = _removed(folder, stamp)
    except (OSError, ValueError, EOFError):
        return None
    if rows.rows.shape != (stamp.count, dimension) or (chunks.shape, chunks.dtype) != (
        (stamp.count,),
        _CHUNK,
    ):
        return None
    numbers = np.ascontiguousarray(chunks["number"])
    if not (np.diff(numbers) > 0).all():
        return None
    vectors = IvfVectors(index, rows, numbers, np.asarray(chunks["id"]), SearchPlan(stamp.plan))
    vectors.stamp = stamp
    vectors.remove(removed)
    return vectors


def store_removed(folder: Path, generation: int, numbers: np.ndarray) -> StoredFile | None:
    """Note which chunks went; None if none did."""
    if not len(numbers):
        return None
    name = f"vectors-{generation}-{secrets.token_hex(4)}.removed.npy"
    return store(folder, name, lambda file: npy.write_array(file, numbers.astype("<i8")))


def _removed(folder: Path, stamp: BaseStamp) -> np.ndarray:
    if stamp.removed is None:
        return np.zeros(0, np.int64)
    numbers = np.load(folder / stamp.removed.file, allow_pickle=False)
    if numbers.ndim != 1 or numbers.dtype != np.dtype("<i8"):
        raise ValueError(f"{stamp.removed.file} does not hold numbers")
    return numbers


def _trained(rows: RowFile, previous: IvfVectors | None) -> tuple[Any, int]:
    """An empty index, and how many vectors its lists were laid for."""
    if previous is not None and previous.stamp is not None:
        trained_on = previous.stamp.trained_on
        if trained_on / _RETRAIN_FACTOR <= len(rows) <= trained_on * _RETRAIN_FACTOR:
            return ivf_building.emptied(previous.index), trained_on
    return ivf_building.train(rows), len(rows)


def _stored(value: Mapping[str, Any]) -> StoredFile:
    file = StoredFile(**value)
    # The name comes from a file that anybody may have written: it must not lead out of the folder.
    if not _NAME.fullmatch(file.file):
        raise ValueError(f"{file.file!r} is none of our files")
    return file
