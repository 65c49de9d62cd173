"""The half of an ingest that runs ahead in its own thread: find files, decide about each, have them read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING

from indexer import reading
from indexer.catalog import Catalog
from indexer.discovery import FoundFile
from indexer.ingest_report import IngestSettings, Tally
from indexer.planning import Failed, InFlight, Linked, Planner, PlanSettings, Skipped, ToRead, Unchanged
from indexer.reading import Converted, Reader

if TYPE_CHECKING:
    from indexer.embedding import Embedder

FileOutcome = Linked | Skipped | Failed | Converted
Outcome = Unchanged | FileOutcome
BYTES_PER_OUTCOME = 600  # about, of a file's name, size and times
BYTES_PER_URI = 200  # about, of an unchanged file's; there may be millions of those
FILES_PER_LOOK = 128  # that are looked up together: enough to cost little each, few enough to come soon


class IngestSource:
    """Turns found files into outcomes. `tally.found` counts them as they are found."""

    def __init__(
        self,
        catalog: Catalog,
        embedder: Embedder,
        settings: IngestSettings,
        in_flight: InFlight,
        tally: Tally,
    ) -> None:
        self._embedder = embedder
        self._settings = settings
        self._in_flight = in_flight
        self._tally = tally
        self._reader: Reader | None = None
        self._interrupted = False
        self._planner = Planner(
            catalog,
            PlanSettings(
                conversion=settings.conversion(embedder),
                max_bytes=settings.options.max_bytes,
                retry_failed=settings.retry_failed,
                have_password=settings.options.password is not None,
                embed_pictures=settings.options.thumbnails,
            ),
        )
        self.unreadable: list[str] = []  # uris of what could not be listed: what is below them is not gone

    def produce(self, found: Iterator[FoundFile], put: Callable[[Outcome, int], None]) -> None:
        """Put an outcome for each file, unchanged ones together, with about the bytes that it takes while it
        waits."""
        files = self._to_read(found, put)
        first = next(files, None)
        if first is None:
            return  # no worker process is started for nothing
        with reading.open_reader(self._settings, self._embedder) as self._reader:
            if self._interrupted:  # while there was no reader to stop yet
                return
            for outcome in self._reader.read(chain([first], files)):
                put(outcome, BYTES_PER_OUTCOME + (outcome.weight if isinstance(outcome, Converted) else 0))

    def interrupt(self) -> None:
        """Make `produce` come to an end. Called from another thread."""
        self._interrupted = True
        if self._reader is not None:
            self._reader.stop()

    def _to_read(self, found: Iterator[FoundFile], put: Callable[[Outcome, int], None]) -> Iterator[ToRead]:
        while files := list(islice(found, FILES_PER_LOOK)):
            self._tally.found += len(files)
            self.unreadable += [file.uri for file in files if file.problem is not None]
            for decision in self._planner.decide(files):
                if isinstance(decision, Unchanged):
                    put(decision, BYTES_PER_URI * len(decision.uris))
                elif not isinstance(decision, ToRead):
                    put(decision, BYTES_PER_OUTCOME)
                elif decision.content_key is None or self._in_flight.claim(
                    decision.content_key, decision.file
                ):
                    yield decision
        self._tally.all_found = True
