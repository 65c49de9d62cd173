from __future__ import annotations

import sqlite3
import threading

import numpy as np
import pytest
from catalog_looks import chunks, conversion, count, generation, source, store

from indexer import catalog_reader, catalog_writer
from indexer.catalog import Catalog, ChunkChange
from indexer.catalog_writer import Failure
from indexer.errors import (
    IndexBusy,
)


def test_the_generation_rises_only_when_a_search_could_tell(catalog: Catalog):
    store(catalog, "/a.txt", "one")
    assert generation(catalog) == 1
    with catalog.write() as writer:
        assert writer.link(source("/a.txt", mtime_ns=2), conversion("one").content_key, "v1") == 1  # touched
        assert writer.link(source("/a.txt", mtime_ns=3), b"other key", "v1") is None
        writer.fail(source("/c.txt"), Failure("x", "y", "z"), content_key=None, conversion="v1")
    assert generation(catalog) == 1
    store(catalog, "/a.txt", "\none")  # moved within the document
    assert generation(catalog) == 2


def test_nothing_of_a_transaction_that_fails_stays(catalog: Catalog):
    store(catalog, "/a.txt", "one")

    def remove_and_fail() -> None:
        with catalog.write() as writer:
            writer.remove_file("/a.txt")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        remove_and_fail()
    assert set(chunks(catalog)) == {"one"}
    assert generation(catalog) == 1
    store(catalog, "/b.txt", "two")  # and the next one is not disturbed
    assert set(chunks(catalog)) == {"one", "two"}


def test_a_reader_sees_one_state_for_as_long_as_it_reads(catalog: Catalog):
    store(catalog, "/a.txt", "one")
    with catalog.read() as connection:
        assert catalog_reader.version(connection).generation == 1
        store(catalog, "/b.txt", "two")
        assert catalog_reader.version(connection).generation == 1
        assert connection.execute("SELECT count(*) FROM chunks").fetchone() == (1,)
    assert generation(catalog) == 2


def test_threads_read_while_another_writes(catalog: Catalog):
    store(catalog, "/a.txt", "one\ntwo")
    failures: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(50):
                with catalog.read() as connection:
                    ids = [i for (i,) in connection.execute("SELECT id FROM chunks")]
                    assert len(catalog_reader.load_chunks(connection, ids)) == 2
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for turn in range(30):
        store(catalog, "/a.txt", f"one\ntwo {turn}")
    for thread in threads:
        thread.join()
    assert failures == []


def test_hooks_follow_every_change_within_its_transaction(catalog: Catalog):
    class Mirror:
        def prepare(self, connection: sqlite3.Connection) -> None:
            connection.execute("CREATE TABLE IF NOT EXISTS mirror (chunk INTEGER PRIMARY KEY)")

        def before_commit(self, connection: sqlite3.Connection, change: ChunkChange) -> None:
            connection.executemany("INSERT INTO mirror VALUES (?)", ((number,) for number in change.added))
            connection.executemany("DELETE FROM mirror WHERE chunk = ?", ((n,) for n in change.removed))
            if (fail := self.fail) is not None:
                raise fail

        fail: Exception | None = None

    def mirrored() -> list[int]:
        with catalog.read() as connection:
            return [number for (number,) in connection.execute("SELECT chunk FROM mirror ORDER BY chunk")]

    mirror = Mirror()
    catalog.add_hook(mirror)
    store(catalog, "/a.txt", "one\ntwo")
    store(catalog, "/a.txt", "two\nthree")
    assert mirrored() == sorted(number for number, _ in chunks(catalog).values())
    mirror.fail = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        store(catalog, "/a.txt", "four")
    assert set(chunks(catalog)) == {"two", "three"}
    assert mirrored() == sorted(number for number, _ in chunks(catalog).values())


def test_a_chunk_that_comes_and_goes_within_a_transaction_is_not_reported_to_hooks(catalog: Catalog):
    seen: list[ChunkChange] = []

    class Recorder:
        def prepare(self, connection: sqlite3.Connection) -> None: ...

        def before_commit(self, connection: sqlite3.Connection, change: ChunkChange) -> None:
            seen.append(change)

    catalog.add_hook(Recorder())
    converted = conversion("one")
    with catalog.write() as writer:
        writer.add_embeddings({key: np.ones(2, np.float32) for key in converted.embedding_keys})
        writer.store(source("/a.txt"), converted)
        writer.remove_file("/a.txt")
    assert seen == []
    assert count(catalog, "embeddings") == 0


def test_the_history_is_trimmed_and_what_it_lost_is_not_claimed_to_be_known(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(catalog_writer, "HISTORY_GENERATIONS", 3)
    for turn in range(6):
        store(catalog, "/a.txt", f"text {turn}")
    with catalog.read() as connection:
        assert not catalog_reader.remembers_generation(connection, 2)
        assert catalog_reader.remembers_generation(connection, 3)
        assert [g for (g,) in connection.execute("SELECT generation FROM removed_chunks")] == [4, 5, 6]


def test_a_writer_that_waits_too_long_gets_an_error_and_loses_nothing(catalog: Catalog):
    store(catalog, "/a.txt", "one")
    impatient = Catalog.open(catalog.path.parent, busy_seconds=0.01)
    with catalog.write(), pytest.raises(IndexBusy), impatient.write():
        pass
    store(impatient, "/b.txt", "two")
    assert set(chunks(catalog)) == {"one", "two"}
    impatient.close()
