"""What does a search of the vectors cost from 10 thousand to a million chunks, and how much does it find?

    python benchmarks/index_scale.py [--sizes N ...] [--vectors DIR] [--peer NAME=PYTHON ...] [--quick]
    python benchmarks/index_scale.py --draw benchmarks/results/index_scale.json

For each size: the exact search, which compares all vectors, and the approximate index that takes over beyond
`exact_chunks`, tuned to its default recall. Build and open time, resident memory, recall@10, p50 and p95 of
single queries, queries a second on two threads. The floor of the exact search is reading every vector once:
matrix bytes over the bandwidth that is measured in the same run. Each index is built and searched in
processes of its own, so that its memory is its own. Where the vectors would take more than half of the
memory, as 10 million do on most machines, there is no exact search, and 30 GB of disk are needed.

Peers (chromadb, lancedb, milvus-lite) run in their own environments on the same file of vectors, with rising
effort until they reach the recall that ours was measured to have. Only vectors are stored, no texts.

The vectors are synthetic unless --vectors names a folder of .npy files (n, dimension) of unit vectors, which
are taken in order of their names; `queries.npy` among them holds the queries, else the last rows do.
Synthetic: topics, documents in them, chunks in those, each normally distributed with variances that fall as
1 / (i + 8), somewhat as those of sentence embeddings fall; a query is a chunk with as much noise as moves it
to a cosine of about 0.75.

With several sizes, the picture of latency against size in docs/ is drawn anew; --draw RESULT.json only draws
that of a run that record.py has kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import index_measure
import numpy as np
from index_plot import latency_svg

from indexer import ivf_files
from indexer.catalog_reader import NumberedVectors, Version
from indexer.faiss_loading import load_faiss
from indexer.flat_vectors import FlatVectors
from indexer.ivf_files import BaseStamp
from indexer.row_file import write_header
from indexer.vector_settings import VectorSettings
from indexer.vectors import VectorIndex

K = 10
THREADS = 2
PICTURE = Path(__file__).parents[1] / "docs" / "index-latency.svg"
NONE = np.zeros(0, np.int64)
_BLOCK = 8192
_OURS = ("exact", "approximate")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--vectors", type=Path, metavar="DIR", help="real embeddings, as .npy files")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--quick", action="store_true", help="a tiny size, which shows that it runs")
    parser.add_argument("--draw", type=Path, metavar="RESULT.json", help="only draw what was recorded")
    arguments = parser.parse_args()
    if arguments.draw:
        recorded = json.loads(arguments.draw.read_text(encoding="utf-8"))
        PICTURE.write_text(latency_svg(recorded["figures"]), encoding="utf-8")
        return 0
    sizes = [2000] if arguments.quick else arguments.sizes
    num_queries = 20 if arguments.quick else arguments.queries
    peers = dict(peer.split("=", 1) for peer in arguments.peer)
    bandwidth = read_bandwidth(20_000 if arguments.quick else 200_000)
    print(f"measured read bandwidth {bandwidth / 1e9:.1f} GB/s, {THREADS} threads")
    figures: dict[str, Any] = {
        "threads": THREADS,
        "omp_threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "faiss": load_faiss().__version__,
        "vectors": arguments.vectors.name if arguments.vectors else "synthetic",
        "queries": num_queries,
        "read_bandwidth_bytes_per_second": round(bandwidth),
    }
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if arguments.vectors:
                count, dimension = copy_vectors(arguments.vectors, folder, size, num_queries)
            else:
                count, dimension = size, arguments.dimension
                make_vectors(folder, size, dimension, num_queries)
            write_truth(folder)
            figures["dimension"] = dimension
            print(f"\n{count:,} vectors of {dimension} dimensions")
            measure(folder, count, dimension, bandwidth, peers, figures)
    if len(sizes) > 1:
        PICTURE.write_text(latency_svg(figures), encoding="utf-8")
    print(json.dumps(figures))
    return 0


def measure(
    folder: Path, count: int, dimension: int, bandwidth: float, peers: dict[str, str], figures: dict[str, Any]
) -> None:
    """Ours both ways, then the peers at our recall."""
    size, memory = 4 * count * dimension, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if too_large := size > memory / 2:
        print(f"  exact        left out: its {size / 1e9:.1f} GB are more than half of the memory")
    ours = [name for name in _OURS if name != "exact" or not too_large]
    scripts = {name: [sys.executable, __file__, "--child"] for name in ours}
    scripts |= {
        name: [python, str(Path(__file__).with_name("index_peers.py"))] for name, python in peers.items()
    }
    wanted = 1.0
    for name, command in scripts.items():
        found = run(command, name, folder, wanted)
        prefix = f"vectors_{count}_{name.replace('-', '_')}"
        figures |= {f"{prefix}_{key}": value for key, value in found.items()}
        show(name, found)
        if name == "approximate" and "recall" in found:
            wanted = found["recall"]
    floor_ms = 4 * count * dimension / bandwidth * 1e3
    figures[f"vectors_{count}_floor_ms"] = round(floor_ms, 4)
    exact, approximate = (figures.get(f"vectors_{count}_{name}_p50_ms") for name in _OURS)
    if exact and approximate:
        print(
            f"  reading all vectors once: {floor_ms:.2f} ms, {floor_ms / exact:.0%} of the exact search's p50"
        )
        print(f"  the approximate index takes 1/{exact / approximate:.1f} of the exact search's time")
        figures[f"vectors_{count}_speedup"] = round(exact / approximate, 2)


def run(command: list[str], store: str, folder: Path, wanted: float) -> dict[str, Any]:
    """What building and searching one index came to, or the error that ended it."""
    task = {
        "store": store,
        "folder": str(folder / store),
        **{name: str(folder / f"{name}.npy") for name in ("vectors", "queries", "truth")},
        "k": K,
        "recall": wanted,
        "threads": THREADS,
    }
    (folder / store).mkdir()
    figures: dict[str, Any] = {}
    for action in ("build", "search"):
        given = json.dumps({**task, "action": action})
        done = subprocess.run(command, input=given, capture_output=True, text=True)
        if done.returncode:
            figures["error"] = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            break
        figures |= json.loads(done.stdout.splitlines()[-1])
    return figures


def show(name: str, found: dict[str, Any]) -> None:
    if "error" in found:
        print(f"  {name:12} failed: {found['error']}")
        return
    print(
        f"  {name:12} recall@{K} {found['recall']:.4f}"
        f"  p50 {found['p50_ms']:8.3f} ms  p95 {found['p95_ms']:8.3f} ms"
        f"  {found['queries_per_second']:8,.0f} queries/s"
        f"  resident {found.get('resident_bytes', 0) / 1e6:7,.0f} MB"
        f"  built in {found['build_seconds']:.1f} s, opened in {found['open_seconds'] * 1e3:.0f} ms"
    )


# --- ours, in a process of its own


class Exact:
    """All vectors in memory, all compared."""

    version = "ragserve"

    def __init__(self) -> None:
        load_faiss()  # what takes time is importing it, which is no part of opening an index

    def build(self, vectors: np.ndarray, folder: Path) -> None:
        write_matrix(folder / "all.npy", vectors.shape, blocks_of(vectors))

    def open(self, folder: Path) -> None:
        vectors = np.load(folder / "all.npy", mmap_mode="r")
        self._index = VectorIndex(vectors.shape[1])
        self._index.apply(NONE, numbered(vectors), version=Version(1, ""))

    def settings(self) -> Iterable[str]:
        return ["all"]

    def search(self, query: np.ndarray, k: int, setting: str) -> list[int]:
        ((numbers, _),) = self._index.nearest(query[None], k)
        return (numbers - 1).tolist()


class Approximate:
    """The index as a checkpoint makes it, tuned to the default recall."""

    version = "ragserve"

    def __init__(self) -> None:
        load_faiss()  # what takes time is importing it, which is no part of opening an index

    def build(self, vectors: np.ndarray, folder: Path) -> None:
        count, dimension = vectors.shape
        target = VectorSettings().recall_target
        stamp = ivf_files.build(
            folder, 1, numbered(vectors), count=count, dimension=dimension, recall_target=target
        )
        (folder / "stamp.json").write_text(json.dumps({"dimension": dimension, **asdict(stamp)}))

    def open(self, folder: Path) -> None:
        value = json.loads((folder / "stamp.json").read_text())
        dimension = value.pop("dimension")
        self._index = VectorIndex(dimension)
        self._stamp = BaseStamp.from_json(value)
        self._index.base = ivf_files.load(folder, self._stamp, dimension)
        self._index.tail = FlatVectors(dimension)

    def settings(self) -> Iterable[str]:
        point = self._stamp.plan[0]
        return [f"{point.num_probes} lists, {point.rerank_depth} compared again, promised {point.recall}"]

    def search(self, query: np.ndarray, k: int, setting: str) -> list[int]:
        ((numbers, _),) = self._index.nearest(query[None], k)
        return (numbers - 1).tolist()


def numbered(vectors: np.ndarray) -> Iterator[NumberedVectors]:
    """As they would come from a catalog, with numbers from 1."""
    start = 0
    for block in blocks_of(vectors):
        numbers = np.arange(start + 1, start + 1 + len(block))
        ids = np.array([f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}" for number in numbers.tolist()], "S32")
        yield NumberedVectors(numbers, ids, block)
        start += len(block)


# --- the vectors


def make_vectors(folder: Path, count: int, dimension: int, num_queries: int) -> None:
    """vectors.npy and queries.npy, synthetic."""
    rng = np.random.default_rng(0)
    spread = 1 / np.sqrt(np.arange(dimension) + 8)
    spread = (spread / np.linalg.norm(spread)).astype(np.float32)

    def drawn(size: int) -> np.ndarray:
        return rng.standard_normal((size, dimension), np.float32) * spread

    topics, documents = drawn(max(count // 2000, 4)), drawn(max(count // 20, 8))
    topic_of = rng.integers(0, len(topics), len(documents))
    documents = 0.6 * topics[topic_of] + 0.6 * documents

    def chunks(size: int) -> np.ndarray:
        return unit(documents[rng.integers(0, len(documents), size)] + 0.6 * drawn(size))

    sizes = [min(_BLOCK, count - start) for start in range(0, count, _BLOCK)]
    write_matrix(folder / "vectors.npy", (count, dimension), map(chunks, sizes))
    np.save(folder / "queries.npy", unit(chunks(num_queries) + 0.9 * drawn(num_queries)))


def copy_vectors(source: Path, folder: Path, count: int, num_queries: int) -> tuple[int, int]:
    """vectors.npy and queries.npy out of a folder of real ones; how many there are of which length."""
    parts = [
        np.load(path, mmap_mode="r") for path in sorted(source.glob("*.npy")) if path.name != "queries.npy"
    ]
    rows = sum(len(part) for part in parts)
    if (source / "queries.npy").exists():
        queries = np.load(source / "queries.npy")[:num_queries]
    else:
        queries = np.concatenate([np.array(part[-num_queries:]) for part in parts[-1:]])
        rows -= len(queries)
    count, dimension = min(count, rows), parts[0].shape[1]

    def blocks() -> Iterator[np.ndarray]:
        left = count
        for part in parts:
            for block in blocks_of(part[:left]):
                yield block
                left -= len(block)

    write_matrix(folder / "vectors.npy", (count, dimension), blocks())
    np.save(folder / "queries.npy", unit(queries.astype(np.float32)))
    return count, dimension


def write_truth(folder: Path) -> None:
    """truth.npy: (queries, K) positions of the nearest, by comparing all."""
    vectors, queries = np.load(folder / "vectors.npy", mmap_mode="r"), np.load(folder / "queries.npy")
    scores = np.full((len(queries), K), -np.inf, np.float32)
    positions = np.zeros((len(queries), K), np.int64)
    start = 0
    for block in blocks_of(vectors):
        both = np.concatenate([scores, queries @ block.T], axis=1)
        best = np.argpartition(both, both.shape[1] - K, axis=1)[:, -K:]
        scores = np.take_along_axis(both, best, axis=1)
        positions = np.where(
            best < K, np.take_along_axis(positions, np.minimum(best, K - 1), axis=1), best - K + start
        )
        start += len(block)
    np.save(folder / "truth.npy", positions)


def write_matrix(path: Path, shape: tuple[int, int], blocks: Iterable[np.ndarray]) -> None:
    with path.open("wb") as file:
        write_header(file, shape)
        for block in blocks:
            file.write(np.ascontiguousarray(block, "<f4").tobytes())


def blocks_of(vectors: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(vectors), _BLOCK):
        yield np.array(vectors[start : start + _BLOCK], np.float32)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def read_bandwidth(rows: int) -> float:
    """Bytes a second, the best of a few sums and matrix-vector products over more than any cache holds."""
    matrix, vector = np.ones((rows, 384), np.float32), np.ones(384, np.float32)
    return matrix.nbytes / min(
        min(index_measure.seconds(matrix.sum), index_measure.seconds(lambda: matrix @ vector))
        for _ in range(5)
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["--child"]:
        index_measure.main({"exact": Exact, "approximate": Approximate})
    else:
        raise SystemExit(main())
