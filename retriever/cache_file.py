"""A retrieval cache on disk, beside the index: one safetensors file, whole or not there at all.

Tensors hold the numbers, one more tensor the texts as JSON, and the header a SHA-256 of all of them. Nothing
in it is code. Whatever is wrong with a file, the cache starts empty and says so in a warning.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from indexer.types import Filters
from retriever.cache import RetrievalCache
from retriever.cache_lists import ListEntry
from retriever.cache_state import Account, CacheState, KeptList, KeptVector, check_state
from retriever.corpus import Corpus
from retriever.errors import CacheFileCorrupt
from retriever.packed_numbers import PackedNumbers

CACHE_FILE = "retrieval_cache.safetensors"
_FORMAT = "ragserve retrieval cache 2"
_SPARE_BYTES = 16 << 20  # that a file may have beyond the cache's budget, for headers and texts

_log = logging.getLogger(__name__)


def save(cache: RetrievalCache, path: Path, *, clock: Callable[[], float] = time.time) -> bool:
    """Writes the cache if it has changed since it was last written or read; whether that worked.

    A disk that is full or read-only is a warning, not an error: nothing is lost but time.
    """
    from safetensors import SafetensorError

    if not cache.has_changed:
        return False
    state = cache.state(saved_at=clock())
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        _write(state, temporary)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        cache.not_saved()
        _log.warning("The retrieval cache could not be saved to %s: %s", path, error)
        return False
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return True


def load(
    cache: RetrievalCache,
    path: Path,
    index: Corpus,
    *,
    embedder: str,
    clock: Callable[[], float] = time.time,
) -> bool:
    """Fills the cache with what a file has for an embedder and for this index; whether there was a good file.

    Lists of an earlier state of the index are brought up to date when they are next used. Those of another
    index, or of a state that the index no longer knows, are left out.
    """
    try:
        if path.stat().st_size > cache.max_bytes + _SPARE_BYTES:
            raise CacheFileCorrupt("The cache file is larger than the cache may be.", hint="It is made anew.")
        state = _read(path)
        check_state(state)
    except FileNotFoundError:
        return False
    except (OSError, CacheFileCorrupt) as error:
        _log.warning("The retrieval cache %s is not used: %s", path, error)
        return False
    elapsed_s = max(clock() - state.saved_at, 0.0)  # a wall clock that was set back makes nothing younger
    with index.view() as view:
        cache.restore(state, view, embedder=embedder, elapsed_s=elapsed_s)
    return True


# --- the format


def _write(state: CacheState, path: Path) -> None:
    from safetensors.numpy import save_file

    vectors, lists = state.vectors, state.lists
    entries = [kept.entry for kept in lists]
    packed = [entry.chunks.to_bytes() for entry in entries]
    texts = {
        "saved_at": state.saved_at,
        "vectors": [[kept.embedder, kept.text, *kept.account] for kept in vectors],
        "lists": [
            [
                kept.embedder,
                _filters_to_json(kept.filters),
                kept.generation,
                kept.token,
                kept.entry.text,
                kept.entry.is_exact,
                *kept.account,
            ]
            for kept in lists
        ],
    }
    tensors = {
        "texts": np.frombuffer(json.dumps(texts).encode("ascii"), np.uint8),
        **_ragged("vectors", [kept.vector for kept in vectors], np.float32),
        **_ragged("list_vectors", [entry.vector for entry in entries], np.float32),
        **_ragged("chunks", [np.frombuffer(data, np.uint8) for data, _ in packed], np.uint8),
        "chunk_widths": np.array([width for _, width in packed], np.int64),
        **_ragged("top_scores", [entry.top_scores for entry in entries], np.float32),
        "radii": np.array([entry.radius for entry in entries], np.float64),
    }
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))  # questions are nobody else's
    save_file(tensors, path, metadata={"format": _FORMAT, "sha256": _digest(tensors)})
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _read(path: Path) -> CacheState:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        if metadata.get("format") != _FORMAT:
            raise CacheFileCorrupt("It is no file of this format.", hint="It is made anew.")
        if metadata.get("sha256") != _digest(tensors):
            raise CacheFileCorrupt("Its checksum does not hold.", hint="It is made anew.")
        return _state(tensors)
    except (SafetensorError, ValueError, TypeError, KeyError, IndexError) as error:
        raise CacheFileCorrupt(f"It cannot be read ({error}).", hint="It is made anew.") from error


def _state(tensors: dict[str, np.ndarray]) -> CacheState:
    texts: dict[str, Any] = json.loads(tensors["texts"].tobytes())
    vectors = [
        KeptVector(embedder, text, vector, Account(*account))
        for (embedder, text, *account), vector in zip(
            texts["vectors"], _pieces(tensors, "vectors", np.float32), strict=True
        )
    ]
    numbers = zip(
        _pieces(tensors, "list_vectors", np.float32),
        _pieces(tensors, "chunks", np.uint8),
        tensors["chunk_widths"].tolist(),
        tensors["radii"].tolist(),
        _pieces(tensors, "top_scores", np.float32),
        strict=True,
    )
    lists = [_kept_list(row, *these) for row, these in zip(texts["lists"], numbers, strict=True)]
    return CacheState(tuple(vectors), tuple(lists), float(texts["saved_at"]))


def _kept_list(
    row: list[Any],
    vector: np.ndarray,
    packed: np.ndarray,
    width: int,
    radius: float,
    top_scores: np.ndarray,
) -> KeptList:
    embedder, filters, generation, token, text, is_exact, *account = row
    chunks = PackedNumbers.from_bytes(packed.tobytes(), width)
    entry = ListEntry(text, vector, chunks, radius, top_scores, bool(is_exact))
    return KeptList(embedder, _filters_from_json(filters), generation, token, entry, Account(*account))


def _ragged(name: str, arrays: Sequence[np.ndarray], dtype: type) -> dict[str, np.ndarray]:
    """Arrays of any lengths as two tensors."""
    joined = np.concatenate([np.zeros(0, dtype), *arrays]).astype(dtype, copy=False)
    return {name: joined, f"{name}_lengths": np.array([len(array) for array in arrays], np.int64)}


def _pieces(tensors: dict[str, np.ndarray], name: str, dtype: type) -> list[np.ndarray]:
    joined, lengths = tensors[name], tensors[f"{name}_lengths"]
    if joined.dtype != dtype or lengths.dtype != np.int64 or (lengths < 0).any():
        raise ValueError(f"{name} has another type than it should have")
    if lengths.sum() != len(joined):
        raise ValueError(f"{name} has another length than it should have")
    return [piece.copy() for piece in np.split(joined, np.cumsum(lengths)[:-1])] if len(lengths) else []


def _digest(tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()


def _filters_to_json(filters: Filters | None) -> dict[str, Any] | None:
    if filters is None:
        return None
    kinds, ids = filters.kinds, filters.document_ids
    return {
        "path_glob": filters.path_glob,
        "kinds": None if kinds is None else sorted(kinds),
        "document_ids": None if ids is None else sorted(ids),
    }


def _filters_from_json(value: dict[str, Any] | None) -> Filters | None:
    if value is None:
        return None
    kinds, ids = value["kinds"], value["document_ids"]
    return Filters(
        path_glob=value["path_glob"],
        kinds=None if kinds is None else frozenset(kinds),
        document_ids=None if ids is None else frozenset(ids),
    )
