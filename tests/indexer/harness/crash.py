"""Kills ingests at random moments, with readers at work, and looks at what is left.

    PYTHONPATH=tests/indexer python -m harness.crash --kills 500 [--seed N] [--record]

Each kill -9 falls into one of four runs (a first ingest, an update, a prune, the writing of a checkpoint), at
a random call of a Python or C function, at a random write or sync of the disk, or at a random time. Then the
index is opened as it is and verified: what was committed must still be there, each document as it was before
the run or as it is after it, and the run that is started again must end with the answers of a run that
nothing disturbed, to the last digit. A run that was quicker than its kill does not count. The disk faults of
`harness.faults` follow. The number of a kill and the seed repeat it: `--seed N --only NUMBER`.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from store_fakes import HashingEmbedder

from harness import faults, figures
from harness.world import KILLED, NUM_FILES, QUERIES, World, documents
from indexer.errors import IndexNotFound
from indexer.index import Index

RUNS = {"ingest": "empty", "update": "changed", "prune": "pruned", "checkpoint": "stale"}
KINDS = ("python", "disk", "clock")
RECOVERY_SECONDS = 2.0
LARGE_CHUNKS = 50_000
_PATIENCE_SECONDS = 120.0  # for threads that are ready to run
_TRIES_PER_KILL = (
    2  # a machine that is quicker now than when it was measured ends some runs before their kill
)
_K = 5


@dataclass(frozen=True, slots=True)
class Kill:
    """When to kill what."""

    run: str
    kind: str
    share: float  # of the undisturbed run's calls or seconds


@dataclass(slots=True)
class Undisturbed:
    """What the runs take when nobody disturbs them, by (run, kind): calls, or seconds."""

    extent: dict[tuple[str, str], float] = field(default_factory=dict)

    @classmethod
    def measure(cls, world: World, kinds: Sequence[str] = KINDS) -> Self:
        """Run each once a kind."""
        measured = cls()
        for run, state in RUNS.items():
            for kind in kinds:
                if kind == "disk" and not world.has_faulty_disk:
                    continue
                world.restore(state)
                started = time.perf_counter()
                assert world.ingest("" if kind == "clock" else f"{kind}:0") == 0
                seconds = time.perf_counter() - started
                measured.extent[run, kind] = seconds if kind == "clock" else world.account().calls
                assert world.answers() == world.expected[state]
        return measured

    def kills(self, *, seed: int) -> Iterator[Kill]:
        """Random moments without end, the runs taking turns; the same for the same seed."""
        rng = random.Random(seed)
        kinds = [kind for kind in KINDS if ("ingest", kind) in self.extent]
        for run in itertools.cycle(RUNS):
            yield Kill(run, rng.choice(kinds), rng.random())


class Readers:
    """Threads that search an index without pause while another process writes to it and is killed.

    One keeps the index open, the other opens it each time. All that they find must exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(keep,)) for keep in (True, False)]
        self._queries = HashingEmbedder().embed_queries(QUERIES)
        self.errors: list[str] = []
        self.num_searches = 0
        self.at_work = threading.Event()  # there was a search, or an error

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, keep_open: bool) -> None:
        try:
            while not self._stopping.is_set():
                with contextlib.suppress(IndexNotFound):  # it is not made yet
                    self._search(keep_open)
                self._stopping.wait(0.01)
        except Exception:  # noqa: BLE001 - whatever it is, the harness is to report it
            self.errors.append(traceback.format_exc())
            self.at_work.set()

    def _search(self, keep_open: bool) -> None:
        with Index.open(self._folder, read_only=True) as index:
            while True:
                with index.view() as view:
                    expected = min(_K, view.count())
                    for numbers, _ in view.nearest(self._queries, _K):
                        assert len(view.chunks(numbers)) == expected, "fewer results than there are chunks"
                    self.num_searches += 1
                    self.at_work.set()
                if not keep_open or self._stopping.wait(0.01):
                    return


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a kill left."""

    killed: bool  # False: the run was quicker
    recovery_seconds: float
    num_searches: int


def crash(world: World, kill: Kill, extent: float) -> Aftermath:
    """Kill once, look, run again, look again. AssertionError if a promise is broken."""
    state = RUNS[kill.run]
    world.restore(state)
    with Readers(world.index) as readers:
        status = _run_until(world, kill, extent)
        assert status in (0, KILLED), f"the ingest ended with status {status}"
        done = world.account()
        seconds = 0.0
        with contextlib.suppress(IndexNotFound):  # it was killed before there was one
            recovery = world.recover()
            seconds = recovery.seconds
            if state == "empty":
                assert recovery.indexed >= done.files_done, "what was committed is gone"
            _check_documents(world, state, documents(recovery.answers))
        assert done.files_done <= NUM_FILES
        assert world.ingest() == 0, "the next ingest failed"
        resumed = world.account()
        assert resumed.unchanged >= done.files_done, "what was committed was read again"
        assert world.answers() == world.expected[state], "the answers are not those of an undisturbed run"
        assert readers.at_work.wait(_PATIENCE_SECONDS), "no reader was at work"
    assert not readers.errors, readers.errors[0]
    return Aftermath(status == KILLED, seconds, readers.num_searches)


def _check_documents(world: World, state: str, found: dict[str, list[tuple[int, int, str]]]) -> None:
    """Each is as it was before the run or as it is after it, whole and nothing else."""
    before, after = documents(world.before(state)), documents(world.expected[state])
    for uri in found.keys() | before.keys() | after.keys():
        assert found.get(uri) in (before.get(uri), after.get(uri)), f"{uri} is neither old nor new"


def _run_until(world: World, kill: Kill, extent: float) -> int:
    """Ingest until the moment of the kill; the exit status."""
    if kill.kind != "clock":
        return world.ingest(f"{kill.kind}:{1 + int(kill.share * (extent - 1))}")
    process = world.start()
    time.sleep(kill.share * extent)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    return world.finish()


def main() -> int:
    parser = argparse.ArgumentParser(prog="harness.crash", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    parser.add_argument("--only", type=int, default=None, help="repeat the kill of this number")
    parser.add_argument("--recovery-seconds", type=float, default=RECOVERY_SECONDS, help="allowed")
    parser.add_argument("--record", action="store_true", help="write the figures into docs/reliability.md")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        try:
            undisturbed = Undisturbed.measure(world)
            counts, slowest, broken = _crash_all(
                world,
                undisturbed,
                _numbered(undisturbed.kills(seed=seed), num_kills=arguments.kills, only=arguments.only),
                num_kills=arguments.kills,
                allowed_seconds=arguments.recovery_seconds,
            )
            large, found = "", {}
            if arguments.only is None:
                large = _recover_large(world, broken, arguments.recovery_seconds)
                found = _inject_all(world, seed, broken)
        finally:
            world.close()
    num_killed = sum(counts[run, "killed"] for run in RUNS)
    lines = [
        f"{num_killed} kills: "
        + ", ".join(f"{run} {counts[run, 'killed']}" for run in RUNS)
        + f"; {counts['finished']} more came after the end of the run and do not count.",
        f"{counts['searches']:,} searches by concurrent readers, {len(broken)} broken promises.",
        f"Longest recovery of this index of {NUM_FILES} files, from opening to the first answers:"
        f" {slowest:.2f} s; allowed {arguments.recovery_seconds:g} s.",
        large,
        *(f"{name}: {outcome}." for name, outcome in found.items()),
        f"Seed {seed}, {time.perf_counter() - started:,.0f} s.",
    ]
    print(*lines, sep="\n")
    summary = {"kills": num_killed, "recovery_seconds": round(slowest, 3), "broken": len(broken)}
    print(json.dumps({"harness": "crash", "seed": seed, **summary}))
    if arguments.record:
        figures.record("crash", lines)
    return 1 if broken else 0


def _numbered(kills: Iterator[Kill], *, num_kills: int, only: int | None) -> Iterator[tuple[int, Kill]]:
    """The kills with their numbers: one of them, or enough for some to come after the end of their run."""
    first, last = (0, _TRIES_PER_KILL * num_kills) if only is None else (only, only + 1)
    return itertools.islice(enumerate(kills), first, last)


def _crash_all(
    world: World,
    undisturbed: Undisturbed,
    kills: Iterator[tuple[int, Kill]],
    *,
    num_kills: int,
    allowed_seconds: float,
) -> tuple[Counter, float, list[str]]:
    """Kill until so many have struck."""
    counts: Counter = Counter()
    slowest, broken = 0.0, []
    for number, kill in kills:
        try:
            aftermath = crash(world, kill, undisturbed.extent[kill.run, kill.kind])
            slowest = max(slowest, aftermath.recovery_seconds)
            late = aftermath.recovery_seconds > allowed_seconds
            assert not late, f"recovery took {aftermath.recovery_seconds:.2f} s"
        except Exception:  # noqa: BLE001 - one broken promise must not hide the next
            broken.append(f"kill {number} ({kill}):\n{traceback.format_exc()}")
            print(broken[-1], file=sys.stderr, flush=True)
            continue
        counts[(kill.run, "killed") if aftermath.killed else "finished"] += 1
        counts["searches"] += aftermath.num_searches
        num_killed = sum(counts[run, "killed"] for run in RUNS)
        if aftermath.killed and num_killed % 50 == 0:
            print(f"{num_killed} kills", flush=True)
        if num_killed + len(broken) >= num_kills:
            break
    return counts, slowest, broken


def _recover_large(world: World, broken: list[str], allowed_seconds: float) -> str:
    recovery = world.recover_large(LARGE_CHUNKS)
    if recovery.seconds > allowed_seconds:
        broken.append(f"recovery of {recovery.chunks:,} chunks took {recovery.seconds:.2f} s")
        print(broken[-1], file=sys.stderr, flush=True)
    return (
        f"{recovery.chunks:,} chunks, killed before their first checkpoint: {recovery.seconds:.2f} s, the"
        " quickest of three."
    )


def _inject_all(world: World, seed: int, broken: list[str]) -> dict[str, str]:
    """The disk faults, by name: passed, failed, or why it could not be tried."""
    outcomes = {}
    for name, fault in faults.FAULTS.items():
        try:
            outcomes[name] = fault(world, random.Random(seed))
        except Exception:  # noqa: BLE001
            outcomes[name] = "failed"
            broken.append(f"{name}:\n{traceback.format_exc()}")
            print(broken[-1], file=sys.stderr, flush=True)
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
