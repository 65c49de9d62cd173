"""What is left when an ingest is killed, and what comes of it when it is run again."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import crash
from harness.faults import FAULTS
from harness.world import KILLED, QUERIES, World, documents
from store_fakes import HashingEmbedder

from indexer.errors import IndexNotFound
from indexer.index import Index

NUM_RANDOM_KILLS = 12  # `make crash` takes 500


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
        *("after a commit:6", "pruning:1", "pruning:4", "writing a checkpoint:1", "syncing a file:1"),
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


@pytest.mark.parametrize(
    "moment", ["", "removing chunks:4", "adding chunks:3", "after a commit:6", "the end:1"]
)
def test_an_update_that_is_killed_while_the_checkpoint_is_behind_loses_nothing(world: World, moment: str):
    world.restore("changed")
    before = vectors_of(world)
    assert world.ingest(moment, keeps_checkpoint=True) == (KILLED if moment else 0)
    world.answers()
    assert world.ingest(keeps_checkpoint=True) == 0
    assert vectors_of(world) == before
    assert world.answers() == world.second
    assert world.ingest() == 0  # which catches up
    assert vectors_of(world) != before
    assert world.answers() == world.second


def test_an_index_that_was_being_made_when_its_process_was_killed_is_none_yet(world: World):
    """At each of the first writes and syncs, among them the one with a journal that nobody may roll back."""
    if not world.has_faulty_disk:
        pytest.skip("needs Linux and a C compiler")
    for moment in range(1, 13):
        world.restore("empty")
        assert world.ingest(f"disk:{moment}") == KILLED
        with pytest.raises(IndexNotFound):
            world.recover()
    assert world.ingest() == 0
    assert world.answers() == world.first


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
    killed = []
    for _ in range(3):
        killed.append(world.start(readers="workers"))
        time.sleep(rng.uniform(0.05, 0.95) * undisturbed_s)
        _send(killed[-1], signal.SIGKILL)
        assert world.finish() in (0, KILLED)
        with contextlib.suppress(IndexNotFound):  # it was killed before there was one
            world.answers()
    assert world.ingest(readers="workers") == 0
    assert world.answers() == world.first
    _wait_for(lambda: not _has_workers(*killed), "the workers to end")


def test_killing_at_random_moments_with_readers_at_work_breaks_no_promise(world: World):
    """By calls, not by the clock, so that a slow machine is killed at the same places."""
    undisturbed = crash.Undisturbed.measure(world, kinds=("python", "disk"))
    kills = list(itertools.islice(undisturbed.kills(seed=4), NUM_RANDOM_KILLS))
    assert {kill.run for kill in kills} == set(crash.RUNS)
    for number, kill in enumerate(kills):
        aftermath = crash.crash(world, kill, undisturbed.extent[kill.run, kill.kind])
        assert aftermath.num_searches > 0, f"kill {number}: no reader was at work"


def test_an_index_that_lost_its_checkpoint_answers_from_the_catalog(world: World):
    """`make crash` measures how long that takes with many more chunks."""
    recovery = world.recover_large(400)
    assert recovery.chunks >= 400
    assert recovery.indexed == 1 + len(list(world.corpus.glob("[0-9]*.txt")))
    assert all(len(hits) == recovery.chunks for hits in recovery.answers[: len(QUERIES)])


def test_the_crash_harness_would_notice_a_document_of_which_only_a_part_is_there(world: World):
    world.restore("changed")
    found = documents(world.recover().answers)
    crash._check_documents(world, "changed", found)
    uri = next(uri for uri, chunks in found.items() if len(chunks) > 1)
    for torn in (found[uri][1:], found[uri][:-1], [*found[uri], (0, 1, "x")]):
        with pytest.raises(AssertionError, match="neither old nor new"):
            crash._check_documents(world, "changed", found | {uri: torn})


@pytest.mark.parametrize("name", FAULTS)
def test_a_disk_that_fails_is_a_typed_error_and_loses_nothing(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("harness.faults.NUM_MOMENTS", 3)  # `make crash` takes more
    outcome = FAULTS[name](world, random.Random(5))
    if outcome.startswith("not tried"):
        pytest.skip(outcome)


def test_ctrl_c_ends_an_ingest_and_its_workers_at_once(world: World):
    world.restore("empty")
    (world.corpus / "large.txt").write_text("\n\n".join(f"Line {n} of many words." for n in range(60_000)))
    process = world.start(readers="workers")
    _wait_for(lambda: _has_workers(process), "the workers to start")
    _send(process, signal.SIGINT)
    started = time.monotonic()
    world.finish()
    assert time.monotonic() - started < 60
    with Index.open(world.index, read_only=True) as opened:
        assert opened.verify().ok
        assert opened.stats().last_ingest["outcome"] in ("interrupted", "finished")
    _wait_for(lambda: not _has_workers(process), "the workers to end")


def vectors_of(world: World) -> list[str]:
    return sorted(path.name for path in world.index.glob("vectors-*"))


def _send(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # a quick machine may be done already
        os.kill(process, number)


def _wait_for(condition: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} seconds for {what}"
        time.sleep(0.05)


def _has_workers(*parents: int) -> bool:
    """Whether parse workers are alive that one of the processes has started: it is their last argument."""
    ends = tuple(b"\0%d\0" % parent for parent in parents)
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            command = (entry / "cmdline").read_bytes()
            if b"indexer.worker_process" in command and command.endswith(ends):
                return True
    return False
