"""What an ingest has left, as the tests of ingests look at it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from store_fakes import HashingEmbedder

from indexer.index import Index
from indexer.types import Chunk, IngestReport

TRUNCATED_PDF = b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog"


def texts(index: Index) -> set[str]:
    """The texts of all chunks, as a search finds them."""
    (hits,) = index.search(HashingEmbedder().embed_queries(["anything"]), 10_000)
    found = {chunk.text for chunk in index.chunks([hit.chunk_id for hit in hits])}
    assert len(hits) == index.stats().chunks
    return found


def chunks_found(index: Index, query: str) -> list[Chunk]:
    """The nearest to a query, all of a small index."""
    (hits,) = index.search(HashingEmbedder().embed_queries([query]), 100)
    return index.chunks([hit.chunk_id for hit in hits])


def age(folder: Path) -> None:
    """Makes files old enough for their times to be trusted."""
    for path in folder.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))


def giant_text(num_paragraphs: int) -> str:
    """Text of which no two chunks are alike."""
    return "\n\n".join(f"Paragraph {n}: " + f"word{n} and " * 12 for n in range(num_paragraphs))


def summary(report: IngestReport) -> dict[str, int]:
    counts = {
        name: getattr(report, name) for name in ("indexed", "unchanged", "removed", "skipped", "missing")
    }
    return {name: count for name, count in (counts | {"failed": len(report.failed)}).items() if count}


def raising(error: type[BaseException]) -> Callable[..., None]:
    """A function that does nothing else."""

    def fail(*_: object) -> None:
        raise error

    return fail
