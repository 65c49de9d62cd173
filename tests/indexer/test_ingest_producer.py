from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from ingest_looks import age
from store_fakes import HashingEmbedder, InProcessReader

from indexer import ingest as ingest_module
from indexer.discovery import discover
from indexer.index import Index
from indexer.ingest_report import IngestSettings, Tally
from indexer.ingest_source import IngestSource
from indexer.locks import ReadWriteLock
from indexer.planning import Failed, InFlight, Skipped, ToRead, Unchanged
from indexer.producer import Producer
from indexer.reading import Converted

Put = Callable[[int, int], None]


def take_all(producer: Producer[int]) -> list[int]:
    items = []
    while (item := producer.take()) is not None:
        items.append(item)
    return items


def test_items_come_in_order_and_then_the_end():
    def produce(put: Put) -> None:
        for number in range(100):
            put(number, 1)

    with Producer(produce, max_weight=7) as producer:
        assert take_all(producer) == list(range(100))
        assert producer.take() is None
        assert producer.take(seconds=0.0) is None


def test_the_producer_does_not_run_further_ahead_than_it_may():
    produced = []

    def produce(put: Put) -> None:
        for number in range(50):
            produced.append(number)
            put(number, 10)

    with Producer(produce, max_weight=35) as producer:
        while len(produced) < 4:
            time.sleep(0.001)
        time.sleep(0.05)  # for the one too many
        assert len(produced) == 4  # three wait to be taken, one is waiting to be put
        assert take_all(producer) == list(range(50))


def test_what_waits_is_weighed_whatever_became_of_it(index: Index, corpus: Path, embedder: HashingEmbedder):
    """A million unchanged files that wait are hundreds of megabytes too."""
    index.ingest([corpus])
    age(corpus)
    index.ingest([corpus])
    (corpus / ".hidden").touch()
    put = []
    source = IngestSource(index.catalog, embedder, IngestSettings(), InFlight(), Tally())
    source.produce(discover([corpus]), lambda outcome, weight: put.append((outcome, weight)))
    (unchanged, weight), (skipped, weight_of_skipped) = put
    assert isinstance(unchanged, Unchanged)
    assert len(unchanged.uris) == 3
    size = sum(map(sys.getsizeof, (unchanged, unchanged.uris, *unchanged.uris)))
    assert size / 2 < weight < size * 4
    assert isinstance(skipped, Skipped)
    size = sum(map(sys.getsizeof, (skipped, skipped.file, *skipped.file)))
    assert size / 2 < weight_of_skipped < size * 4


def test_an_item_that_is_too_heavy_passes_alone():
    def produce(put: Put) -> None:
        for number, weight in enumerate((1, 1000, 1)):
            put(number, weight)

    with Producer(produce, max_weight=10) as producer:
        assert take_all(producer) == [0, 1, 2]


def test_an_error_arrives_after_the_items_before_it():
    def produce(put: Put) -> None:
        put(1, 1)
        raise ZeroDivisionError

    with Producer(produce, max_weight=10) as producer:
        assert producer.take() == 1
        with pytest.raises(ZeroDivisionError):
            producer.take()


def test_leaving_early_ends_a_producer_that_waits_to_put(no_thread_is_left: None):
    def produce(put: Put) -> None:
        while True:
            put(1, 1)

    with Producer(produce, max_weight=3) as producer:
        assert producer.take() == 1


def test_leaving_early_interrupts_a_producer_that_waits_for_something_else(no_thread_is_left: None):
    begun, interrupted = threading.Event(), threading.Event()

    def produce(put: Put) -> None:
        begun.set()
        assert interrupted.wait(60)

    with Producer(produce, max_weight=3, interrupt=interrupted.set):
        assert begun.wait(60)
    assert interrupted.is_set()


def test_files_are_read_while_others_are_embedded(
    index: Index,
    corpus: Path,
    embedder: HashingEmbedder,
    parsed: list[str],
    monkeypatch: pytest.MonkeyPatch,
):
    """The first text is embedded only once the second file has been read; else this would never end."""
    monkeypatch.setattr(ingest_module, "WINDOW_FILES", 1)
    waited = []

    def wait_for_the_next_file(texts: object) -> None:
        deadline = time.monotonic() + 60
        while len(parsed) < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        waited.append(len(parsed))

    embedder.before_embedding = wait_for_the_next_file
    index.ingest([corpus])
    assert waited[0] >= 2


def test_the_embedder_does_not_wait_for_a_full_window_while_it_could_begin(
    index: Index, corpus: Path, embedder: HashingEmbedder, monkeypatch: pytest.MonkeyPatch
):
    """The last file is read only once a text has been embedded."""
    monkeypatch.setattr(ingest_module, "READY_CHUNKS", 3)
    monkeypatch.setattr(ingest_module, "LINGER_SECONDS", 600)
    has_begun = threading.Event()
    embedder.before_embedding = lambda texts: has_begun.set()
    real = InProcessReader.read

    def read(reader: InProcessReader, files: Iterable[ToRead]) -> Iterator[Converted | Failed]:
        *first, last = real(reader, list(files))
        yield from first
        assert has_begun.wait(60)
        yield last

    monkeypatch.setattr(InProcessReader, "read", read)
    assert index.ingest([corpus]).indexed == 3


def test_nothing_is_waited_for_unless_asked():
    ready = threading.Event()

    def produce(put: Put) -> None:
        ready.wait(30)
        put(1, 1)

    with Producer(produce, max_weight=3) as producer:
        assert producer.take(seconds=0.0) is None
        ready.set()
        assert producer.take() == 1
        assert producer.take() is None


def test_readers_share_a_lock_and_a_writer_has_it_alone():
    lock = ReadWriteLock()
    log: list[str] = []
    reading = threading.Event()
    release = threading.Event()

    def read(name: str) -> None:
        with lock.reading():
            log.append(f"{name} in")
            reading.set()
            assert release.wait(60)
        log.append(f"{name} out")

    def write() -> None:
        with lock.writing():
            log.append("writer")

    first = threading.Thread(target=read, args=("first",))
    first.start()
    assert reading.wait(60)
    with lock.reading():  # while the first still reads
        log.append("second")
    writer = threading.Thread(target=write)
    writer.start()
    while not lock._num_waiting_writers:
        time.sleep(0.001)
    late = threading.Thread(target=read, args=("late",))
    late.start()  # comes after the writer that waits already
    time.sleep(0.02)  # for it to come in too early
    assert log == ["first in", "second"]
    release.set()
    for thread in (first, writer, late):
        thread.join()
    assert log.index("writer") < log.index("late in")
