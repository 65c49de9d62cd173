"""What is in an index, as far as the catalog says it: chunks, documents, files, counts, soundness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexer import catalog_reader, statistics
from indexer.catalog import Catalog
from indexer.near_duplicates import near_duplicates
from indexer.run_journal import RunRecord, last_runs, unfinished
from indexer.types import (
    Chunk,
    FileStatus,
    IndexChanges,
    IndexStats,
    NearDuplicatesReport,
    PartialFile,
    VerifyReport,
)

if TYPE_CHECKING:
    from indexer.embedding import Embedder


class IndexContents:
    """The questions that `Index` answers from the catalog alone, each from one state of it."""

    folder: Path
    catalog: Catalog

    def chunks(self, chunk_ids: Sequence[str]) -> list[Chunk]:
        """Chunks by id, in the order asked for; UnknownChunk if one does not exist (any more)."""
        with self.catalog.read() as connection:
            return catalog_reader.load_chunks(connection, chunk_ids)

    def vectors(self, chunk_ids: Sequence[str]) -> np.ndarray:
        """(n, dimension) float32 unit vectors of chunks by id, in the order asked for."""
        with self.catalog.read() as connection:
            return catalog_reader.load_vectors(connection, chunk_ids)

    def document_text(self, document_id: str) -> str:
        """A document's normalised text: what the chunks' offsets count in."""
        with self.catalog.read() as connection:
            return catalog_reader.document_text(connection, document_id)

    def outline(self, document_id: str) -> list[tuple[str, ...]]:
        """The heading paths of a document's chunks, in the order in which they first come; [] if it is
        gone."""
        with self.catalog.read() as connection:
            return catalog_reader.outline(connection, document_id)

    def changes_since(self, generation: int) -> IndexChanges:
        """What came and went since a generation."""
        with self.catalog.read() as connection:
            now = catalog_reader.version(connection).generation
            if not catalog_reader.remembers_generation(connection, generation):
                return IndexChanges((), (), now, complete=False)
            added = catalog_reader.added_since(connection, generation)
            removed = catalog_reader.removed_since(connection, generation)
        return IndexChanges(tuple(added), tuple(sorted({chunk_id for _, chunk_id in removed})), now)

    def files(self) -> Iterator[FileStatus]:
        """What became of each file, by uri."""
        with self.catalog.read() as connection:
            yield from catalog_reader.file_statuses(connection)

    def doctor(self) -> list[FileStatus]:
        """Every file that is not searchable as it is now, and why."""
        with self.catalog.read() as connection:
            return list(catalog_reader.file_statuses(connection, only_not_indexed=True))

    def partial_files(self) -> list[PartialFile]:
        """Every file that is searchable, but not whole, and what is missing."""
        with self.catalog.read() as connection:
            return list(catalog_reader.partial_files(connection))

    def runs(self, limit: int = 10) -> list[RunRecord]:
        """The last ingests and imports, and how each ended; the newest first."""
        with self.catalog.read() as connection:
            return last_runs(connection, limit)

    def unfinished_runs(self) -> list[RunRecord]:
        """The runs that were cut off and not made good by a later one of the same paths; the newest first."""
        with self.catalog.read() as connection:
            return unfinished(connection)

    def near_duplicates(self) -> NearDuplicatesReport:
        """Groups of files with the same or nearly the same text."""
        with self.catalog.read() as connection:
            return near_duplicates(connection)

    def stats(self) -> IndexStats:
        """Counts and sizes."""
        with self.catalog.read() as connection:
            return statistics.stats(connection, self.folder)

    def verify(self, *, embedder: Embedder | None = None, reembed: int = 0) -> VerifyReport:
        """Check that everything agrees with everything else; reads the whole index.

        With an embedder, the texts of `reembed` chunks are embedded again.
        """
        from indexer.verification import verify

        return verify(self.catalog, self.folder, embedder=embedder, reembed=reembed)
