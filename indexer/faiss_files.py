"""FAISS indexes as files: written through a writer that may fail, read with suspicion."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from indexer.faiss_loading import load_faiss


class Writer(Protocol):
    """What bytes are written to; raises OSError."""

    def write(self, piece: bytes) -> int:
        """Write all of it."""
        ...


def write_index(file: Writer, index: Any) -> None:
    """Write a FAISS index. Raises OSError as the file does."""
    faiss = load_faiss()
    failure: list[OSError] = []

    def write(piece: bytes) -> int:
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


def read_flat(path: Path) -> Any | None:
    """An IndexIDMap2 of an IndexFlatIP; None for anything else."""
    faiss = load_faiss()
    index = _read(path)
    if not isinstance(index, faiss.IndexIDMap2):
        return None
    flat = faiss.downcast_index(index.index)
    is_flat = isinstance(flat, faiss.IndexFlat) and flat.metric_type == faiss.METRIC_INNER_PRODUCT
    return index if is_flat else None


def read_ivf(path: Path) -> Any | None:
    """An IndexIVFPQFastScan of inner products; None for anything else."""
    faiss = load_faiss()
    index = _read(path)
    if not isinstance(index, faiss.IndexIVFPQFastScan):
        return None
    return index if index.metric_type == faiss.METRIC_INNER_PRODUCT and index.is_trained else None


def _read(path: Path) -> Any | None:
    faiss = load_faiss()
    try:
        with path.open("rb") as file:
            return faiss.read_index(faiss.PyCallbackIOReader(file.read))
    except (OSError, RuntimeError, MemoryError):  # RuntimeError: FAISS's own; MemoryError: a damaged length
        return None
