"""The index of a folder of documents: ingest into it, search it, ask what is in it."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from indexer import catalog_reader, checkpoint, statistics
from indexer.catalog import Catalog
from indexer.catalog_reader import Version
from indexer.errors import EmbedderMismatch, IndexerError, InvalidQuery
from indexer.identity import embedder_label
from indexer.lexical import LexicalIndex
from indexer.near_duplicates import MinHashes, near_duplicates
from indexer.scoring import best_first
from indexer.types import (
    Chunk,
    ExportReport,
    FileStatus,
    Filters,
    ImportReport,
    IndexChanges,
    IndexStats,
    IngestProgress,
    IngestReport,
    NearDuplicatesReport,
    ScoredChunkId,
    SnapshotInfo,
    VerifyReport,
)
from indexer.vectors import check_queries
from indexer.view import IndexView
from indexer.writer_lock import writer_lock

if TYPE_CHECKING:
    from indexer.embedding import Embedder
    from indexer.embedding_cache import EmbeddingCache
    from indexer.parsers import ParseOptions
    from indexer.vectors import VectorIndex
    from indexer.worker_values import ParseLimits


class Index:
    """One index folder. Threads may share it; other processes may have it open, one of them ingesting.

    What a search sees is one state of the catalog; each search first picks up what was committed since.
    """

    def __init__(
        self,
        folder: Path,
        catalog: Catalog,
        *,
        embedder: Embedder | None,
        device: str,
        embedding_cache: EmbeddingCache | None = None,
    ) -> None:
        self.folder = folder
        self.catalog = catalog
        self.lexical = LexicalIndex()
        self._embedder = embedder
        self._embedding_cache = embedding_cache
        self._device = device
        self._vectors: VectorIndex | None = None  # loaded by the first search
        self._saved_version: Version | None = None  # of the checkpoint that is on disk, if it is good
        self._refresh_lock = threading.Lock()
        self._writing_prepared = False
        self._allowed: tuple[tuple[Filters, Version], np.ndarray] | None = (
            None  # the last filters' chunk numbers
        )
        with catalog.read() as connection:
            self._version = catalog_reader.version(connection)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        embedder: Embedder | None = None,
        create: bool = True,
        read_only: bool = False,
        device: str = "auto",
        embedding_cache: EmbeddingCache | None = None,
    ) -> Index:
        """Open the index in a folder, creating it if there is none and it may be written.

        The embedder is needed to ingest (without one, the default is taken) and must be the one that the
        index was made with. `device` is where vectors are searched: a GPU needs faiss-gpu. Other
        indexes may use the same `embedding_cache`.
        """
        folder = Path(path)
        catalog = Catalog.open(folder, create=create, read_only=read_only)
        try:
            index = cls(folder, catalog, embedder=embedder, device=device, embedding_cache=embedding_cache)
            if embedder is not None:
                index.check_embedder(embedder)
        except BaseException:
            catalog.close()
            raise
        return index

    def close(self) -> None:
        """Release the files. Using the index afterwards raises IndexClosed."""
        self.catalog.close()
        if self._embedding_cache is not None:
            self._embedding_cache.close()  # whoever else uses it opens it again
        self._vectors = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- ingest

    def ingest(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        prune: bool = False,
        progress: Callable[[IngestProgress], None] | None = None,
        jobs: int | None = None,
        parse_options: ParseOptions | None = None,
        parse_limits: ParseLimits | None = None,
        retry_failed: bool = False,
    ) -> IngestReport:
        """Bring files and folders into the index; what is unchanged costs next to nothing.

        `prune` removes files under the paths that are gone. `jobs` is the number of parsing processes. Files
        that failed and have not changed since are listed again without another try, unless `retry_failed`.
        """
        from indexer.ingest import ingest
        from indexer.ingest_report import IngestSettings
        from indexer.parsers import ParseOptions
        from indexer.worker_values import ParseLimits

        paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        settings = IngestSettings(
            prune=prune,
            jobs=jobs,
            retry_failed=retry_failed,
            options=parse_options or ParseOptions(),
            limits=parse_limits or ParseLimits(),
        )
        with writer_lock(self.folder, holder=self._ingesting_process):
            self.check_embedder(self.embedder)
            self._prepare_writing()
            report = ingest(
                self.catalog,
                self.embedder,
                paths,
                settings,
                progress=progress,
                finish=self._save_vectors,
                cache=self._embedding_cache,
            )
        self.refresh()
        return report

    # --- taking it elsewhere

    def export(
        self, path: str | os.PathLike[str], *, vectors: bool = False, replace: bool = False
    ) -> ExportReport:
        """Write the present state to a file of JSON Lines; ingests go on meanwhile."""
        from indexer.exporting import export

        return export(self.catalog, Path(path), vectors=vectors, replace=replace)

    def import_export(
        self,
        path: str | os.PathLike[str],
        *,
        progress: Callable[[IngestProgress], None] | None = None,
    ) -> ImportReport:
        """Bring in what `export` wrote, all of it or nothing; vectors of another embedder are made anew.

        A file of the export takes the place of one with the same uri; what else is in the index stays.
        """
        from indexer.importing import import_export

        with writer_lock(self.folder, holder=self._ingesting_process):
            self.check_embedder(self.embedder)
            self._prepare_writing()
            report = import_export(
                self.catalog,
                self.embedder,
                Path(path),
                progress=progress,
                finish=self._save_vectors,
                cache=self._embedding_cache,
            )
        self.refresh()
        return report

    # --- going back

    def create_snapshot(self, name: str) -> SnapshotInfo:
        """Keep the present state under a name; an ingest may go on meanwhile."""
        from indexer import snapshots

        return snapshots.create(self.catalog, self.folder, name)

    def snapshots(self) -> list[SnapshotInfo]:
        """The states that were kept, oldest first."""
        from indexer import snapshots

        return snapshots.snapshots(self.folder)

    def restore_snapshot(self, name: str) -> SnapshotInfo:
        """Go back to a state that was kept. Readers see it as a new generation; snapshots stay."""
        from indexer import snapshots

        with writer_lock(self.folder, holder=self._ingesting_process):
            info = snapshots.restore(self.catalog, self.folder, name, hooks=[LexicalIndex(), MinHashes()])
            self._save_vectors()
        return info

    def delete_snapshot(self, name: str) -> SnapshotInfo:
        """Forget a state that was kept."""
        from indexer import snapshots

        return snapshots.delete(self.folder, name)

    # --- the embedder

    @property
    def embedder(self) -> Embedder:
        """The embedder given to `open`, or else the default one."""
        if self._embedder is None:
            from indexer.embedding import SentenceTransformerEmbedder

            embedder = SentenceTransformerEmbedder()
            self._embedder = embedder
        return self._embedder

    def check_embedder(self, embedder: Embedder) -> None:
        """Raise EmbedderMismatch if the index was made with another embedder."""
        with self.catalog.read() as connection:
            self._require(embedder, connection)

    def _require(self, embedder: Embedder, connection: sqlite3.Connection) -> None:
        made_with = catalog_reader.meta(connection, "embedder")
        if made_with not in (None, embedder.fingerprint):
            label = catalog_reader.meta(connection, "embedder_label")
            raise EmbedderMismatch(
                f"The index at {self.folder} was made with the embedder {label},"
                f" not {embedder_label(embedder)}.",
                hint="Open it with that embedder, or embed everything anew: ingest into a new index folder.",
            )

    # --- search

    def search(
        self, vectors: np.ndarray, k: int, *, filters: Filters | None = None
    ) -> list[list[ScoredChunkId]]:
        """The k nearest chunks of each of (q, dimension) float32 unit vectors, best first, ties by id.

        All of them are compared, so there are k results whenever k chunks pass the filters.
        """
        self.refresh()
        index = self._loaded_vectors()
        if index is None:
            queries = np.atleast_2d(vectors)
            return [[] for _ in check_queries(queries, k, queries.shape[-1])]
        return index.search(vectors, k, allowed=self.matching_numbers(filters))

    def search_text(
        self, queries: Sequence[str], k: int, *, filters: Filters | None = None
    ) -> list[list[ScoredChunkId]]:
        """The k best chunks of each query by BM25, of those that share a term; best first, ties by id."""
        if k < 1:
            raise InvalidQuery(f"k is {k}.", hint="Ask for at least one result.")
        self.refresh()
        with self.catalog.read() as connection:
            if not catalog_reader.version(connection).generation:
                return [[] for _ in queries]
            allowed = None if filters is None else catalog_reader.matching_numbers(connection, filters)
            found = self.lexical.search(connection, queries, k, allowed=allowed)
            ids = [catalog_reader.chunk_ids(connection, hits.chunks.tolist()) for hits in found]
        return [best_first(names, hits.scores, k) for names, hits in zip(ids, found, strict=True)]

    @contextmanager
    def view(self) -> Iterator[IndexView]:
        """The newest committed state, held still until the context is left: ingests go on meanwhile."""
        while True:
            self.refresh()
            vectors = self._loaded_vectors()
            with ExitStack() as held:
                if vectors is not None:
                    held.enter_context(vectors.lock.reading())
                connection = held.enter_context(self.catalog.read())
                version = catalog_reader.version(connection)
                # Somebody may have committed, or moved the vectors on, between one line and the next.
                if version == (vectors.version if vectors is not None else self._version):
                    yield IndexView(connection, version, vectors, self.lexical)
                    return

    def matching_numbers(self, filters: Filters | None) -> np.ndarray | None:
        """(n,) int64 sorted numbers of the chunks that pass the filters; None if all of them do."""
        if filters is None:
            return None
        key = (filters, self._version)
        last = self._allowed
        if last is not None and last[0] == key:
            return last[1]
        with self.catalog.read() as connection:
            key = (filters, catalog_reader.version(connection))
            numbers = catalog_reader.matching_numbers(connection, filters)
        if numbers is not None:
            self._allowed = (key, numbers)
        return numbers

    # --- what is in it

    @property
    def generation(self) -> int:
        """Of the state that searches see: rises with every commit that changes what they can return."""
        return self._version.generation

    def refreshed_version(self) -> Version:
        """The newest committed state, which searches see from now on."""
        self.refresh()
        return self._version

    def refresh(self) -> bool:
        """Pick up what was committed since, by this process or another; True if there was anything."""
        with self.catalog.read() as connection:
            if catalog_reader.version(connection) == self._version:
                return False
        with self._refresh_lock, self.catalog.read() as connection:
            version = catalog_reader.version(connection)
            if version == self._version:
                return False
            if self._embedder is not None:
                self._require(self._embedder, connection)
            vectors, self._vectors = self._vectors, None  # if anything fails, the next search loads them anew
            if not catalog_reader.remembers(connection, self._version):
                self.lexical = LexicalIndex()  # another index has taken the place of this one
            elif vectors is not None and checkpoint.catch_up(vectors, connection):
                self._vectors = vectors
            self._version = version
            return True

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

    def near_duplicates(self) -> NearDuplicatesReport:
        """Groups of files with the same or nearly the same text."""
        with self.catalog.read() as connection:
            return near_duplicates(connection)

    def stats(self) -> IndexStats:
        """Counts and sizes."""
        with self.catalog.read() as connection:
            return statistics.stats(connection, self.folder)

    def verify(self) -> VerifyReport:
        """Check that everything agrees with everything else; reads the whole index."""
        from indexer.verification import verify

        return verify(self.catalog, self.folder)

    # --- inside

    def _loaded_vectors(self) -> VectorIndex | None:
        """The vector index, loaded on first use; None while there is nothing to search."""
        index = self._vectors
        if index is not None:
            return index
        with self._refresh_lock, self.catalog.read() as connection:
            if self._vectors is None:
                dimension = catalog_reader.dimension(connection)
                if dimension is None:
                    return None
                self._vectors, self._saved_version = checkpoint.open_vectors(
                    self.folder, connection, dimension, device=self._device
                )
                self._version = self._vectors.version
                if self._saved_version is None and not self.catalog.read_only:
                    self._replace_checkpoint(self._vectors)
            return self._vectors

    def _replace_checkpoint(self, vectors: VectorIndex) -> None:
        """Put a good checkpoint in the place of an unusable one, unless something stands in the way.

        The catalog holds everything, so not having one costs time at the next start and nothing else.
        """
        with suppress(IndexerError), writer_lock(self.folder, holder=self._ingesting_process):
            self._save_checkpoint(vectors)

    def _save_vectors(self) -> None:
        """Write the checkpoint of the present state; the caller holds the writer's lock."""
        self.refresh()
        with self.catalog.read() as connection:
            if checkpoint.is_current(self.folder, catalog_reader.version(connection)):
                return
        vectors = self._loaded_vectors()
        if vectors is not None and vectors.version != self._saved_version:
            self._save_checkpoint(vectors)

    def _save_checkpoint(self, vectors: VectorIndex) -> None:
        self._saved_version = checkpoint.save(self.folder, vectors)

    def _prepare_writing(self) -> None:
        if not self._writing_prepared:
            self.catalog.add_hook(self.lexical)
            self.catalog.add_hook(MinHashes())
            self._writing_prepared = True

    def _ingesting_process(self) -> int | None:
        with self.catalog.read() as connection:
            return catalog_reader.running_process(connection)
