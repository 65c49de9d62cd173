"""Vectors are read from disk ahead of a search: only so many, only so long, and nothing depends on it."""

from __future__ import annotations

import threading

import pytest
from fakes import PATIENCE, FakeCorpus, FakeView, found, make_retriever

from retriever.read_ahead import ReadAhead

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


class Disk:
    """Reads a hundred bytes a second, by its clock, all that it is asked for at once."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[tuple[str, int]] = []
        self.read = threading.Semaphore(0)
        self.error: Exception | None = None
        self.is_empty = False

    def __call__(self, query, max_bytes, *, stopped):
        self.asked.append((query, max_bytes))
        if self.error is not None:
            raise self.error
        if not self.is_empty:
            self.now += max_bytes / 100
        self.read.release()
        return 0 if self.is_empty else max_bytes


def test_a_budget_is_what_the_disk_hands_over_in_the_time_that_a_block_takes():
    disk = Disk()
    ahead = ReadAhead(disk, clock=lambda: disk.now)
    first = ahead.budget_bytes
    with ahead.during("q"):
        assert disk.read.acquire(timeout=PATIENCE)
    assert disk.asked == [("q", first)]
    # The block took as long as the disk for the first budget: so there is time for the same again.
    assert ahead.budget_bytes == pytest.approx(first)
    disk.is_empty = True  # which says nothing of its speed
    with ahead.during("q"):
        assert disk.read.acquire(timeout=PATIENCE)
        disk.now += first / 100 + 10_000
    assert ahead.budget_bytes == pytest.approx(first + 100 * 10_000 / 4)


def test_reading_ends_with_the_block():
    begun, seen = threading.Event(), []

    def read(query, max_bytes, *, stopped):
        begun.set()
        while not stopped():
            pass
        seen.append(stopped())
        return 0

    with ReadAhead(read).during("q"):
        assert begun.wait(PATIENCE)
        assert not seen
    assert seen == [True]


def test_reading_goes_on_near_what_is_more_like_the_next_query():
    reads, interrupted = [], []
    begun = threading.Semaphore(0)

    def read(query, max_bytes, *, stopped):
        reads.append(query)
        begun.release()
        while not stopped():
            pass
        interrupted.append(query)
        return 1

    with ReadAhead(read).during("question") as read_near:
        assert begun.acquire(timeout=PATIENCE)
        read_near("question and draft")
        assert begun.acquire(timeout=PATIENCE)
        assert interrupted == ["question"]
        read_near("question and draft")  # nothing new
    assert reads == interrupted == ["question", "question and draft"]


def test_where_there_was_nothing_to_read_it_is_tried_again_rarely():
    disk = Disk()
    disk.is_empty = True
    ahead = ReadAhead(disk, clock=lambda: disk.now)
    for number in range(65):
        with ahead.during(str(number)):
            if number % 32 == 0:
                assert disk.read.acquire(timeout=PATIENCE)
                while ahead._blocks_to_skip == 0:  # until the thread has taken note
                    pass
    assert [query for query, _ in disk.asked] == ["0", "32", "64"]


def test_a_disk_that_fails_fails_nobody(caplog):
    disk = Disk()
    disk.error = OSError("gone")
    with ReadAhead(disk).during("q"):
        pass
    assert "Reading ahead failed." in caplog.text


class Rows:
    def __init__(self):
        self.stopped = None

    def read_ahead(self, *, stopped):
        self.stopped = stopped
        return 7


@pytest.fixture
def corpus():
    corpus = FakeCorpus()
    for text in ("red fox", "grey wolf", "brown bear"):
        corpus.add(text)
    return corpus


def test_an_index_in_memory_has_nothing_to_read(corpus):
    retriever = make_retriever(corpus)
    assert retriever.read_ahead("wolf", 1000, stopped=lambda: False) == 0
    assert retriever.embedder.batches == []


def test_what_is_near_the_query_is_read_from_the_disk_and_the_query_embedded_once(corpus, monkeypatch):
    rows, asked = Rows(), []

    def stored_near(self, vector, max_bytes):
        asked.append((vector.tolist(), max_bytes))
        return rows

    monkeypatch.setattr(FakeView, "is_exact", False)
    monkeypatch.setattr(FakeView, "stored_near", stored_near, raising=False)
    retriever = make_retriever(corpus)
    before = found(retriever.search("wolf", k=2))
    assert retriever.read_ahead(" wolf ", 1000, stopped=lambda: True) == 7
    assert asked == [(retriever.embedder.embed_queries(["wolf"])[0].tolist(), 1000)]
    assert retriever.embedder.batches[:-1] == [["wolf"]]
    assert rows.stopped()
    assert found(retriever.search("wolf", k=2, use_cache=False)) == before
