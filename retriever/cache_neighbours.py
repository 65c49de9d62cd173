"""Which of many past queries are near a new one, without comparing it with every number of all of them.

What is found is a shortlist that may miss a query. The cache can afford that: a past query that is
overlooked proves nothing, but nothing false either.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from indexer.vectors import load_faiss

SHADOW_DIMENSION = 32  # few enough that the shadows of 10,000 queries stay in a core's cache
_CELLS_PER_ROOT = 4  # cells: so many times the square root of the number of vectors
_PROBES = 24  # cells that are searched


def shadow_basis(dimension: int) -> np.ndarray:
    """(dimension, SHADOW_DIMENSION) float32 orthonormal columns: which vectors are near shows in their
    shadows.

    Johnson and Lindenstrauss, "Extensions of Lipschitz mappings into a Hilbert space", 1984: their product is
    off by about 1 / sqrt(SHADOW_DIMENSION), where near queries and others are far further apart.
    """
    normal = np.random.default_rng(0).standard_normal((dimension, SHADOW_DIMENSION))
    return np.linalg.qr(normal)[0].astype(np.float32)


class InvertedFile:
    """Unit vectors by serial number in FAISS's inverted lists, with some of the vectors as centroids.

    Nothing is trained, so making one takes milliseconds.
    """

    def __init__(self, serials: np.ndarray, vectors: np.ndarray) -> None:
        """`serials` (n,) int64, `vectors` (n, dimension) float32, n >= 1."""
        faiss = load_faiss()
        count, dimension = vectors.shape
        num_cells = min(int(_CELLS_PER_ROOT * count**0.5) + 1, count)
        self._cells = faiss.IndexFlatIP(dimension)  # FAISS keeps only a pointer to it
        self._cells.add(np.ascontiguousarray(vectors[np.linspace(0, count - 1, num_cells).astype(np.int64)]))
        self._index: Any = faiss.IndexIVFScalarQuantizer(
            self._cells,
            dimension,
            num_cells,
            faiss.ScalarQuantizer.QT_fp16,
            faiss.METRIC_INNER_PRODUCT,
            False,  # half floats of the vectors themselves, not of what their centroid leaves over
        )
        self._index.is_trained = True  # the centroids are there, and half floats need no ranges
        self._index.nprobe = _PROBES
        self._index.set_direct_map_type(faiss.DirectMap.Hashtable)  # removing takes no pass over everything
        self._index.add_with_ids(np.ascontiguousarray(vectors), np.ascontiguousarray(serials, np.int64))
        self.count_when_made = count

    def add(self, serial: int, vector: np.ndarray) -> None:
        """Adds a (dimension,) float32 vector under a new serial number."""
        self._index.add_with_ids(np.ascontiguousarray(vector[None]), np.array([serial], np.int64))

    def remove(self, serial: int) -> None:
        """Removes the vector with a serial number."""
        faiss = load_faiss()
        self._index.remove_ids(faiss.IDSelectorArray(np.array([serial], np.int64)))

    def nearest(self, query: np.ndarray, count: int) -> np.ndarray:
        """(up to `count`,) serial numbers of vectors with high inner products, best first."""
        _, found = self._index.search(np.ascontiguousarray(query[None], np.float32), count)
        return found[0][found[0] >= 0]
