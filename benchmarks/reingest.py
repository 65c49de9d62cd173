"""What a second ingest costs, and how the cost of a first one grows from a hundred to 100 thousand files.

    python benchmarks/reingest.py [--files 10000] [--sizes 100 ... 100000] [--hashing-embedder] [--quick]

Again: short synthetic text files are ingested, then once more unchanged, then with one in a hundred
rewritten. The floor of looking again is listing the folder and asking the system for each file's size and
time.

Growth: each size in a fresh index and a process of its own, with the model loaded and warm before the clock
starts. Files a second, of the whole run and of what each size adds to the one before (which leaves out what
is paid once, such as starting the parsing processes); the ceiling is embedding the same texts alone. Memory
is the most that the process and all that it started held, and what an ingest added to what was held before.

With `--hashing-embedder` vectors are digests of the texts: what is left is finding, parsing, chunking and
storing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from ingest_measure import PeakMemory, resident_bytes
from synthetic_index import sentences

from indexer import Embedder, Index, IngestReport, SentenceTransformerEmbedder
from indexer.embedding import default_embedder_folder
from indexer.embedding_batches import embed_in_batches

AGAIN_TARGET = 50.0  # times as fast as the first ingest
CHANGED_TARGET = 0.02  # of the first ingest's time
CHANGED_SHARE = 0.01
FLAT_WITHIN = 0.10
_FILES_PER_FOLDER = 1000
_AGE_SECONDS = 3600  # of the files: younger ones than two seconds would be read again to make sure
_MAX_EMBEDDED_ALONE = 5000
Figures = dict[str, Any]


def main() -> int:
    arguments = parse_arguments()
    if arguments.child:
        return child(arguments.child, hashing=arguments.hashing_embedder)
    number, rounds, sizes = arguments.files, arguments.rounds, arguments.sizes
    if arguments.quick:
        number, rounds, sizes = 200, 1, [20, 60]
    embedder = make_embedder(arguments.hashing_embedder)
    figures: Figures = {
        "embedder": "hashing" if arguments.hashing_embedder else "all-MiniLM-L6-v2",
        "cores": os.cpu_count(),
        "omp_threads": os.environ.get("OMP_NUM_THREADS", "all"),
    }
    print(f"embedder: {figures['embedder']}")
    if number:
        figures |= measure_again(number, rounds, embedder)
    if sizes:
        figures |= measure_growth(sorted(sizes), hashing=arguments.hashing_embedder)
    print(json.dumps(figures))
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="ingested again; 0: leave that out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="*",
        default=[100, 1000, 10_000, 100_000],
        help="for the growth; none: leave that out",
    )
    parser.add_argument("--hashing-embedder", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a tiny size, which shows that it runs")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


# --- again


def measure_again(number: int, rounds: int, embedder: Embedder) -> Figures:
    """First, unchanged and one in a hundred changed, in fresh indexes."""
    num_changed = max(1, round(CHANGED_SHARE * number))
    print(f"\n{number:,} files, then unchanged, then {num_changed:,} of them changed")
    first, again, changed, floors = [], [], [], []
    with tempfile.TemporaryDirectory() as name:
        corpus = Path(name, "files")
        paths = write_files(corpus, number)
        for turn in range(rounds):
            with Index.open(Path(name, str(turn)), embedder=embedder) as index:
                first.append(ingested(index, corpus, indexed=number))
                again.append(ingested(index, corpus, indexed=0))
                floors.append(seconds(lambda: look_at(corpus)))
                for path in random.Random(turn).sample(paths, num_changed):
                    write_file(path, f"Changed in turn {turn}. {path.read_text(encoding='utf-8')}")
                changed.append(ingested(index, corpus, indexed=num_changed))
            print(f"  round {turn}: {first[-1]:.2f} s, {again[-1]:.3f} s, {changed[-1]:.3f} s")
    full, floor = statistics.median(first), statistics.median(floors)
    speedup = statistics.median(a / b for a, b in zip(first, again, strict=True))
    share = statistics.median(a / b for a, b in zip(changed, first, strict=True))
    print(f"  first      {full:9.3f} s  {number / full:9,.0f} files/s")
    unchanged = statistics.median(again)
    print(f"  unchanged  {unchanged:9.3f} s  {speedup:8.1f} times as fast (target {AGAIN_TARGET:g})")
    print(f"  1% changed {statistics.median(changed):9.3f} s  {share:8.2%} of the first (target 2% at most)")
    print(f"  floor: listing and looking at the files {floor:.3f} s, {floor / unchanged:.0%} of unchanged")
    return {
        "again_files": number,
        "again_rounds": rounds,
        "first_seconds": round(full, 3),
        "unchanged_seconds": round(unchanged, 4),
        "unchanged_speedup": round(speedup, 2),
        "unchanged_speedup_target": AGAIN_TARGET,
        "unchanged_floor_seconds": round(floor, 4),
        "changed_files": num_changed,
        "changed_seconds": round(statistics.median(changed), 4),
        "changed_share": round(share, 5),
        "changed_share_target": CHANGED_TARGET,
    }


def ingested(index: Index, corpus: Path, *, indexed: int) -> float:
    """Seconds of one ingest, which has to bring in so many files."""
    started = time.perf_counter()
    report = index.ingest(corpus)
    taken = time.perf_counter() - started
    if (report.indexed, len(report.failed)) != (indexed, 0):
        raise SystemExit(f"{report.indexed} files were indexed, {len(report.failed)} failed; not {indexed}.")
    return taken


def look_at(folder: Path) -> int:
    """Stat every file below a folder; how many there are."""
    count = 0
    for entry in os.scandir(folder):
        count += look_at(Path(entry.path)) if entry.is_dir() else bool(os.stat(entry.path).st_size)
    return count


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


# --- growth


def measure_growth(sizes: Sequence[int], *, hashing: bool) -> Figures:
    """First ingests of several sizes."""
    print("\nfirst ingests, each in a process of its own")
    figures: Figures = {}
    taken: dict[int, Figures] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            write_files(Path(name, "files"), size)
            taken[size] = grown = run_child(Path(name), hashing=hashing)
        print(
            f"  {size:8,} files {grown['seconds']:9.2f} s  {size / grown['seconds']:8.1f} files/s"
            f"  {grown['embedder_alone_files_per_second']:8.1f} embedded alone"
            f"  peak {grown['peak_bytes'] / 1e6:6,.0f} MB, {grown['added_bytes'] / 1e6:6,.0f} MB added"
        )
        figures |= {f"growth_{size}_{key}": value for key, value in grown.items()}
        figures[f"growth_{size}_files_per_second"] = round(size / grown["seconds"], 2)
    figures |= spread("files a second", {size: size / grown["seconds"] for size, grown in taken.items()})
    marginal = {}
    for less, more in pairwise(sizes):
        gained = taken[more]["seconds"] - taken[less]["seconds"]
        if gained > 0:
            marginal[more] = (more - less) / gained
            print(f"  from {less:,} to {more:,} files: {marginal[more]:.1f} files/s")
            figures[f"growth_{more}_added_files_per_second"] = round(marginal[more], 2)
    figures |= spread("added files a second", marginal)
    return figures | spread("peak memory", {size: grown["peak_bytes"] for size, grown in taken.items()})


def spread(what: str, values: dict[int, float]) -> Figures:
    """How far the values lie from their median, and whether that is flat."""
    if len(values) < 2:
        return {}
    middle = statistics.median(values.values())
    most = max(abs(value / middle - 1) for value in values.values())
    verdict = "flat" if most <= FLAT_WITHIN else "not flat"
    print(f"  {what}: within {most:.0%} of the median, {verdict} (target {FLAT_WITHIN:.0%})")
    return {f"growth_{what.replace(' ', '_')}_spread": round(most, 4)}


def run_child(folder: Path, *, hashing: bool) -> Figures:
    command = [sys.executable, __file__, "--child", str(folder)]
    command += ["--hashing-embedder"] if hashing else []
    found: Figures = {}
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
        PeakMemory(process.pid) as memory,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            found |= json.loads(line)
            found.setdefault("peak_bytes", memory.bytes)  # the first line ends the ingest
    if process.returncode:
        raise SystemExit(f"An ingest ended with exit code {process.returncode}.")
    found["added_bytes"] = found["peak_bytes"] - found.pop("bytes_before")
    return found


def child(folder: Path, *, hashing: bool) -> int:
    """Ingest the files of a folder, then embed (some of) their texts alone."""
    embedder = make_embedder(hashing)
    before = resident_bytes(os.getpid())
    with Index.open(folder / "index", embedder=embedder) as index:
        report: IngestReport = index.ingest(folder / "files")
        figures = {
            "seconds": round(report.seconds, 3),
            "chunks": report.chunks,
            "embed_seconds": round(report.embed_seconds, 3),
            "commit_seconds": round(report.commit_seconds, 3),
            "wait_seconds": round(report.wait_seconds, 3),
            "bytes_before": before,
        }
        print(json.dumps(figures), flush=True)
        with index.catalog.read() as connection:
            rows = connection.execute("SELECT text FROM chunks LIMIT ?", (_MAX_EMBEDDED_ALONE,))
            texts = {str(number).encode(): text for number, (text,) in enumerate(rows)}
    alone = seconds(lambda: list(embed_in_batches(embedder, texts)))
    rate = len(texts) / alone * report.indexed / report.chunks
    print(json.dumps({"embedder_alone_files_per_second": round(rate, 1)}))
    return 0


# --- what is ingested, and with what


class HashingEmbedder:
    """Digests in place of meanings: as wide as MiniLM's vectors, and next to free."""

    fingerprint = "hashing-384"
    dimension = 384
    max_tokens = 256

    def __init__(self) -> None:
        self.tokenizer_path = default_embedder_folder() / "tokenizer.json"

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        digests = b"".join(hashlib.shake_256(text.encode()).digest(self.dimension) for text in texts)
        vectors = np.frombuffer(digests, np.uint8).reshape(-1, self.dimension).astype(np.float32) - 127.5
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self.embed_documents(texts)


def make_embedder(hashing: bool) -> Embedder:
    """Loaded and warm."""
    if hashing:
        return HashingEmbedder()
    embedder = SentenceTransformerEmbedder()
    embedder.warm_up()
    embedder.embed_documents(["warm up"])
    return embedder


def write_files(folder: Path, number: int) -> list[Path]:
    """Text files of two sentences and a number, no two alike, a thousand a folder; an hour old."""
    base, rng = sentences(), random.Random(0)
    paths = []
    for start in range(0, number, _FILES_PER_FOLDER):
        part = folder / f"{start // _FILES_PER_FOLDER:04d}"
        part.mkdir(parents=True)
        for note in range(start, min(number, start + _FILES_PER_FOLDER)):
            path = part / f"note-{note:06d}.txt"
            write_file(path, f"Note {note}. {rng.choice(base)} {rng.choice(base)}\n")
            paths.append(path)
    return paths


def write_file(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    stamp = time.time() - _AGE_SECONDS
    os.utime(path, (stamp, stamp))


if __name__ == "__main__":
    raise SystemExit(main())
