"""A corpus in two versions, an index of it, and processes that ingest it and may be killed at any moment."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from store_fakes import HashingEmbedder, WideEmbedder

from harness import disk_faults
from indexer.index import Index
from indexer.types import Chunk

WORDS = ("ferry", "heron", "tide", "crown", "bridge", "apple", "pond", "mill", "stork", "toll", "harbour")
QUERIES = ("heron by the pond", "ferry toll", "tide mill", "harbour")
KILLED = -signal.SIGKILL
NUM_FILES = 24

Answers = list[list[tuple[Chunk, float]]]


@dataclass(slots=True)
class Account:
    """What an ingest wrote down on its way."""

    files_done: int = 0  # committed, as it told its caller
    indexed: int = 0
    unchanged: int = 0
    calls: int = 0  # that were counted
    error: str = ""  # the code of the typed error that ended it


@dataclass(slots=True)
class Recovery:
    """An index that was opened again after a crash."""

    seconds: float  # until the first questions were answered
    generation: int
    indexed: int  # files
    chunks: int
    answers: Answers = field(repr=False)


class World:
    """Folders are restored by name: "empty" (nothing indexed), "first" (as indexed), "changed" (the files are
    of the second version, the index is not yet), "pruned" (files are gone, from the index not yet) and
    "stale" (all is indexed, and the checkpoint of the vectors is gone)."""

    def __init__(self, folder: Path) -> None:
        self.corpus = folder / "corpus"
        self.index = folder / "index"
        self.has_faulty_disk = disk_faults.library() is not None
        self._folder = folder
        self._journal = folder / "journal"
        self._child = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("ingest_child.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(),
        )
        self.expected: dict[str, Answers] = {}
        self._write_first_version()
        self._save("empty")
        assert self.ingest() == 0
        self.expected["empty"] = self.first = self.answers()
        self._save("first")
        self._write_second_version()
        self._save("changed")
        assert self.ingest() == 0
        self.expected["changed"] = self.second = self.answers()
        self.restore("first")
        for number in range(0, NUM_FILES, 4):
            (self.corpus / f"{number:02}.txt").unlink()
        self._save("pruned")
        assert self.ingest() == 0
        self.expected["pruned"] = self.answers()
        self.restore("first")
        for path in self.index.glob("vectors*"):
            path.unlink()
        self._save("stale")
        self.expected["stale"] = self.first

    def before(self, name: str) -> Answers:
        """What the restored index answers as it is, before it is ingested into."""
        return [] if name == "empty" else self.first

    def restore(self, name: str) -> None:
        for path in (self.corpus, self.index):
            shutil.rmtree(path, ignore_errors=True)
            if (self._folder / name / path.name).exists():
                shutil.copytree(self._folder / name / path.name, path)

    def ingest(self, moment: str = "", **more: Any) -> int:
        """Ingest, to the end or until the moment; the exit status."""
        self.start(moment, **more)
        return self.finish()

    def start(self, moment: str = "", **more: Any) -> int:
        """Begin to ingest; the process id. Options are the fields of `ingest_child.Call`."""
        self._journal.unlink(missing_ok=True)
        call = {"index": str(self.index), "corpus": str(self.corpus), "moment": moment}
        self._child.stdin.write(json.dumps({**call, "journal": str(self._journal), **more}) + "\n")
        self._child.stdin.flush()
        return int(self._child.stdout.readline().split()[1])

    def finish(self) -> int:
        return int(self._child.stdout.readline())

    def account(self) -> Account:
        """Of the last ingest, however it ended."""
        account = Account()
        if self._journal.exists():
            for line in self._journal.read_text().splitlines():
                what, value = json.loads(line)
                setattr(account, what.replace(" ", "_"), value)
        return account

    def answers(self) -> Answers:
        """Every answer of the index, which must be sound, to the last digit."""
        return self.recover().answers

    def recover(self, embedder: HashingEmbedder | None = None) -> Recovery:
        """Open the index again, as a server would, ask it everything, and verify it."""
        queries = (embedder or HashingEmbedder()).embed_queries(QUERIES)
        started = time.perf_counter()
        with Index.open(self.index, read_only=True) as index:
            found = [*index.search(queries, 1000), *index.search_text(QUERIES, 1000)]
            seconds = time.perf_counter() - started
            answers = [
                list(zip(index.chunks([h.chunk_id for h in hits]), [h.score for h in hits], strict=True))
                for hits in found
            ]
            report = index.verify()
            assert report.ok, report.findings
            stats = index.stats()
            return Recovery(seconds, index.generation, stats.files.get("indexed", 0), stats.chunks, answers)

    def recover_large(self, num_chunks: int) -> Recovery:
        """The recovery of an index of about so many chunks, killed when it was to write its checkpoint.

        The quickest of three: it is always the same work, and another program may hold up one of them.
        """
        self.restore("empty")
        rng = random.Random(3)
        paragraphs = (" ".join(rng.choices(WORDS, k=40)) for _ in range(num_chunks))
        (self.corpus / "large.txt").write_text("\n\n".join(paragraphs))
        assert self.ingest("writing a checkpoint:1", wide=True) == KILLED
        return min((self.recover(WideEmbedder()) for _ in range(3)), key=lambda recovery: recovery.seconds)

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
        for number in range(NUM_FILES):
            lines = (" ".join(rng.choices(WORDS, k=9)) for _ in range(rng.randint(1, 6)))
            (self.corpus / f"{number:02}.txt").write_text("\n\n".join(lines))

    def _write_second_version(self) -> None:
        """A quarter changed, a quarter gone, one moved, one new."""
        rng = random.Random(2)
        for number in range(0, NUM_FILES, 4):
            path = self.corpus / f"{number:02}.txt"
            path.write_text(path.read_text() + "\n\n" + " ".join(rng.choices(WORDS, k=9)))
            (self.corpus / f"{number + 1:02}.txt").unlink()
        (self.corpus / "02.txt").rename(self.corpus / "moved.txt")
        (self.corpus / "new.txt").write_text(" ".join(rng.choices(WORDS, k=30)))


def documents(answers: Answers) -> dict[str, list[tuple[int, int, str]]]:
    """By uri, start, end and text of every chunk that the first question found, in order."""
    found: dict[str, list[tuple[int, int, str]]] = {}
    for chunk, _ in answers[0] if answers else ():
        found.setdefault(chunk.uri, []).append((chunk.start, chunk.end, chunk.text))
    return {uri: sorted(chunks) for uri, chunks in found.items()}


def _environment() -> dict[str, str]:
    library = disk_faults.library()
    preload = {"LD_PRELOAD": str(library)} if library is not None else {}
    return os.environ | {"OMP_NUM_THREADS": "1"} | preload
