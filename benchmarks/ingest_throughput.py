"""How fast files become searchable, and how close that is to embedding alone.

    python benchmarks/ingest_throughput.py FOLDER... [--rounds 3] [--jobs N] [--device cpu] [--embedder NAME]

Whole ingests into empty indexes take turns with the embedder alone on the same texts, ready-made, in one
process: the difference is what an ingest adds to the embedding. The embedder alone is the ceiling; the model
is loaded and warm in both. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from indexer import Index, IngestReport, SentenceTransformerEmbedder
from indexer.chunking import embedding_text
from indexer.embedding_batches import embed_in_batches
from indexer.ingest import WINDOW_CHUNKS

TARGET = 0.95


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure ingest against the embedder alone.")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=None, help="parsing processes")
    parser.add_argument("--embedder", default=None, help="default: the embedded one")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    arguments = parser.parse_args()

    embedder = SentenceTransformerEmbedder(arguments.embedder, device=arguments.device, dtype=arguments.dtype)
    embedder.warm_up()
    reports: list[IngestReport] = []
    alone: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(arguments.rounds):
            folder = Path(scratch) / str(number)
            reports.append(ingest(folder, arguments.folders, embedder, arguments.jobs))
            texts = embedded_texts(folder)
            alone.append(embed_alone(texts, embedder))
            again = ingest(folder, arguments.folders, embedder, arguments.jobs)
            print_round(number, reports[-1], again, alone[-1], len(texts))
    figures = summary(reports, alone)
    print_summary(figures)
    machine = {"cpus": os.cpu_count(), "device": arguments.device, "dtype": embedder.dtype}
    print(json.dumps({"benchmark": "ingest_throughput", **machine, **figures}))
    return 0


def ingest(
    index: Path, folders: Sequence[Path], embedder: SentenceTransformerEmbedder, jobs: int | None
) -> IngestReport:
    with Index.open(index, embedder=embedder) as opened:
        return opened.ingest(folders, jobs=jobs)


def embedded_texts(index: Path) -> dict[bytes, str]:
    """What the ingest embedded, each text once, in the order of the corpus."""
    with Index.open(index, read_only=True) as opened, opened.catalog.read() as connection:
        rows = connection.execute(
            "SELECT key, context, text FROM chunks JOIN embeddings ON embeddings.rowid = chunks.embedding"
            " ORDER BY chunks.rowid"
        )
        return {key: embedding_text(context, text) for key, context, text in rows}


def embed_alone(texts: dict[bytes, str], embedder: SentenceTransformerEmbedder) -> float:
    """Seconds for all texts, in windows as large as an ingest's."""
    items = list(texts.items())
    started = time.perf_counter()
    for start in range(0, len(items), WINDOW_CHUNKS):
        for _ in embed_in_batches(embedder, dict(items[start : start + WINDOW_CHUNKS])):
            pass
    return time.perf_counter() - started


def summary(reports: Sequence[IngestReport], alone: Sequence[float]) -> dict[str, Any]:
    """Medians over the rounds."""
    first = reports[0]
    seconds = statistics.median(report.seconds for report in reports)
    parse = statistics.median(report.parse_seconds for report in reports)
    commit = statistics.median(report.commit_seconds for report in reports)
    # Each round's two halves saw the same state of the machine, so their ratio is steadier than either.
    ratio = statistics.median(a / report.seconds for a, report in zip(alone, reports, strict=True))
    return {
        "files": first.indexed,
        "megabytes": round(first.bytes / 1e6, 3),
        "chunks": first.chunks,
        "embedded": first.embedded,
        "seconds": round(seconds, 3),
        "megabytes_per_second": round(first.bytes / 1e6 / seconds, 4),
        "chunks_per_second": round(first.embedded / seconds, 2),
        "embedder_alone_chunks_per_second": round(first.embedded / statistics.median(alone), 2),
        "ratio_to_embedder_alone": round(ratio, 4),
        "target_ratio": TARGET,
        "parse_megabytes_per_worker_second": round(first.bytes / 1e6 / parse, 4) if parse else None,
        "commit_chunks_per_second": round(first.embedded / commit, 1) if commit else None,
        "wait_seconds": round(statistics.median(report.wait_seconds for report in reports), 3),
        "rounds": len(reports),
    }


def print_round(number: int, report: IngestReport, again: IngestReport, alone: float, num_texts: int) -> None:
    print(
        f"round {number}: ingest {report.seconds:7.2f} s (embed {report.embed_seconds:.2f},"
        f" commit {report.commit_seconds:.2f}, wait {report.wait_seconds:.2f}), embedder alone {alone:7.2f} s"
        f" for {num_texts} texts, unchanged again {again.seconds:.3f} s, failed {len(report.failed)}"
    )


def print_summary(figures: dict[str, Any]) -> None:
    rate = f"{figures['chunks_per_second']:9.1f} chunks/s {figures['megabytes_per_second']:8.3f} MB/s"
    print(f"end to end       {rate}")
    print(f"embedder alone   {figures['embedder_alone_chunks_per_second']:9.1f} chunks/s (the ceiling)")
    print(f"ratio            {figures['ratio_to_embedder_alone']:9.3f} (target {figures['target_ratio']})")


if __name__ == "__main__":
    sys.exit(main())
