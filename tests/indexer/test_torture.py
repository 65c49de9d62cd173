"""A little of the torture that `make torture` does in full: damaged files, and files made to do harm."""

from __future__ import annotations

import contextlib
import io
import os
import random
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from harness import bombs, figures, mutations, torture
from harness.process_tree import MemorySampler, tree_bytes

from indexer import reading
from indexer.parsers import ParseOptions
from indexer.parsers.archives import DocumentArchive
from indexer.parsers.errors import TruncatedFile
from indexer.worker_values import ParseLimits

CORPUS = Path(__file__).parents[2] / "examples" / "corpus"
LIMITS = ParseLimits(seconds=120)
OPTIONS = ParseOptions(ocr=False)
NUM_DAMAGED = 30


@pytest.fixture(autouse=True)
def only_new_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests have left in this process does not."""
    monkeypatch.setattr(torture, "MAX_TREE_BYTES", torture.MAX_TREE_BYTES + tree_bytes(os.getpid()))


@pytest.fixture
def whole() -> list[Path]:
    """Documents of every kind in the example corpus that is read without OCR."""
    paths = sorted(path for path in CORPUS.rglob("*") if path.is_file())
    assert len(paths) > 15
    return paths


def test_damaged_files_and_bombs_are_all_accounted_for_within_their_limits(
    tmp_path: Path, whole: list[Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reading, "ParsePool", torture.WatchedPool)
    monkeypatch.setattr(
        torture.Plan, "_bomb", lambda plan, folder, _: {"bomb": bombs.write(folder, bombs.QUICK)}
    )
    plan = torture.Plan(whole=whole, num_mutated=NUM_DAMAGED, bomb_names=["all of them"], seed=1)
    total = torture.run(plan, tmp_path, limits=LIMITS, options=OPTIONS, jobs=2)
    assert total.broken == []
    assert total.unforeseen == {}, "a failure that no parser has a name for"
    assert total.files == len(whole) + NUM_DAMAGED + len(bombs.QUICK) == sum(total.outcomes.values())
    assert total.outcomes["damaged: indexed"] > 0, "some damage is survived"
    assert total.outcomes["bomb: failed, forbidden-entities"] == 3
    assert total.outcomes["bomb: failed, decompression-bomb"] > 0
    assert 0 < total.peak_bytes <= torture.MAX_TREE_BYTES


def test_a_member_of_a_zip_is_never_unpacked_beyond_what_its_directory_says():
    """200 MiB behind an entry that says 200 bytes. Other threads' memory is counted with it: hence 32 MiB."""
    archive = DocumentArchive(bombs.BOMBS["lying zip.docx"](), name="lying zip.docx", options=OPTIONS)
    tracemalloc.start()
    try:
        with pytest.raises(TruncatedFile):
            archive.read("word/document.xml")
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_a_run_that_was_interrupted_goes_on_where_it_stopped(tmp_path: Path, whole: list[Path]):
    plan = torture.Plan(whole=whole[:3], num_mutated=0, bomb_names=[], seed=1)
    more = {"size": 1, "limits": LIMITS, "options": OPTIONS, "jobs": 1}
    first = torture.run(plan, tmp_path, max_pieces=1, **more)
    assert first.files == 1
    both = torture.run(plan, tmp_path, max_pieces=1, **more)
    assert both.files == 2
    assert both.seconds > first.seconds


def test_folders_may_be_named_from_where_one_is(
    tmp_path: Path, whole: list[Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(whole[0].parent)
    work = Path(os.path.relpath(tmp_path))
    plan = torture.Plan(whole=[Path(whole[0].name)], num_mutated=1, bomb_names=[], seed=1)
    total = torture.run(plan, work, limits=LIMITS, options=OPTIONS, jobs=1)
    assert total.broken == []
    assert sum(total.outcomes.values()) == total.files == 2


def test_a_file_that_nobody_accounts_for_and_one_that_fails_without_a_reason_are_broken_promises(
    tmp_path: Path, whole: list[Path], monkeypatch: pytest.MonkeyPatch
):
    """The harness itself: it would notice."""
    monkeypatch.setattr(torture.Index, "files", lambda index: iter(()))
    plan = torture.Plan(whole=whole[:1], num_mutated=0, bomb_names=[], seed=1)
    total = torture.run(plan, tmp_path, limits=LIMITS, options=OPTIONS, jobs=1)
    assert total.broken == [f"nothing is known of {whole[0].name}"]


@pytest.mark.parametrize("name", mutations.MUTATIONS)
def test_a_mutation_changes_the_file_the_same_way_for_the_same_seed(name: str):
    data, donor = bytes(range(256)) * 8 + b"/Length 4711", b"donor" * 500
    results = []
    for _ in range(2):
        damaged = bytearray(data)
        mutations.MUTATIONS[name](damaged, random.Random(7), donor)
        results.append(bytes(damaged))
    assert results[0] == results[1] != data


def test_zip_based_documents_are_also_damaged_inside():
    data = bombs.BOMBS["wide cell.docx"]()
    opened = 0
    for seed in range(20):
        _, damaged = mutations.mutate(data, random.Random(seed), b"donor")
        with contextlib.suppress(zipfile.BadZipFile, ValueError, NotImplementedError):
            opened += zipfile.ZipFile(io.BytesIO(damaged)).testzip() is None and damaged != data
    assert opened > 5


def test_memory_is_that_of_the_whole_tree_of_processes():
    """A child that is small, and whose own child is not."""
    large = "data = bytearray(b'x') * (64 << 20); print(flush=True); input()"
    small = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    command = [sys.executable, "-c", small, large]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child, MemorySampler(root=child.pid, interval_s=0.01) as memory:
        child.stdout.readline()
        assert tree_bytes(child.pid) > 64 << 20
        deadline = time.monotonic() + 120
        while memory.peak_bytes <= 64 << 20:
            assert time.monotonic() < deadline, "nothing was sampled"
            time.sleep(0.01)
        child.stdin.close()


def test_figures_replace_what_stood_between_their_markers_and_nothing_else(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- torture: begin -->\nold\n<!-- torture: end -->\nafter\n")
    figures.record("torture", ["| new |"], page=page)
    text = page.read_text()
    assert text.startswith("before\n<!-- torture: begin -->\n")
    assert text.endswith("| new |\n\n<!-- torture: end -->\nafter\n")
    assert "old" not in text
    assert figures.machine() in text
    with pytest.raises(ValueError, match="no markers for crash"):
        figures.record("crash", [], page=page)
