"""Counts and sizes of an index."""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

from indexer import catalog_reader, checkpoint, image_vectors
from indexer.catalog import CATALOG_NAME
from indexer.types import ApproximateIndexStats, IndexStats


def stats(connection: sqlite3.Connection, folder: Path) -> IndexStats:
    """What is in the index, as of the connection's snapshot."""
    return IndexStats(
        path=str(folder),
        generation=catalog_reader.version(connection).generation,
        files=_counts(connection, "SELECT status, count(*) FROM files GROUP BY status"),
        documents=_count(connection, "documents"),
        chunks=_count(connection, "chunks"),
        chunks_by_kind=_counts(connection, "SELECT kind, count(*) FROM chunks GROUP BY kind"),
        documents_by_format=_counts(connection, "SELECT format, count(*) FROM documents GROUP BY format"),
        embeddings=_count(connection, "embeddings"),
        dimension=catalog_reader.dimension(connection),
        embedder=catalog_reader.meta(connection, "embedder_label"),
        catalog_bytes=_bytes(folder, f"{CATALOG_NAME}*"),
        checkpoint_bytes=_bytes(folder, "vectors-*"),
        last_ingest=_last_ingest(connection),
        approximate=_approximate(folder),
        images=image_vectors.count(connection),
        image_embedder=catalog_reader.meta(connection, "image_embedder_label"),
    )


def _approximate(folder: Path) -> ApproximateIndexStats | None:
    stamp = checkpoint.read_stamp(folder)
    if stamp is None or stamp.base is None:
        return None
    base, point = stamp.base, stamp.base.plan[0]
    return ApproximateIndexStats(
        chunks=base.count,
        removed=base.count - base.live,
        recent=stamp.count,
        recall_target=base.recall_target,
        k=point.k,
        recall=point.recall,
        num_probes=point.num_probes,
        rerank_depth=point.rerank_depth,
    )


def _count(connection: sqlite3.Connection, table: str) -> int:
    return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def _counts(connection: sqlite3.Connection, query: str) -> dict[Any, int]:
    return dict(sorted(connection.execute(query).fetchall()))


def _bytes(folder: Path, pattern: str) -> int:
    total = 0
    for path in folder.glob(pattern):
        with suppress(FileNotFoundError):  # an ingest has put another in its place since it was listed
            total += path.stat().st_size
    return total


def _last_ingest(connection: sqlite3.Connection) -> dict[str, Any] | None:
    row = connection.execute(
        "SELECT started_at, finished_at, outcome, roots, report FROM runs ORDER BY rowid DESC LIMIT 1"
    ).fetchone()
    if row is None:
        return None
    started_at, finished_at, outcome, roots, report = row
    return {
        "started_at": started_at,
        "finished_at": finished_at,
        "outcome": outcome,
        "roots": json.loads(roots),
        **json.loads(report),
    }
