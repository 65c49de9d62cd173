"""Files into the index: find, decide, read in worker processes, embed, commit.

One thread finds the files, decides about each and feeds the worker processes; the calling thread embeds and
commits. Between them is a queue of bounded weight: the embedder never waits while a file is ready, and memory
does not grow with the corpus. Files are embedded and committed in windows: a crash loses the window in hand.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from indexer import catalog_reader
from indexer.catalog import Catalog
from indexer.catalog_writer import CatalogWriter, Conversion, Failure, SourceFile
from indexer.chunking import embedding_text
from indexer.discovery import FoundFile, PathNotFound, discover, file_uri
from indexer.embedding_cache import EmbeddingCache, vectors_in_batches
from indexer.errors import IndexerError
from indexer.identity import embedder_label, embedding_key
from indexer.image_ingest import PictureEmbedder, PictureVectors
from indexer.ingest_report import IngestSettings, Tally
from indexer.ingest_source import FileOutcome, IngestSource, Outcome
from indexer.planning import CHANGED_WHILE_READ, Failed, InFlight, Linked, Skipped, Unchanged
from indexer.producer import Producer
from indexer.reading import Converted
from indexer.seen_files import SeenFiles
from indexer.types import IngestProgress, IngestReport, IngestStage

if TYPE_CHECKING:
    import numpy as np

    from indexer.embedding import Embedder

WINDOW_CHUNKS = 512  # embedded and committed together: enough to sort by length, some seconds of work
WINDOW_FILES = 512
READY_CHUNKS = 128  # enough to begin with, where the embedder would have to wait for more
LINGER_SECONDS = (
    0.2  # without news, after which a window is closed; while files trickle in, commits are fewer
)
# A single document may have far more chunks than a window. Their vectors are committed ahead of it, so that a
# crash does not cost minutes of embedding.
VECTORS_PER_COMMIT = 2048
MAX_WAITING_BYTES = 32_000_000  # of what is parsed and not yet embedded
WINDOW_PICTURES = 64  # whose thumbnails are held at a time, about half a megabyte each


class _ToEmbed(NamedTuple):
    conversion: Conversion
    texts: list[str]  # one a chunk, in the order of the conversion's keys


def ingest(
    catalog: Catalog,
    embedder: Embedder,
    paths: Sequence[str | os.PathLike[str]],
    settings: IngestSettings,
    *,
    progress: Callable[[IngestProgress], None] | None = None,
    finish: Callable[[], None] = lambda: None,
    cache: EmbeddingCache | None = None,
    image_embedder: PictureEmbedder | None = None,
) -> IngestReport:
    """Bring files and folders into the catalog, then call `finish`. The caller holds the writer's lock.

    Raises PathNotFound before anything is done if a path does not exist. What else is wrong with a file is in
    the report; trouble with the index, the disk or the embedder is raised, and what was committed stays. With
    an `image_embedder` the settings ask for thumbnails.
    """
    found = discover(paths, exclude=[catalog.path.parent])
    run = _Run(catalog, embedder, settings, progress or (lambda _: None), cache, image_embedder)
    with run.journal([os.path.abspath(path) for path in paths]), SeenFiles() as seen:
        run.index(found, seen)
        # A link that leads nowhere says nothing about the files that it led to.
        roots = [file_uri(os.path.realpath(path)) for path in paths if os.path.exists(path)]
        run.forget_gone(roots, seen)
        run.report_progress("checkpoint")
        finish()
    return run.tally.report()


class _Run:
    """One ingest, as seen from the calling thread."""

    def __init__(
        self,
        catalog: Catalog,
        embedder: Embedder,
        settings: IngestSettings,
        progress: Callable[[IngestProgress], None],
        cache: EmbeddingCache | None,
        image_embedder: PictureEmbedder | None,
    ) -> None:
        self._catalog = catalog
        self._pictures = PictureVectors(catalog, image_embedder) if image_embedder is not None else None
        self._cache = cache
        self._embedder = embedder
        self._settings = settings
        self._progress = progress
        self._conversion = settings.conversion(embedder)
        self._in_flight = InFlight()
        self._backlog: list[FileOutcome] = []  # of files whose content another file of this run brought in
        self._overtaken: list[Linked] = []  # whose document was given another content before they came
        self._left_vectors = False  # some may be stored without a chunk
        self.tally = Tally()
        self._source = IngestSource(catalog, embedder, settings, self._in_flight, self.tally)

    @contextmanager
    def journal(self, roots: Sequence[str]) -> Iterator[None]:
        """Note in the catalog when the run begins, and how it ends."""
        with self._catalog.write() as writer:
            row, self._left_vectors = writer.start_run(
                roots, command="ingest", settings=self._settings.summary()
            )
        try:
            yield
        except BaseException as error:
            # On a full disk this fails as well, and what is to be raised is what failed first.
            with suppress(IndexerError):
                self._finish_run(row, "failed" if isinstance(error, Exception) else "interrupted")
            raise
        self._finish_run(row, "finished")

    def _finish_run(self, row: int, outcome: str) -> None:
        with self._catalog.write() as writer:
            # After an interruption they stay: the next run takes up where this one stopped.
            if self._left_vectors and outcome == "finished":
                writer.drop_unused_embeddings()
            writer.finish_run(row, outcome, self.tally.summary())

    def index(self, found: Iterator[FoundFile], seen: SeenFiles) -> None:
        """Bring in everything that was found."""
        self.report_progress("discover")
        self._index(found, seen)
        while self._overtaken:
            again, self._overtaken = self._overtaken, []
            self.tally.found -= len(again)
            self._index(_found_again([os.fsdecode(outcome.file.path) for outcome in again]), seen)

    def _index(self, found: Iterator[FoundFile], seen: SeenFiles) -> None:
        producer: Producer[Outcome] = Producer(
            lambda put: self._source.produce(found, put),
            max_weight=MAX_WAITING_BYTES,
            interrupt=self._source.interrupt,
        )
        with producer:
            for window in self._windows(producer, seen):
                converted = self._with_pictures(self._prepare(window))
                vectors = self._embed(converted)
                self._commit(window, converted, vectors)
                self.report_progress("index")

    def _windows(self, producer: Producer[Outcome], seen: SeenFiles) -> Iterator[list[FileOutcome]]:
        """What is ready, up to the size of a window: full ones where the embedder is what takes time."""
        while True:
            window, self._backlog = self._backlog, []
            num_chunks = num_pictures = 0
            while (
                num_chunks < WINDOW_CHUNKS and len(window) < WINDOW_FILES and num_pictures < WINDOW_PICTURES
            ):
                patience = LINGER_SECONDS if num_chunks < READY_CHUNKS else 0.0
                outcome = self._next(producer, seen, seconds=patience if window else None)
                if outcome is None:
                    break
                window.append(outcome)
                if isinstance(outcome, Converted):
                    num_chunks += len(outcome.drafts)
                    num_pictures += outcome.document.thumbnail is not None
            if not window:
                return
            seen.add(outcome.file.uri for outcome in window)
            yield window

    def _next(
        self, producer: Producer[Outcome], seen: SeenFiles, *, seconds: float | None
    ) -> FileOutcome | None:
        """What became of the next file that is not unchanged; None at the end, or if there is none in time.

        Unchanged files are counted as they come by.
        """
        started = time.perf_counter()
        left = seconds
        outcome = producer.take(seconds=left)
        while isinstance(outcome, Unchanged):
            seen.add(outcome.uris)
            self.tally.unchanged += len(outcome.uris)
            self.report_progress("index")
            if seconds is not None:
                left = started + seconds - time.perf_counter()
            outcome = producer.take(seconds=left) if left is None or left > 0 else None
        self.tally.wait_seconds += time.perf_counter() - started
        return outcome

    def _prepare(self, window: Sequence[FileOutcome]) -> dict[str, _ToEmbed]:
        """By uri, what was read."""
        converted = {}
        for outcome in window:
            if isinstance(outcome, Converted):
                body, drafts = outcome.document.text, outcome.drafts
                texts = [embedding_text(draft.context, body[draft.start : draft.end]) for draft in drafts]
                keys = [embedding_key(self._embedder.fingerprint, text) for text in texts]
                conversion = Conversion(outcome.content_key, self._conversion, outcome.document, drafts, keys)
                converted[outcome.file.uri] = _ToEmbed(conversion, texts)
        return converted

    def _with_pictures(self, converted: dict[str, _ToEmbed]) -> dict[str, _ToEmbed]:
        """The same, with a vector for each picture."""
        if self._pictures is None:
            return converted
        documents = {uri: to_embed.conversion.document for uri, to_embed in converted.items()}
        thumbnails = {uri: document.thumbnail for uri, document in documents.items() if document.thumbnail}
        started = time.perf_counter()
        images = self._pictures.of(thumbnails)
        self.tally.embed_seconds += time.perf_counter() - started
        found = {}
        for uri, (conversion, texts) in converted.items():
            found[uri] = _ToEmbed(conversion._replace(image=images.get(uri)), texts)
        return found

    def _embed(self, converted: Mapping[str, _ToEmbed]) -> dict[bytes, np.ndarray]:
        """Vectors for the texts that have none yet, but for those of them that had to be stored ahead."""
        texts = {
            key: text
            for to_embed in converted.values()
            for key, text in zip(to_embed.conversion.embedding_keys, to_embed.texts, strict=True)
        }
        with self._catalog.read() as connection:
            for key in catalog_reader.stored_embeddings(connection, texts):
                del texts[key]
        vectors: dict[bytes, np.ndarray] = {}
        started = time.perf_counter()
        for batch in vectors_in_batches(self._embedder, texts, self._cache):
            vectors |= batch.vectors
            self.tally.embedded += batch.embedded
            self.tally.embed_seconds += time.perf_counter() - started
            self.report_progress("index")
            if len(vectors) >= VECTORS_PER_COMMIT:
                self._left_vectors = True
                with self._catalog.write() as writer:
                    self._store_vectors(writer, vectors)
                vectors = {}
            started = time.perf_counter()
        return vectors

    def _store_vectors(self, writer: CatalogWriter, vectors: Mapping[bytes, np.ndarray]) -> None:
        if vectors:
            writer.set_meta("embedder", self._embedder.fingerprint)
            writer.set_meta("embedder_label", embedder_label(self._embedder))
            writer.set_meta("dimension", str(self._embedder.dimension))
            writer.add_embeddings(vectors)

    def _commit(
        self,
        window: Sequence[FileOutcome],
        converted: Mapping[str, _ToEmbed],
        vectors: Mapping[bytes, np.ndarray],
    ) -> None:
        started = time.perf_counter()
        if any(_is_news(outcome) for outcome in window):
            with self._catalog.write() as writer:
                self._store_vectors(writer, vectors)
                if self._pictures and any(to_embed.conversion.image for to_embed in converted.values()):
                    self._pictures.note_model(writer)
                window = self._write_all(writer, window, converted)
        for outcome in window:
            self._count(outcome)
            self._release(outcome)
        self.tally.commit_seconds += time.perf_counter() - started

    def _write_all(
        self, writer: CatalogWriter, window: Sequence[FileOutcome], converted: Mapping[str, _ToEmbed]
    ) -> list[FileOutcome]:
        """Write a window down; returns it without the files that have to be looked at again.

        Contents that have moved come first, before the files that they were in get others.
        """
        written: list[FileOutcome] = []
        for outcome in window:
            if not isinstance(outcome, Linked):
                written.append(outcome)
                continue
            document = writer.link(outcome.file, outcome.content_key, self._conversion)
            if document is not None:
                written.append(outcome._replace(document=document))
            else:
                self._overtaken.append(outcome)
        for outcome in written:
            self._write(writer, outcome, converted)
        return written

    def _write(self, writer: CatalogWriter, outcome: FileOutcome, converted: Mapping[str, _ToEmbed]) -> None:
        match outcome:
            case Converted():
                writer.store(outcome.file, converted[outcome.file.uri].conversion)
            case Failed(known=False) | Skipped(known=False):
                note = writer.fail if isinstance(outcome, Failed) else writer.skip
                failure = Failure(outcome.code, outcome.reason, outcome.hint)
                note(outcome.file, failure, content_key=outcome.content_key, conversion=self._conversion)

    def _count(self, outcome: FileOutcome) -> None:
        tally = self.tally
        match outcome:
            case Linked(touched=True):
                tally.unchanged += 1
            case Linked():
                tally.indexed += 1
                with self._catalog.read() as connection:
                    tally.chunks += catalog_reader.chunks_of_document(connection, outcome.document)
                    tally.partial += catalog_reader.is_partial(connection, outcome.document)
            case Converted():
                tally.indexed += 1
                tally.chunks += len(outcome.drafts)
                tally.partial += bool(outcome.document.warnings)
                tally.bytes += outcome.file.size
                tally.parse_seconds += outcome.seconds
            case Skipped():
                tally.skipped += 1
            case Failed():
                with self._catalog.read() as connection:
                    kept_since = catalog_reader.kept_since(connection, outcome.file.uri)
                tally.fail(outcome, kept_since)

    def _release(self, outcome: FileOutcome) -> None:
        """Let the files go on that waited for this one, because they have the same content."""
        if isinstance(outcome, Linked) or outcome.claim is None:
            return
        waiting = self._in_flight.release(outcome.claim, outcome.file)
        if not waiting:
            return
        if outcome.content_key != outcome.claim:
            self._backlog += [_changed_while_read(file, outcome.file.uri) for file in waiting]
        elif isinstance(outcome, Converted):
            with self._catalog.read() as connection:
                key = outcome.content_key
                document = catalog_reader.document_with_content(connection, key, self._conversion)
            self._backlog += [Linked(file, document, key, touched=False) for file in waiting]
        else:
            self._backlog += [outcome._replace(file=file, claim=None) for file in waiting]

    def forget_gone(self, roots: Sequence[str], seen: SeenFiles) -> None:
        """Take out the files below the roots that were not found, or count them if they are to be kept."""
        self.report_progress("prune")
        for root in roots:
            for batch in seen.missing(self._catalog, root):
                gone = [file for file in batch if not self._is_hidden(file.uri)]
                searchable = sum(file.searchable for file in gone)
                forgotten = [file for file in gone if self._settings.prune or not file.searchable]
                if forgotten:
                    with self._catalog.write() as writer:
                        for file in forgotten:
                            writer.remove_file(file.uri)
                if self._settings.prune:
                    self.tally.removed += searchable
                else:
                    self.tally.missing += searchable

    def _is_hidden(self, uri: str) -> bool:
        """Whether the file may still be there, in a folder that could not be listed."""
        return any(uri.startswith(f"{folder}/") for folder in self._source.unreadable)

    def report_progress(self, stage: IngestStage) -> None:
        """Tell the caller how far this is."""
        self._progress(self.tally.progress(stage))


def _found_again(paths: Iterable[str]) -> Iterator[FoundFile]:
    """Files that were found before, as they are now; without those that are gone."""
    for path in paths:
        with suppress(PathNotFound):
            yield from discover([path])


def _changed_while_read(file: SourceFile, uri: str) -> Failed:
    return Failed(
        file,
        CHANGED_WHILE_READ,
        f"It was left to {uri}, a copy, to be read, and that changed in this very moment.",
        "Ingest again.",
    )


def _is_news(outcome: FileOutcome) -> bool:
    """Whether there is anything to write."""
    return not (isinstance(outcome, Failed | Skipped) and outcome.known)
