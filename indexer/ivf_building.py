"""Makes an approximate index over a file of vectors: where the lists lie, the codes, how far to look."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from indexer.faiss_loading import load_faiss
from indexer.ivf_vectors import IvfVectors
from indexer.recall import best_scores, recalls, synthetic_queries
from indexer.row_file import RowFile
from indexer.scoring import exact_scores
from indexer.search_plan import PlanPoint, SearchPlan

_SEED = 1234
_ROWS_PER_LIST = 64  # that are trained with; FAISS warns below 39
_MAX_TRAINING_ROWS = 131_072  # 200 MB of 384 dimensions
_MAX_LISTS = _MAX_TRAINING_ROWS // _ROWS_PER_LIST
_ITERATIONS = 10
_BITS = 4  # a sub-vector: what the look-up in registers takes

_PLANNED_K = (10, 100, 1000)
_DEPTH_FACTORS = (1.5, 2, 4, 8, 16, 32, 64)
_MAX_DEPTH = 640  # or 4 k, if that is more: what is enough for texts that differ
_DEEP_FACTORS = (256, 1024)  # for a corpus of near copies, which codes of four bits cannot tell apart
_DEEPEST = 10_240
_QUERIES = 384  # half to choose by, half to measure on
_MIN_QUERIES = 32  # of either half; for large k so many do, since each is asked for k chunks
_LOST_TO_CODES = 0.25  # of what may be missed; the rest is lost by looking through too few lists
_AIMED_AT = 0.5  # of what may be missed: real questions are harder than made-up ones may be
_DEVIATIONS = 1.28  # that the recall is chosen above that: then it is below in one of ten choices

WHOLE = SearchPlan((PlanPoint(1, _MAX_LISTS, _MAX_DEPTH, 1.0),))
"""Looks through all lists; for an index that is still to be tuned."""


def train(rows: RowFile) -> Any:
    """An empty index whose lists and codes suit the vectors. Bounded in time and memory, and repeatable."""
    faiss = load_faiss()
    dimension = rows.dimension
    num_lists = int(np.clip(2 * np.sqrt(len(rows)), 1, min(_MAX_LISTS, len(rows) // 39 or 1)))
    sub_vectors = dimension // 2 if dimension % 2 == 0 else dimension
    codes = f"PQ{sub_vectors}x{_BITS}fs"  # "fs": laid out for look-ups in registers
    index = faiss.index_factory(dimension, f"IVF{num_lists},{codes}", faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = index.pq.cp.seed = _SEED
    index.cp.niter = _ITERATIONS
    index.cp.spherical = True
    index.cp.max_points_per_centroid = _ROWS_PER_LIST
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1  # no warnings of small corpora
    rng = np.random.default_rng(_SEED)
    size = min(len(rows), max(_ROWS_PER_LIST * num_lists, 16 * 256), _MAX_TRAINING_ROWS)
    sample = rows.take(np.sort(rng.choice(len(rows), size, replace=False)))
    index.train(np.resize(sample, (max(size, 2**_BITS), dimension)))  # no fewer than there are codes
    return index


def encode(index: Any, rows: RowFile) -> None:
    """Add the rows that the index does not hold yet."""
    for start, block in rows.blocks():
        new = block[max(index.ntotal - start, 0) :]
        if len(new):
            index.add(np.ascontiguousarray(new))


def emptied(index: Any) -> Any:
    """A copy of an index with its lists and codes, without its vectors."""
    copy = load_faiss().clone_index(index)
    copy.reset()
    return copy


class _Trial(NamedTuple):
    """Queries, and how good the hits of a perfect search are."""

    queries: np.ndarray  # (q, dimension) float32
    best: np.ndarray  # (q, max k) float32

    def first(self, count: int) -> _Trial:
        return _Trial(self.queries[:count], self.best[:count])


def tune(vectors: IvfVectors, recall_target: float) -> SearchPlan:
    """How many lists and candidates it takes to find `recall_target` of the k nearest, for several k."""
    chosen_by, measured_on = _trials(vectors)
    wanted = 1 - _AIMED_AT * (1 - recall_target)
    planned = [k for k in _PLANNED_K if k <= max(len(vectors) // 10, _PLANNED_K[0])]
    points = []
    for k in planned:
        count = max(_QUERIES * _PLANNED_K[0] // (2 * k), _MIN_QUERIES)
        choosing, measuring = chosen_by.first(count), measured_on.first(count)
        depth = _depth(vectors, choosing, k, 1 - _LOST_TO_CODES * (1 - wanted))
        num_probes = _num_probes(vectors, choosing, k, depth, wanted)
        recall = float(_recalls(vectors, measuring, k, num_probes, depth).mean())
        points.append(PlanPoint(k, num_probes, depth, round(recall, 4)))
    return SearchPlan.of(points)


def _trials(vectors: IvfVectors) -> tuple[_Trial, _Trial]:
    rng = np.random.default_rng(_SEED)
    positions = np.flatnonzero(vectors.live)
    sample = np.sort(rng.choice(positions, min(_QUERIES, len(positions)), replace=False))
    queries = synthetic_queries(vectors.rows.take(sample), rng)
    deepest = max(min(_PLANNED_K[-1], len(vectors)), _PLANNED_K[0])
    best = best_scores(vectors.live_blocks(), queries, deepest)
    odd = np.arange(len(queries)) % 2 == 1
    if not odd.any():
        return _Trial(queries, best), _Trial(queries, best)
    return _Trial(queries[~odd], best[~odd]), _Trial(queries[odd], best[odd])


def _depth(vectors: IvfVectors, trial: _Trial, k: int, wanted: float) -> int:
    """The fewest candidates among which nearly all true hits are, if all lists are looked through."""
    depth = k
    for factors, limit in ((_DEPTH_FACTORS, max(_MAX_DEPTH, 4 * k)), (_DEEP_FACTORS, _DEEPEST)):
        depths = [min(int(np.ceil(factor * k)), limit, len(vectors)) for factor in factors]
        found = _scores(vectors, trial, vectors.index.nlist, depths[-1])
        for depth in depths:
            if recalls([scores[:depth] for scores in found], trial.best, k).mean() >= wanted:
                return depth
    return depth


def _num_probes(vectors: IvfVectors, trial: _Trial, k: int, depth: int, wanted: float) -> int:
    """The fewest lists that hold the true hits: doubled until it is enough, then narrowed down."""

    def enough(num_probes: int) -> bool:
        found = _recalls(vectors, trial, k, num_probes, depth)
        return found.mean() - _DEVIATIONS * found.std() / np.sqrt(len(found)) >= wanted

    high, num_lists = 1, vectors.index.nlist
    while high < num_lists and not enough(high):
        high = min(2 * high, num_lists)
    low = high // 2
    while high - low > max(low // 8, 1):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _recalls(vectors: IvfVectors, trial: _Trial, k: int, num_probes: int, depth: int) -> np.ndarray:
    return recalls(_scores(vectors, trial, num_probes, depth), trial.best, k)


def _scores(vectors: IvfVectors, trial: _Trial, num_probes: int, depth: int) -> list[np.ndarray]:
    """The similarities of each query's candidates, in the order of the codes."""
    candidates = _candidates(vectors, trial.queries, num_probes, depth)
    return [
        exact_scores(vectors.rows.take(some), q) for some, q in zip(candidates, trial.queries, strict=True)
    ]


def _candidates(vectors: IvfVectors, queries: np.ndarray, num_probes: int, depth: int) -> list[np.ndarray]:
    """What the codes propose, best first, as positions."""
    faiss = load_faiss()
    parameters = faiss.SearchParametersIVF(nprobe=num_probes)
    if vectors.num_removed:
        live = np.packbits(vectors.live, bitorder="little")
        parameters = faiss.SearchParametersIVF(nprobe=num_probes, sel=faiss.IDSelectorBitmap(live))
    _, found = vectors.index.search(queries, depth, params=parameters)
    return [row[row >= 0] for row in found]
