"""What is left when an ingest is killed, and what comes of it when it is run again."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_fakes import HashingEmbedder

from indexer.index import Index
from indexer.types import Chunk

WORDS = ("ferry", "heron", "tide", "crown", "bridge", "apple", "pond", "mill", "stork", "toll", "harbour")
QUERIES = ["heron by the pond", "ferry toll", "tide mill", "harbour"]
KILLED = -signal.SIGKILL

Answers = list[list[tuple[Chunk, float]]]


class World:
    """A corpus in two versions, an index of it, and a process that ingests in processes of its own."""

    def __init__(self, folder: Path) -> None:
        self.corpus = folder / "corpus"
        self.index = folder / "index"
        self._folder = folder
        self._child = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("ingest_child.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        self._write_first_version()
        self._save("empty")
        assert self.ingest() == 0
        self.first = self.answers()
        self._save("first")
        self._write_second_version()
        self._save("changed")
        assert self.ingest() == 0
        self.second = self.answers()

    def restore(self, name: str) -> None:
        """Back to "empty" (nothing indexed), "first" (as indexed) or "changed" (the files, not the index)."""
        for path in (self.corpus, self.index):
            shutil.rmtree(path, ignore_errors=True)
            if (self._folder / name / path.name).exists():
                shutil.copytree(self._folder / name / path.name, path)

    def ingest(self, moment: str = "", *, readers: str = "in process") -> int:
        """Ingest, to the end or until the moment; the exit status."""
        self.start(moment, readers=readers)
        return self.finish()

    def start(self, moment: str = "", *, readers: str = "in process") -> int:
        """Begin to ingest; the process id."""
        call = {"index": str(self.index), "corpus": str(self.corpus), "moment": moment, "readers": readers}
        self._child.stdin.write(json.dumps(call) + "\n")
        self._child.stdin.flush()
        return int(self._child.stdout.readline().split()[1])

    def finish(self) -> int:
        return int(self._child.stdout.readline())

    def answers(self) -> Answers:
        """Every answer of the index, which must be sound, to the last digit."""
        with Index.open(self.index, read_only=True) as index:
            report = index.verify()
            assert report.ok, report.findings
            queries = HashingEmbedder().embed_queries(QUERIES)
            answers = [*index.search(queries, 1000), *index.search_text(QUERIES, 1000)]
            return [
                list(zip(index.chunks([h.chunk_id for h in hits]), [h.score for h in hits], strict=True))
                for hits in answers
            ]

    def close(self) -> None:
        self._child.stdin.close()
        self._child.wait(timeout=60)
        self._child.stdout.close()

    def _save(self, name: str) -> None:
        for path in (self.corpus, self.index):
            if path.exists():
                shutil.copytree(path, self._folder / name / path.name)

    def _write_first_version(self) -> None:
        self.corpus.mkdir()
        rng = random.Random(1)
        for number in range(24):
            lines = (" ".join(rng.choices(WORDS, k=9)) for _ in range(rng.randint(1, 6)))
            (self.corpus / f"{number:02}.txt").write_text("\n\n".join(lines))

    def _write_second_version(self) -> None:
        """A quarter changed, a quarter gone, one moved, one new."""
        rng = random.Random(2)
        for number in range(0, 24, 4):
            path = self.corpus / f"{number:02}.txt"
            path.write_text(path.read_text() + "\n\n" + " ".join(rng.choices(WORDS, k=9)))
            (self.corpus / f"{number + 1:02}.txt").unlink()
        (self.corpus / "02.txt").rename(self.corpus / "moved.txt")
        (self.corpus / "new.txt").write_text(" ".join(rng.choices(WORDS, k=30)))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    yield made
    made.close()


@pytest.mark.parametrize(
    "moment",
    [
        *("embedding:1", "embedding:3", "adding chunks:1", "adding chunks:20", "before a commit:2"),
        *("before a commit:3", "after a commit:7", "after a commit:24", "writing a checkpoint:1"),
        *("syncing a file:1", "syncing a file:2", "syncing a file:3", "syncing a file:4", "the end:1"),
    ],
)
def test_an_ingest_that_is_killed_leaves_a_sound_index_and_the_next_one_completes_it(
    world: World, moment: str
):
    world.restore("empty")
    assert world.ingest(moment) == KILLED
    world.answers()
    assert world.ingest() == 0
    assert world.answers() == world.first


@pytest.mark.parametrize(
    "moment",
    [
        *("embedding:1", "removing chunks:1", "removing chunks:4", "adding chunks:3", "before a commit:2"),
        *("after a commit:9", "pruning:1", "pruning:4", "writing a checkpoint:1", "syncing a file:1"),
        *("syncing a file:2", "syncing a file:3", "syncing a file:4", "clearing up:1", "the end:1"),
    ],
)
def test_an_update_that_is_killed_keeps_what_was_indexed_and_the_next_one_completes_it(
    world: World, moment: str
):
    world.restore("changed")
    with Index.open(world.index, read_only=True) as reader:  # a server that is there all along
        queries = HashingEmbedder().embed_queries(QUERIES)
        assert all(reader.search(queries, 5))
        assert world.ingest(moment) == KILLED
        assert all(len(hits) == 5 for hits in reader.search(queries, 5))
        world.answers()
        assert world.ingest() == 0
        assert world.answers() == world.second
        (hits,) = reader.search(queries[:1], 1000)
        assert [(h.chunk_id, h.score) for h in hits] == [(c.id, score) for c, score in world.second[0]]


def test_what_was_committed_before_the_kill_is_not_read_again(world: World):
    world.restore("empty")
    assert world.ingest("after a commit:16") == KILLED
    with Index.open(world.index, embedder=HashingEmbedder()) as opened:
        done = opened.stats().files["indexed"]
        assert done >= 16
        report = opened.ingest([world.corpus], jobs=1)
    assert (report.indexed, report.unchanged) == (24 - done, done)


def test_killing_at_any_time_with_real_workers_leaves_no_process_and_a_sound_index(world: World):
    world.restore("empty")
    started = time.monotonic()
    assert world.ingest(readers="workers") == 0
    undisturbed_s = time.monotonic() - started
    world.restore("empty")
    rng = random.Random(3)
    for _ in range(3):
        process = world.start(readers="workers")
        time.sleep(rng.uniform(0.05, 0.95) * undisturbed_s)
        _send(process, signal.SIGKILL)
        assert world.finish() in (0, KILLED)
        if (world.index / "catalog.sqlite3").exists():
            world.answers()
    assert world.ingest(readers="workers") == 0
    assert world.answers() == world.first
    assert _orphans() == []


def test_ctrl_c_ends_an_ingest_and_its_workers_at_once(world: World):
    world.restore("empty")
    (world.corpus / "large.txt").write_text("\n\n".join(f"Line {n} of many words." for n in range(60_000)))
    process = world.start(readers="workers")
    _wait_for(lambda: (world.index / "catalog.sqlite3").exists())
    time.sleep(0.5)
    _send(process, signal.SIGINT)
    started = time.monotonic()
    world.finish()
    assert time.monotonic() - started < 20
    with Index.open(world.index, read_only=True) as opened:
        assert opened.verify().ok
        assert opened.stats().last_ingest["outcome"] in ("interrupted", "finished")
    assert _orphans() == []


def _send(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # a quick machine may be done already
        os.kill(process, number)


def _wait_for(condition: object, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def _orphans() -> list[str]:
    """Worker processes that have lost their parent and are still there after a moment."""

    def found() -> list[str]:
        orphans = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes()
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:  # it has just ended
                continue
            if b"indexer.worker_process" in command and parent == "1":
                orphans.append(entry.name)
        return orphans

    _wait_for(lambda: not found(), seconds=10.0)
    return found()
