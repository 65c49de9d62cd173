"""A copy of the vectors on a GPU, for unfiltered searches: there, all of them are compared at any size.

The CPU's index stays the one that is written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from indexer.errors import FaissMissing, GpuFailed, InvalidQuery
from indexer.faiss_loading import load_faiss

_SCRATCH_BYTES = 256 << 20  # FAISS's default is 1.5 GiB, which the models on the same GPU could use
_MAX_HITS = 2048  # FAISS's limit on the GPU
# cuBLAS may round the inputs to TF32 (10 bits of mantissa), on both sides of the comparison of two scores.
_TF32_TOLERANCE = 4 * 2.0**-11


class GpuCopy:
    """Searches a flat FAISS index on one GPU; copied again after every change."""

    tolerance = _TF32_TOLERANCE
    max_hits = _MAX_HITS

    def __init__(self, ordinal: int, *, required: bool = True) -> None:
        self.required = required  # False: whoever holds it may search on the CPU instead
        self._ordinal = ordinal
        self._resources = load_faiss().StandardGpuResources()
        self._resources.setTempMemory(_SCRATCH_BYTES)
        self._copy: Any = None
        self._lock = threading.Lock()  # FAISS's GPU resources serve one thread at a time

    @classmethod
    def on(cls, device: str) -> GpuCopy | None:
        """For "cuda" or "cuda:1" a copy there, or why not; for "auto" one where FAISS sees a GPU."""
        faiss = load_faiss()
        num_gpus = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
        if device == "auto":
            return cls(0, required=False) if num_gpus else None
        name, _, ordinal = device.partition(":")
        if name != "cuda" or not (ordinal or "0").isdecimal():
            raise InvalidQuery(f"{device!r} is no device.", hint="Use cpu, auto, cuda or cuda:0.")
        if not num_gpus:
            raise FaissMissing(
                "The installed FAISS sees no GPU.",
                hint='Replace faiss-cpu by `pip install "ragserve[gpu]"`, or use device="cpu".',
            )
        if int(ordinal or 0) >= num_gpus:
            raise InvalidQuery(f"There is no {device}; FAISS sees {num_gpus}.", hint="Use a lower number.")
        return cls(int(ordinal or 0))

    def takes(self, k: int) -> bool:
        """Whether so many hits can be fetched at once."""
        return k <= self.max_hits

    def invalidate(self) -> None:
        """The vectors have changed: copy them again before the next search."""
        with self._lock:
            self._copy = None

    def search(
        self,
        flat: Any,
        queries: np.ndarray,
        k: int,
        *,
        more: Callable[[], Iterator[np.ndarray]] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores and positions, (q, k) each, in the flat index that this is the copy of.

        `more` gives blocks of vectors whose positions follow those in the flat index.
        """
        try:
            with self._lock:
                if self._copy is None:
                    copy = load_faiss().index_cpu_to_gpu(self._resources, self._ordinal, flat)
                    for block in more() if more else ():
                        copy.add(np.ascontiguousarray(block))
                    self._copy = copy
                return self._copy.search(queries, k)
        except RuntimeError as error:  # FAISS's own, mostly for want of memory
            raise GpuFailed(
                f"The vectors cannot be searched on GPU {self._ordinal} ({str(error).splitlines()[0]}).",
                hint='Use device="cpu", or free some of its memory.',
            ) from error
