"""In which order a batch of queries goes through an inverted file."""

from __future__ import annotations

import numpy as np


def by_overlap(lists: np.ndarray, num_lists: int) -> np.ndarray:
    """(q,) int64: an order of queries in which neighbours look through the same lists, as far as they can.

    `lists`: (q, p) the lists of each query; -1 stands for none. The order goes from the first query on to the
    one, of those left, that has the most lists in common with the one before. FAISS gives each thread a run
    of neighbouring queries and goes through a list once for the whole run; TeleRAG (arXiv 2502.20969) makes
    its batches by the same measure. Takes q * num_lists * 4 bytes, so it is for batches, not for files of
    queries.
    """
    count = len(lists)
    among = np.zeros((count, num_lists + 1), np.float32)
    np.put_along_axis(among, lists, 1, axis=1)  # -1 is the last column
    shared = among[:, :-1] @ among[:, :-1].T  # (q, q) lists in common
    order = np.zeros(count, np.int64)
    for place in range(1, count):
        before = order[place - 1]
        shared[:, before] = -1  # taken
        order[place] = shared[before].argmax()
    return order
