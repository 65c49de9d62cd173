"""Ingests files that are whole, files that are damaged and files that are bombs, and accounts for each.

    PYTHONPATH=tests/indexer python -m harness.torture FOLDER... [--files N] [--record]

Every file must end indexed, unchanged, skipped, or failed with a reason and a remedy; no worker process may
work past its time limit; the memory of all processes together must stay below 1.5 GB. The files that are
whole are then ingested once more, and nothing may be read or embedded again. With `--work DIR` a run that was
interrupted goes on where it stopped, and `--pieces N` stops after so many pieces, so that a full run can be
done in parts. The mutations are the same for the same seed.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from store_fakes import HashingEmbedder

from harness import bombs, figures, mutations
from harness.process_tree import MemorySampler
from indexer import reading
from indexer.discovery import file_uri
from indexer.index import Index
from indexer.parsers import ParseOptions
from indexer.worker_values import ParseLimits
from indexer.workers import ParsePool

MAX_TREE_BYTES = 1_500_000_000
PIECE_FILES = 100
_LATE_SECONDS = 5.0  # after a worker's deadline and grace, from which it is past its limit
_SILENT_SECONDS = 1800.0  # without a file that is done, after which something hangs that no limit reaches
_FILE_IN_MESSAGE = re.compile(
    r"^.*? (?=is |are |was |has |have |holds |needs |gives |cannot |could |unpacks |ends |declares )"
)

MakePiece = Callable[[], dict[str, list[Path]]]


@dataclass(slots=True)
class Outcome:
    """What a piece of the run came to; pieces add up."""

    files: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)  # "origin: status or code" to files
    unforeseen: Counter[str] = field(default_factory=Counter)  # causes that no parser has a name for
    broken: list[str] = field(default_factory=list)  # promises
    peak_bytes: int = 0  # of all processes together, as sampled
    worker_bytes: int = 0  # of the largest worker, which the kernel has noted to the page
    slowest_seconds: float = 0.0
    slowest: str = ""
    seconds: float = 0.0

    def add(self, other: Outcome) -> None:
        self.files += other.files
        self.outcomes += other.outcomes
        self.unforeseen += other.unforeseen
        self.broken += other.broken
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        self.worker_bytes = max(self.worker_bytes, other.worker_bytes)
        if other.slowest_seconds > self.slowest_seconds:
            self.slowest_seconds, self.slowest = other.slowest_seconds, other.slowest
        self.seconds += other.seconds

    def to_json(self) -> str:
        return json.dumps({field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        values: dict[str, Any] = json.loads(text)
        counters = {name: Counter(values.pop(name)) for name in ("outcomes", "unforeseen")}
        return cls(**values, **counters)


class WatchedPool(ParsePool):
    """A pool of parse workers that is watched: how long each file takes, and whether its limit holds."""

    current: WatchedPool | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        WatchedPool.current = self
        self._stopped = threading.Event()
        self.seconds: dict[str, float] = {}
        self.late: set[str] = set()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        self._stopped.set()
        self._watcher.join()

    def _assign(self, worker: Any, job: Any) -> None:
        job.since = time.monotonic()
        super()._assign(worker, job)

    def _watch(self) -> None:
        while not self._stopped.wait(0.5):
            for worker in list(self._workers):
                job = worker.job
                if job is not None and worker.is_ready and worker.process.returncode is None:
                    name = job.task.path.name
                    self.seconds[name] = max(self.seconds.get(name, 0.0), time.monotonic() - job.since)
                    if time.monotonic() > worker.deadline + _LATE_SECONDS:
                        self.late.add(name)


def ingest_piece(
    index: Index, files: dict[str, list[Path]], *, limits: ParseLimits, options: ParseOptions, jobs: int
) -> Outcome:
    """Ingest files by origin, and look at what became of each."""
    outcome = Outcome(files=sum(map(len, files.values())))
    started = time.perf_counter()
    paths = [path for group in files.values() for path in group]
    with MemorySampler() as memory, _ending_after_silence() as wait_on:
        report = index.ingest(
            paths, jobs=jobs, parse_limits=limits, parse_options=options, progress=lambda _: wait_on()
        )
    outcome.seconds = time.perf_counter() - started
    outcome.peak_bytes = memory.peak_bytes
    outcome.worker_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
    if report.found != len(paths):
        outcome.broken.append(f"{len(paths)} files were given and {report.found} are accounted for")
    _classify(index, files, outcome)
    pool, WatchedPool.current = WatchedPool.current, None
    if pool is not None:
        outcome.broken += [f"{name} was read past its time limit" for name in sorted(pool.late)]
        slowest = max(pool.seconds, key=lambda name: pool.seconds[name], default="")
        outcome.slowest, outcome.slowest_seconds = slowest, pool.seconds.get(slowest, 0.0)
    return outcome


@contextmanager
def _ending_after_silence() -> Iterator[Callable[[], None]]:
    """End this process, and say where it was, unless what is yielded is called now and then."""

    def wait_on() -> None:
        faulthandler.dump_traceback_later(_SILENT_SECONDS, exit=True)

    wait_on()
    try:
        yield wait_on
    finally:
        faulthandler.cancel_dump_traceback_later()


def _classify(index: Index, files: dict[str, list[Path]], outcome: Outcome) -> None:
    statuses = {status.uri: status for status in index.files()}
    for origin, paths in files.items():
        for path in paths:
            status = statuses.get(file_uri(os.path.realpath(path)))
            if status is None:
                outcome.broken.append(f"nothing is known of {path.name}")
                continue
            if status.status == "failed" and not (status.reason and status.hint and status.code):
                outcome.broken.append(f"{path.name} failed without a reason or a remedy")
            if status.code == "parse-error":
                outcome.unforeseen[_cause(path.name, status.reason)] += 1
            cause = "indexed" if status.status == "indexed" else f"{status.status}, {status.code}"
            outcome.outcomes[f"{origin}: {cause}"] += 1


def _cause(name: str, reason: str) -> str:
    """A failure's reason without the name of the file."""
    return f"{Path(name).suffix} {_FILE_IN_MESSAGE.sub('', reason)[:160]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which files, in which order."""

    whole: Sequence[Path]
    num_mutated: int
    bomb_names: Sequence[str]
    seed: int

    def pieces(self, folder: Path, size: int) -> Iterator[tuple[str, MakePiece]]:
        """Names of the pieces, and what makes their files, by origin."""
        for start in range(0, len(self.whole), size):
            yield f"whole {start}", partial(self._whole, start, size)
        for start in range(0, self.num_mutated, size):
            yield f"damaged {start}", partial(self._damaged, folder, start, size)
        for name in self.bomb_names:
            yield f"bomb {name}", partial(self._bomb, folder, name)

    def _whole(self, start: int, size: int) -> dict[str, list[Path]]:
        return {"whole": list(self.whole[start : start + size])}

    def _damaged(self, folder: Path, start: int, size: int) -> dict[str, list[Path]]:
        folder.mkdir(exist_ok=True)
        numbers = range(start, min(start + size, self.num_mutated))
        return {"damaged": [self._mutated(folder, number) for number in numbers]}

    def _bomb(self, folder: Path, name: str) -> dict[str, list[Path]]:
        return {"bomb": bombs.write(folder, [name])}

    def _mutated(self, folder: Path, number: int) -> Path:
        """The same file for the same number and seed, whatever was made before."""
        rng = random.Random(f"{self.seed} {number}")
        original, donor = rng.choice(self.whole), rng.choice(self.whole)
        kind, data = mutations.mutate(original.read_bytes(), rng, donor.read_bytes())
        path = folder / f"{number:05} {kind} {original.name}"
        path.write_bytes(data)
        return path


