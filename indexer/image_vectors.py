"""What pictures look like to a model: one vector a document that is a picture, kept in the catalog.

The table is made with the first picture that an ingest with an image embedder brings in; without one, an
index has none, and nothing here costs more than asking whether it has. A row goes with its document (by its
foreign key), is written in the transaction that stores the document, and says by its key which picture and
which model it is of. All rows are of one model, which `meta` names.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from indexer.catalog_reader import meta
from indexer.parsers.formats import IMAGE_FORMATS
from indexer.types import Thumbnail

_UNIT_TOLERANCE = 1e-3

_SCHEMA = """
CREATE TABLE IF NOT EXISTS image_embeddings (
    document INTEGER PRIMARY KEY REFERENCES documents (rowid) ON DELETE CASCADE,
    key BLOB NOT NULL,                  -- digest of the model's fingerprint and the picture
    vector BLOB NOT NULL                -- float32, little endian
) STRICT
"""
_INDEX = "CREATE INDEX IF NOT EXISTS image_embeddings_by_key ON image_embeddings (key)"

# The chunk that stands for a picture is the one with its caption.
_LOAD = """
SELECT (SELECT rowid FROM chunks WHERE chunks.document = image_embeddings.document
        ORDER BY kind <> 'image', ordinal LIMIT 1) AS chunk, vector
FROM image_embeddings ORDER BY chunk
"""


class ImageVector(NamedTuple):
    """A picture's vector and the key that it is kept under."""

    key: bytes
    vector: np.ndarray  # (dimension,) float32, of length 1


def image_key(fingerprint: str, picture: Thumbnail) -> bytes:
    """Under what a picture's vector is kept: equal pixels have one, whatever file they came in."""
    size = f"{fingerprint} {picture.width}x{picture.height} "
    return hashlib.sha256(size.encode() + picture.rgb).digest()


def image_model(connection: sqlite3.Connection) -> tuple[str, str] | None:
    """Fingerprint and label of the model that the pictures' vectors are of; None where there are none."""
    fingerprint = meta(connection, "image_embedder")
    return None if fingerprint is None else (fingerprint, meta(connection, "image_embedder_label") or "")


def make_table(connection: sqlite3.Connection) -> None:
    """Makes the table where there is none."""
    connection.execute(_SCHEMA)
    connection.execute(_INDEX)


def load(connection: sqlite3.Connection) -> tuple[np.ndarray, np.ndarray]:
    """(n,) int64 rising numbers of the chunks that stand for pictures; (n, dimension) float32 vectors."""
    if image_model(connection) is None:
        return np.zeros(0, np.int64), np.zeros((0, 0), np.float32)
    rows = [row for row in connection.execute(_LOAD) if row[0] is not None]
    numbers = np.array([number for number, _ in rows], np.int64)
    vectors = np.frombuffer(b"".join(blob for _, blob in rows), "<f4").astype(np.float32)
    return numbers, vectors.reshape(len(rows), int(meta(connection, "image_dimension") or 0))


def known(connection: sqlite3.Connection, keys: Iterable[bytes]) -> dict[bytes, np.ndarray]:
    """The vectors that are stored under these keys."""
    if image_model(connection) is None:
        return {}
    find = "SELECT vector FROM image_embeddings WHERE key = ?"
    rows = ((key, connection.execute(find, (key,)).fetchone()) for key in set(keys))
    return {key: np.frombuffer(row[0], "<f4").astype(np.float32) for key, row in rows if row is not None}


def is_missing(connection: sqlite3.Connection, document: int) -> bool:
    """Whether a document is a picture that has no vector."""
    row = connection.execute("SELECT format FROM documents WHERE rowid = ?", (document,)).fetchone()
    if row is None or row[0] not in IMAGE_FORMATS:
        return False
    find = "SELECT 1 FROM image_embeddings WHERE document = ?"
    return image_model(connection) is None or not connection.execute(find, (document,)).fetchone()


def count(connection: sqlite3.Connection) -> int:
    """How many pictures have a vector."""
    if image_model(connection) is None:
        return 0
    return connection.execute("SELECT count(*) FROM image_embeddings").fetchone()[0]


def put(connection: sqlite3.Connection, document: int, image: ImageVector) -> bool:
    """Store a document's vector; False if it is there already."""
    stored = connection.execute(
        "INSERT INTO image_embeddings (document, key, vector) VALUES (?, ?, ?)"
        " ON CONFLICT (document) DO UPDATE SET key = excluded.key, vector = excluded.vector"
        " WHERE key <> excluded.key",
        (document, image.key, image.vector.astype("<f4").tobytes()),
    )
    return stored.rowcount > 0


def forget(connection: sqlite3.Connection, document: int) -> bool:
    """Drop a document's vector, because it is another picture now, or none; False if it had none."""
    if image_model(connection) is None:
        return False
    dropped = connection.execute("DELETE FROM image_embeddings WHERE document = ?", (document,))
    return dropped.rowcount > 0


def problems(connection: sqlite3.Connection) -> Iterator[str]:
    """What is wrong with the stored vectors, a sentence each."""
    if image_model(connection) is None:
        return
    size = int(meta(connection, "image_dimension") or 0)
    for document, blob in connection.execute("SELECT document, vector FROM image_embeddings"):
        vector = np.frombuffer(blob, "<f4") if len(blob) == 4 * size else None
        if vector is None:
            yield f"The picture of document {document} has a vector of {len(blob)} bytes, not {4 * size}."
        elif not abs(float(np.linalg.norm(vector)) - 1) <= _UNIT_TOLERANCE:  # also true of NaN
            yield f"The picture of document {document} has a vector that is no unit vector."
