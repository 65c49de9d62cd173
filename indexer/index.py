"""The index of a folder of documents: ingest into it, search it, ask what is in it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from indexer import catalog_reader
from indexer.catalog import Catalog
from indexer.catalog_reader import Version
from indexer.errors import EmbedderMismatch, InvalidQuery
from indexer.identity import embedder_label
from indexer.image_ingest import PictureEmbedder, image_embedder_label
from indexer.image_vectors import image_model
from indexer.index_contents import IndexContents
from indexer.lexical import LexicalIndex
from indexer.near_duplicates import MinHashes
from indexer.scoring import best_first
from indexer.search_state import SearchState
from indexer.types import (
    ExportReport,
    Filters,
    ImportReport,
    IngestProgress,
    IngestReport,
    ScoredChunkId,
    SnapshotInfo,
)
from indexer.vector_settings import VectorSettings
from indexer.vectors import check_queries
from indexer.view import IndexView
from indexer.writer_lock import writer_lock

if TYPE_CHECKING:
    from indexer.embedding import Embedder
    from indexer.embedding_cache import EmbeddingCache
    from indexer.parsers import ParseOptions
    from indexer.worker_values import ParseLimits


class Index(IndexContents):
    """One index folder. Threads may share it; other processes may have it open, one of them ingesting.

    What a search sees is one state of the catalog; each search first picks up what was committed since.
    """

    def __init__(
        self,
        folder: Path,
        catalog: Catalog,
        *,
        embedder: Embedder | None,
        image_embedder: PictureEmbedder | None = None,
        device: str,
        embedding_cache: EmbeddingCache | None = None,
        vectors: VectorSettings | None = None,
    ) -> None:
        self.folder = folder
        self.catalog = catalog
        self._embedder = embedder
        self._image_embedder = image_embedder
        self._embedding_cache = embedding_cache
        self._writing_prepared = False
        self._state = SearchState(
            folder,
            catalog,
            device=device,
            settings=vectors or VectorSettings(),
            check=self._check_state,
            lock=self._writer_lock,
        )

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        embedder: Embedder | None = None,
        image_embedder: PictureEmbedder | None = None,
        create: bool = True,
        read_only: bool = False,
        device: str = "auto",
        embedding_cache: EmbeddingCache | None = None,
        vectors: VectorSettings | None = None,
    ) -> Index:
        """Open the index in a folder, creating it if there is none and it may be written.

        The embedder is needed to ingest (without one, the default is taken) and must be the one that the
        index was made with. With an image embedder, pictures are embedded too, and those without text are
        documents; once there are any, ingests need it. `device` is where vectors are searched: a GPU needs
        faiss-gpu. Other indexes may use the same `embedding_cache`. `vectors` says up to how many chunks all
        are compared.
        """
        folder = Path(path)
        catalog = Catalog.open(folder, create=create, read_only=read_only)
        try:
            index = cls(
                folder,
                catalog,
                embedder=embedder,
                image_embedder=image_embedder,
                device=device,
                embedding_cache=embedding_cache,
                vectors=vectors,
            )
            with catalog.read() as connection:
                index._check_state(connection)
        except BaseException:
            catalog.close()
            raise
        return index

    def close(self) -> None:
        """Release the files. Using the index afterwards raises IndexClosed."""
        self.catalog.close()
        if self._embedding_cache is not None:
            self._embedding_cache.close()  # whoever else uses it opens it again
        self._state.close()

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
        options = replace(parse_options or ParseOptions(), thumbnails=self._image_embedder is not None)
        settings = IngestSettings(
            prune=prune,
            jobs=jobs,
            retry_failed=retry_failed,
            options=options,
            limits=parse_limits or ParseLimits(),
        )
        with self._writer_lock():
            self.check_embedder(self.embedder)
            self._check_pictures_go_on()
            self._prepare_writing()
            report = ingest(
                self.catalog,
                self.embedder,
                paths,
                settings,
                progress=progress,
                finish=self._save_vectors,
                cache=self._embedding_cache,
                image_embedder=self._image_embedder,
            )
        self.refresh()
        return report

    # --- taking it elsewhere

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        format: str | None = None,
        vectors: bool = False,
        replace: bool = False,
    ) -> ExportReport:
        """Write the present state to a file, Parquet or JSON Lines as its name says; ingests go on."""
        from indexer.exporting import export

        return export(self.catalog, Path(path), format=format, vectors=vectors, replace=replace)

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

        with self._writer_lock():
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

        with self._writer_lock():
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

    def _check_state(self, connection: sqlite3.Connection) -> None:
        if self._embedder is not None:
            self._require(self._embedder, connection)
        if self._image_embedder is not None:
            self._require_images_of(self._image_embedder, connection)

    def _require(self, embedder: Embedder, connection: sqlite3.Connection) -> None:
        made_with = catalog_reader.meta(connection, "embedder")
        if made_with not in (None, embedder.fingerprint):
            label = catalog_reader.meta(connection, "embedder_label")
            raise EmbedderMismatch(
                f"The index at {self.folder} was made with the embedder {label},"
                f" not {embedder_label(embedder)}.",
                hint="Open it with that embedder, or embed everything anew: ingest into a new index folder.",
            )

    def _require_images_of(self, embedder: PictureEmbedder, connection: sqlite3.Connection) -> None:
        made_with = image_model(connection)
        if made_with is not None and made_with[0] != embedder.fingerprint:
            raise EmbedderMismatch(
                f"The pictures of the index at {self.folder} were embedded with {made_with[1]},"
                f" not {image_embedder_label(embedder)}.",
                hint="Open it with that image embedder, or ingest into a new index folder.",
            )

    def _check_pictures_go_on(self) -> None:
        """An ingest without the image embedder would leave new pictures out, and not say so."""
        with self.catalog.read() as connection:
            made_with = image_model(connection)
        if made_with is not None and self._image_embedder is None:
            raise EmbedderMismatch(
                f"The pictures of the index at {self.folder} were embedded with {made_with[1]},"
                " and no image embedder was given.",
                hint="Name it with --image-embedder, or ingest into a new index folder.",
            )

    # --- search

    def search(
        self, vectors: np.ndarray, k: int, *, filters: Filters | None = None
    ) -> list[list[ScoredChunkId]]:
        """The k nearest chunks of each of (q, dimension) float32 unit vectors, best first, ties by id.

        There are k results whenever k chunks pass the filters. All vectors are compared, up to
        `VectorSettings.exact_chunks` of them; beyond, one of the nearest may be missed.
        """
        self.refresh()
        index = self._state.vectors()
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

    def view(self) -> AbstractContextManager[IndexView]:
        """The newest committed state, held still until the context is left: ingests go on meanwhile."""
        return self._state.view()

    def matching_numbers(self, filters: Filters | None) -> np.ndarray | None:
        """(n,) int64 sorted numbers of the chunks that pass the filters; None if all of them do."""
        return self._state.matching_numbers(filters)

    # --- the state that searches see

    @property
    def lexical(self) -> LexicalIndex:
        """The postings; a hook of the catalog while something is written."""
        return self._state.lexical

    @property
    def generation(self) -> int:
        """Of the state that searches see: rises with every commit that changes what they can return."""
        return self._state.version.generation

    def refreshed_version(self) -> Version:
        """The newest committed state, which searches see from now on."""
        self.refresh()
        return self._state.version

    def refresh(self) -> bool:
        """Pick up what was committed since, by this process or another; True if there was anything."""
        return self._state.refresh()

    # --- inside

    def _save_vectors(self) -> None:
        self._state.save()

    def _prepare_writing(self) -> None:
        if not self._writing_prepared:
            self.catalog.add_hook(self.lexical)
            self.catalog.add_hook(MinHashes())
            self._writing_prepared = True

    def _writer_lock(self) -> AbstractContextManager[None]:
        return writer_lock(self.folder, holder=self._ingesting_process)

    def _ingesting_process(self) -> int | None:
        with self.catalog.read() as connection:
            return catalog_reader.running_process(connection)