def run(
    plan: Plan, work: Path, *, max_pieces: int | None = None, size: int = PIECE_FILES, **more: Any
) -> Outcome:
    """All pieces that are not done yet, or as many as told; the sum of all that were ever done in `work`."""
    done = work / "done.jsonl"
    total, names = Outcome(), set()
    for line in done.read_text(encoding="utf-8").splitlines() if done.exists() else ():
        name, _, values = line.partition("\t")
        total.add(Outcome.from_json(values))
        names.add(name)
    made = work / "made"
    with Index.open(work / "index", embedder=HashingEmbedder()) as index, done.open("a") as journal:
        pieces = ((name, make) for name, make in plan.pieces(made, size) if name not in names)
        for name, make in islice(pieces, max_pieces):
            outcome = ingest_piece(index, make(), **more)
            shutil.rmtree(made, ignore_errors=True)
            journal.write(f"{name}\t{outcome.to_json()}\n")
            journal.flush()
            total.add(outcome)
            print(
                f"{name}: {outcome.files} files, {outcome.seconds:.0f} s, {outcome.peak_bytes / 1e6:.0f} MB,"
                f" slowest {outcome.slowest} {outcome.slowest_seconds:.0f} s",
                *outcome.broken,
                sep="\n  ",
                flush=True,
            )
        if max_pieces is None:
            total.broken += _read_again(index, plan.whole, **more)
        report = index.verify()
        total.broken += [f"verify: {finding.message}" for finding in report.findings]
    if total.peak_bytes > MAX_TREE_BYTES:
        total.broken.append(f"all processes together held {total.peak_bytes / 1e6:,.0f} MB")
    return total


