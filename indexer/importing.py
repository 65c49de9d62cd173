"""An export into an index: all of it or nothing.

The file is read twice. The first reading checks every line and embeds what comes without a vector, which
is committed as it goes, because it may take hours; nothing refers to those vectors yet. The second one stores
the documents, in one transaction: searches see all of them from one moment to the next, or none.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer import catalog_reader
from indexer.catalog import Catalog
from indexer.catalog_writer import CatalogWriter, Conversion
from indexer.chunking import embedding_text
from indexer.embedding_cache import EmbeddingCache, vectors_in_batches
from indexer.errors import IndexerError, InvalidExport
from indexer.identity import embedder_label, embedding_key
from indexer.interchange import ExportReader, Header, ImportedDocument, ImportedFile
from indexer.types import ImportReport, IngestProgress, IngestStage

if TYPE_CHECKING:
    import numpy as np

    from indexer.embedding import Embedder

TEXTS_PER_COMMIT = 2048  # embedded and committed together in the first reading


def import_export(
    catalog: Catalog,
    embedder: Embedder,
    path: Path,
    *,
    progress: Callable[[IngestProgress], None] | None = None,
    finish: Callable[[], None] = lambda: None,
    cache: EmbeddingCache | None = None,
) -> ImportReport:
    """Bring an export's documents into the catalog, then call `finish`. The caller holds the writer's lock.

    A file of the export takes the place of one with the same uri; what else is in the index stays. Vectors
    are taken over if the embedder that made them is this one. Raises InvalidExport, naming line and field.
    """
    run = _Import(catalog, embedder, path, progress or (lambda _: None), cache)
    with run.journal():
        run.embed()
        run.store()
        run.report_progress("checkpoint")
        finish()
    return run.report()


class _Import:
    def __init__(
        self,
        catalog: Catalog,
        embedder: Embedder,
        path: Path,
        progress: Callable[[IngestProgress], None],
        cache: EmbeddingCache | None,
    ) -> None:
        self._catalog = catalog
        self._embedder = embedder
        self._path = path
        self._progress = progress
        self._cache = cache
        self._started = time.perf_counter()
        self._header = Header(None, None, 0, 0, 0)
        self._documents = self._chunks = self._files = self._embedded = 0

    @contextmanager
    def journal(self) -> Iterator[None]:
        """Note in the catalog when the import begins, and how it ends."""
        with self._catalog.write() as writer:
            row, _ = writer.start_run([os.path.abspath(self._path)], command="import", settings={})
        try:
            yield
        except BaseException as error:
            with suppress(IndexerError):  # what is to be raised is what failed first
                self._finish_run(row, "failed" if isinstance(error, Exception) else "interrupted")
            raise
        self._finish_run(row, "finished")

    def _finish_run(self, row: int, outcome: str) -> None:
        with self._catalog.write() as writer:
            if outcome == "finished":  # else they stay: the next attempt takes up where this one stopped
                writer.drop_unused_embeddings()
            writer.finish_run(row, outcome, self._summary())

    def _summary(self) -> dict[str, Any]:
        counts = {"indexed": self._files, "chunks": self._chunks, "embedded": self._embedded}
        return {**counts, "seconds": time.perf_counter() - self._started}

    def embed(self) -> None:
        """Check the whole file, and see to it that every text has a vector."""
        waiting: dict[bytes, str] = {}
        for part in self._parts():
            if isinstance(part, ImportedDocument):
                texts = self._texts(part)
                given = self._given_vectors(part)
                waiting |= {key: text for key, text in texts.items() if key not in given}
                if len(waiting) >= TEXTS_PER_COMMIT:
                    self._embed(waiting)
                    waiting = {}
        self._embed(waiting)

    def _embed(self, texts: dict[bytes, str]) -> None:
        with self._catalog.read() as connection:
            for key in catalog_reader.stored_embeddings(connection, texts):
                del texts[key]
        vectors: dict[bytes, np.ndarray] = {}
        for batch in vectors_in_batches(self._embedder, texts, self._cache):
            vectors |= batch.vectors
            self._embedded += batch.embedded
            self.report_progress("index")
        if vectors:
            with self._catalog.write() as writer:
                self._store_vectors(writer, vectors)

    def store(self) -> None:
        """Store everything, in one transaction."""
        with self._catalog.write() as writer:
            for part in self._parts():
                if isinstance(part, ImportedDocument):
                    self._store_document(writer, part)
                    self._documents += 1
                    self._chunks += len(part.drafts)
                    self._files += len(part.files)
                else:
                    _note(writer, part)
                    self._files += 1
                self.report_progress("index")

    def _store_document(self, writer: CatalogWriter, part: ImportedDocument) -> None:
        vectors = self._given_vectors(part)
        if vectors:
            self._store_vectors(writer, vectors)
        texts = self._texts(part)
        missing = texts.keys() - catalog_reader.stored_embeddings(writer.connection, texts)
        if missing:
            raise InvalidExport(f"{self._path} changed while it was imported.", hint="Import it again.")
        keys = [self._key(text) for text in _chunk_texts(part)]
        conversion = Conversion(part.content_key, part.conversion, part.document, part.drafts, keys)
        first, *others = part.files
        writer.store(first.file, conversion, new_id=part.id)
        for other in others:
            writer.link(other.file, part.content_key, part.conversion)
        for imported in part.files:
            if imported.status != "indexed":  # it keeps this document, its last good version
                _note(writer, imported)

    def _parts(self) -> Iterator[ImportedDocument | ImportedFile]:
        for part in ExportReader(self._path):
            if isinstance(part, Header):
                self._header = part
            else:
                yield part

    def _texts(self, part: ImportedDocument) -> dict[bytes, str]:
        return {self._key(text): text for text in _chunk_texts(part)}

    def _given_vectors(self, part: ImportedDocument) -> dict[bytes, np.ndarray]:
        """By key, the vectors that come with a document, if the index's embedder made them."""
        made_with = (self._header.embedder, self._header.dimension)
        if made_with != (self._embedder.fingerprint, self._embedder.dimension):
            return {}
        pairs = zip(_chunk_texts(part), part.vectors, strict=True)
        return {self._key(text): vector for text, vector in pairs if vector is not None}

    def _key(self, text: str) -> bytes:
        return embedding_key(self._embedder.fingerprint, text)

    def _store_vectors(self, writer: CatalogWriter, vectors: Mapping[bytes, np.ndarray]) -> None:
        writer.set_meta("embedder", self._embedder.fingerprint)
        writer.set_meta("embedder_label", embedder_label(self._embedder))
        writer.set_meta("dimension", str(self._embedder.dimension))
        writer.add_embeddings(vectors)

    def report_progress(self, stage: IngestStage) -> None:
        """Tell the caller how far this is."""
        self._progress(
            IngestProgress(
                stage=stage,
                files_found=self._header.files,
                files_done=self._files,
                all_found=True,
                chunks=max(self._chunks, self._embedded),
                bytes=0,
                seconds=time.perf_counter() - self._started,
            )
        )

    def report(self) -> ImportReport:
        """What came in."""
        return ImportReport(
            documents=self._documents,
            chunks=self._chunks,
            files=self._files,
            embedded=self._embedded,
            seconds=time.perf_counter() - self._started,
        )


def _chunk_texts(part: ImportedDocument) -> list[str]:
    """What is embedded, chunk by chunk."""
    text = part.document.text
    return [embedding_text(draft.context, text[draft.start : draft.end]) for draft in part.drafts]


def _note(writer: CatalogWriter, imported: ImportedFile) -> None:
    """Note that a file is not indexed, and why."""
    write = writer.fail if imported.status == "failed" else writer.skip
    write(imported.file, imported.failure, content_key=imported.content_key, conversion=imported.conversion)
