"""What can go wrong between a file and a searchable chunk."""

from __future__ import annotations


class IndexerError(Exception):
    """Base of the indexer's errors: one sentence of cause, one of remedy, and a stable code."""

    code = "indexer-error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class IndexNotFound(IndexerError):
    """There is no index at the path."""

    code = "index-not-found"


class NotAnIndex(IndexerError):
    """The folder holds something else."""

    code = "not-an-index"


class IndexCorrupt(IndexerError):
    """The catalog cannot be read as what it says it is."""

    code = "index-corrupt"


class IndexTooNew(IndexerError):
    """A later version of ragserve made the index."""

    code = "index-too-new"


class IndexClosed(IndexerError):
    """The index was used after it was closed."""

    code = "index-closed"


class IndexLocked(IndexerError):
    """Another ingest holds the index."""

    code = "index-locked"


class IndexBusy(IndexerError):
    """Another process kept the catalog locked for longer than the time-out."""

    code = "index-busy"


class IndexNotWritable(IndexerError):
    """The index, or the disk that it is on, does not take writes."""

    code = "index-not-writable"


class DiskFull(IndexerError):
    """There is no space left for the index."""

    code = "disk-full"


class StorageFailed(IndexerError):
    """The disk or the file system reported an error."""

    code = "storage-failed"


class SqliteTooOld(IndexerError):
    """Python was built with an SQLite that lacks what the catalog needs."""

    code = "sqlite-too-old"


class FaissMissing(IndexerError):
    """No FAISS is installed."""

    code = "faiss-missing"


class GpuFailed(IndexerError):
    """The vectors could not be searched on the GPU."""

    code = "gpu-failed"


class EmbedderMismatch(IndexerError):
    """The index was made with another embedder; their vectors cannot be compared."""

    code = "embedder-mismatch"


class EmbedderFailed(IndexerError):
    """The embedder returned something other than one finite unit vector a text."""

    code = "embedder-failed"


class InvalidQuery(IndexerError):
    """A search was asked for with vectors or a k that make no sense."""

    code = "invalid-query"


class UnknownChunk(IndexerError, KeyError):
    """No chunk has this id, or none has it any more."""

    code = "unknown-chunk"


class UnknownDocument(IndexerError, KeyError):
    """No document has this id, or none has it any more."""

    code = "unknown-document"


class ExportExists(IndexerError):
    """The file that an export would write is there already."""

    code = "export-exists"


class InvalidExport(IndexerError):
    """A line of a file to import is not what an export writes."""

    code = "invalid-export"


class UnknownExportFormat(IndexerError):
    """There is no such form of an export."""

    code = "unknown-export-format"


class ParquetMissing(IndexerError):
    """Parquet files need a library that is not installed."""

    code = "parquet-missing"


class InvalidSnapshotName(IndexerError):
    """A snapshot cannot be called that."""

    code = "invalid-snapshot-name"


class SnapshotExists(IndexerError):
    """There is a snapshot of that name already."""

    code = "snapshot-exists"


class SnapshotNotFound(IndexerError):
    """There is no snapshot of that name."""

    code = "snapshot-not-found"


class SnapshotDamaged(IndexerError):
    """A snapshot's files are not what was written."""

    code = "snapshot-damaged"