def _read_again(
    index: Index, paths: Sequence[Path], *, limits: ParseLimits, options: ParseOptions, jobs: int
) -> list[str]:
    """What is not as the first time, when files are ingested that have not changed since."""
    report = index.ingest(paths, jobs=jobs, parse_limits=limits, parse_options=options)
    again = report.indexed + report.embedded
    return [f"{again} unchanged files or texts of them were read or embedded again"] if again else []


def report_lines(total: Outcome, plan: Plan) -> list[str]:
    """The account, as Markdown."""
    origins = ("whole", "damaged", "bomb")
    causes = sorted({key.partition(": ")[2] for key in total.outcomes})
    lines = [f"| outcome | {' | '.join(origins)} |", f"| --- |{' ---: |' * len(origins)}"]
    for cause in causes:
        cells = (f"{total.outcomes[f'{origin}: {cause}']:,}" for origin in origins)
        lines.append(f"| {cause} | {' | '.join(cells)} |")
    lines += [
        "",
        f"{total.files:,} files, {sum(total.outcomes.values()):,} accounted for, {len(total.broken)} broken"
        f" promises. Seed {plan.seed}.",
        f"Most resident memory of all processes together: {total.peak_bytes / 1e6:,.0f} MB; of one worker:"
        f" {total.worker_bytes / 1e6:,.0f} MB. Allowed for all: {MAX_TREE_BYTES / 1e6:,.0f} MB.",
        f"Longest that one file was read: {total.slowest_seconds:.0f} s ({total.slowest}). All took"
        f" {total.seconds / 60:,.0f} minutes.",
    ]
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="harness.torture", description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--files", type=int, default=None, help="take a sample of this many whole files")
    parser.add_argument("--mutated", type=int, default=2000, help="damaged files to make")
    parser.add_argument("--bombs", choices=("all", "quick", "none"), default="all")
    parser.add_argument("--only", nargs="+", default=None, metavar="BOMB", help="only these bombs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=ParseLimits().seconds, help="limit for one file")
    parser.add_argument("--no-ocr", action="store_true")
    parser.add_argument("--work", type=Path, default=None, help="keep the state here, to go on later")
    parser.add_argument("--pieces", type=int, default=None, help="stop after this many")
    parser.add_argument("--record", action="store_true", help="write the figures into docs/reliability.md")
    arguments = parser.parse_args()
    reading.ParsePool = WatchedPool
    plan = _plan(arguments)
    limits = ParseLimits(seconds=arguments.seconds)
    options = ParseOptions(ocr=not arguments.no_ocr, soft_seconds=0.75 * arguments.seconds)
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        total = run(
            plan, work, max_pieces=arguments.pieces, limits=limits, options=options, jobs=arguments.jobs
        )
    if total.worker_bytes > MAX_TREE_BYTES:  # between two samples
        total.broken.append(f"a worker held {total.worker_bytes / 1e6:,.0f} MB")
    lines = report_lines(total, plan)
    print(*lines, sep="\n")
    print(*(f"no parser has a name for: {cause} ({n})" for cause, n in total.unforeseen.items()), sep="\n")
    print(*total.broken, sep="\n", file=sys.stderr)
    figures_found = {"files": total.files, "peak_bytes": total.peak_bytes, "broken": len(total.broken)}
    print(json.dumps({"harness": "torture", "seed": plan.seed, **figures_found}))
    if arguments.record:
        figures.record("torture", lines)
    return 1 if total.broken else 0


def _plan(arguments: argparse.Namespace) -> Plan:
    whole = sorted(path for folder in arguments.folders for path in folder.rglob("*") if path.is_file())
    if arguments.files is not None:
        whole = random.Random(arguments.seed).sample(whole, min(arguments.files, len(whole)))
    names = {"all": list(bombs.BOMBS), "quick": list(bombs.QUICK), "none": []}[arguments.bombs]
    names = arguments.only or names
    return Plan(whole=whole, num_mutated=arguments.mutated, bomb_names=names, seed=arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
