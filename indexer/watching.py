"""Follow files and folders: look at them now and then, and ingest once what changed has come to rest.

Looking is listing: names, sizes and times, as an ingest does it, and by the same rules. That works on network
drives, in containers and for any number of folders, where notifications of the kernel do not, and it is cheap
beside what follows it; the pause between two looks grows with what a look costs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from indexer.discovery import PathNotFound, discover
from indexer.errors import DiskFull, IndexBusy, IndexerError, IndexLocked, StorageFailed
from indexer.types import IngestReport

POLL_SECONDS = 2.0
SETTLE_SECONDS = 0.5  # without a change, after which whoever writes is taken to be done
MAX_SETTLE_SECONDS = 30.0  # a log that never rests is ingested all the same
_PAUSES_PER_LOOK = (
    20  # a pause is this many times as long as the look before it: looking takes 5% of the time
)
_MAX_PAUSE_SECONDS = 60.0

# What may be over when the next attempt is made; anything else ends the watch.
_PASSING = (IndexLocked, IndexBusy, DiskFull, StorageFailed, PathNotFound)


def watch(
    paths: Sequence[str | os.PathLike[str]],
    ingest: Callable[[list[str | os.PathLike[str]]], IngestReport],
    *,
    exclude: Sequence[Path],
    poll_seconds: float = POLL_SECONDS,
    on_trouble: Callable[[IndexerError], None] = lambda _: None,
) -> Iterator[IngestReport]:
    """Ingest now and after every change, for ever; yields the reports.

    `ingest` gets the paths that are there: one that is gone may be a drive that was taken out, and what was
    below it is not forgotten. What goes wrong in the first pass is raised; later, a full disk or another
    ingest is told to `on_trouble` and waited for. Ctrl-C between two passes ends the iteration; within one it
    is raised.
    """
    tree = _Tree(paths, exclude)
    first = True
    while True:
        before = tree.state()  # so that what changes during the pass calls for the next one
        try:
            report = ingest(list(paths) if first else tree.there())
        except _PASSING as error:
            if first:
                raise
            on_trouble(error)
            before = None
        else:
            yield report
        first = False
        try:
            tree.wait_for_change(before, poll_seconds)
        except KeyboardInterrupt:
            return


class _Tree:
    """The files under some paths, as far as an ingest would look at them."""

    def __init__(self, paths: Sequence[str | os.PathLike[str]], exclude: Sequence[Path]) -> None:
        self._paths = paths
        self._exclude = exclude
        self._look_seconds = 0.0

    def there(self) -> list[str | os.PathLike[str]]:
        """The paths that exist."""
        return [path for path in self._paths if os.path.lexists(path)]

    def state(self) -> int:
        """A digest of names, sizes, times and what is ignored."""
        started = time.monotonic()
        there = self.there()
        total = _number("there", *map(os.fspath, there))
        with suppress(PathNotFound):  # gone since the line before: the next look will tell
            for file in discover(there, exclude=self._exclude):
                problem = file.problem.message if file.problem else ""
                # A sum: the order does not matter, and memory stays small.
                total += _number(file.uri, file.size, file.mtime_ns, file.ignored, problem)
        self._look_seconds = time.monotonic() - started
        return total

    def wait_for_change(self, before: int | None, poll_seconds: float) -> None:
        """Return once the files are others than before and have come to rest; not while no path is there."""
        while True:
            self._pause(poll_seconds)
            now = self.state()
            if now != before and self.there():
                break
        deadline = time.monotonic() + MAX_SETTLE_SECONDS
        while time.monotonic() < deadline:
            time.sleep(min(SETTLE_SECONDS, poll_seconds))
            last, now = now, self.state()
            if now == last:
                return

    def _pause(self, poll_seconds: float) -> None:
        time.sleep(max(poll_seconds, min(_PAUSES_PER_LOOK * self._look_seconds, _MAX_PAUSE_SECONDS)))


def _number(*facts: object) -> int:
    return int.from_bytes(
        blake2b(repr(facts).encode("utf-8", "surrogatepass"), digest_size=16).digest(), "big"
    )
