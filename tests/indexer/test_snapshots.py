"""Snapshots: a state of the index that was kept, and the way back to it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from store_fakes import HashingEmbedder

from indexer import snapshots
from indexer.errors import (
    IndexLocked,
    IndexNotWritable,
    InvalidSnapshotName,
    SnapshotDamaged,
    SnapshotExists,
    SnapshotNotFound,
)
from indexer.index import Index
from indexer.writer_lock import writer_lock

QUESTIONS = ["ferry leaves nine", "herons pond", "lamp dusk"]


def answers(index: Index) -> list[Any]:
    vectors = HashingEmbedder().embed_queries(QUESTIONS)
    near, matching = index.search(vectors, 10), index.search_text(QUESTIONS, 10)
    return [near, matching, index.chunks([hit.chunk_id for hits in near for hit in hits])]


@pytest.fixture
def kept(index: Index, corpus: Path) -> list[Any]:
    """The answers of a state that was kept as `before`, from which the index has moved on since."""
    index.ingest([corpus])
    index.create_snapshot("before")
    found = answers(index)
    (corpus / "lamp.txt").write_text("The lamp is lit at dusk.\n")
    (corpus / "heron.txt").unlink()
    index.ingest([corpus], prune=True)
    assert answers(index) != found
    return found


def test_restored_the_index_answers_as_it_did_and_readers_see_a_new_generation(
    index: Index, kept: list[Any], corpus: Path
):
    with Index.open(index.folder, read_only=True) as reader:
        answers(reader)
        generation = reader.generation
        index.restore_snapshot("before")
        assert answers(reader) == kept
        assert reader.generation == index.generation > generation
        assert not reader.changes_since(generation).complete
        assert reader.verify().findings == ()
    assert answers(index) == kept


def test_after_a_restore_an_ingest_brings_in_again_what_was_undone(
    index: Index, kept: list[Any], corpus: Path
):
    since = answers(index)
    with Index.open(index.folder, read_only=True) as reader:
        answers(reader)
        index.restore_snapshot("before")
        answers(reader)
        report = index.ingest([corpus], prune=True)
        assert (report.indexed, report.removed, report.unchanged) == (1, 1, 2)
        assert answers(index) == answers(reader) == since
        assert index.verify().findings == reader.verify().findings == ()


def test_a_reader_that_kept_its_own_state_open_is_not_disturbed(index: Index, kept: list[Any]):
    with Index.open(index.folder, read_only=True) as reader, reader.view() as view:
        count = view.count()
        numbers = view.nearest(HashingEmbedder().embed_queries(["lamp dusk"]), 1)[0][0]
        index.restore_snapshot("before")
        assert view.count() == count
        assert view.chunks(numbers)[0].text == "The lamp is lit at dusk."


def test_a_chunk_number_is_never_used_again(index: Index, kept: list[Any], corpus: Path):
    def last() -> int:
        with index.catalog.read() as connection:
            return connection.execute("SELECT max(rowid) FROM chunks").fetchone()[0]

    used = last()
    index.restore_snapshot("before")
    (corpus / "pier.txt").write_text("The pier is closed.\n")
    index.ingest([corpus])
    assert last() > used


def test_a_snapshot_of_nothing_makes_the_index_empty_again(index: Index, corpus: Path):
    index.create_snapshot("empty")
    index.ingest([corpus])
    index.restore_snapshot("empty")
    assert index.search(HashingEmbedder().embed_queries(["ferry"]), 5) == [[]]
    assert index.search_text(["ferry"], 5) == [[]]
    index.ingest([corpus])
    assert index.search_text(["ferry"], 5) != [[]]
    assert index.verify().findings == ()


def test_a_snapshot_made_during_an_ingest_holds_whole_commits_only(
    index: Index, corpus: Path, embedder: HashingEmbedder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("indexer.ingest.WINDOW_FILES", 1)
    made = []
    embedder.before_embedding = lambda texts: made.append(index.create_snapshot(f"at-{len(made)}"))
    index.ingest([corpus])
    embedder.before_embedding = lambda texts: None
    assert [info.documents for info in made] == [0, 1, 2]
    for info in made:
        index.restore_snapshot(info.name)
        assert index.verify().findings == ()
        assert index.stats().documents == info.documents


def test_snapshots_are_listed_oldest_first_and_deleted_by_name(index: Index, corpus: Path):
    assert index.snapshots() == []
    first = index.create_snapshot("zebra")
    index.ingest([corpus])
    second = index.create_snapshot("aardvark")
    assert index.snapshots() == [first, second]
    assert (second.documents, second.generation) == (3, index.generation)
    index.delete_snapshot("zebra")
    assert index.snapshots() == [second]
    assert [path.name for path in (index.folder / "snapshots").iterdir()] == ["aardvark"]
    with Index.open(index.folder, read_only=True) as reader:  # looking after them needs no write access
        assert reader.snapshots() == [second]
        with pytest.raises(IndexNotWritable):
            reader.restore_snapshot("aardvark")


def test_a_snapshot_is_restored_by_the_generation_that_it_was_made_of(index: Index, kept: list[Any]):
    (info,) = index.snapshots()
    assert index.restore_snapshot(str(info.generation)) == info
    assert answers(index) == kept


def test_of_several_snapshots_of_a_generation_the_last_is_restored_and_a_name_comes_first(
    index: Index, corpus: Path
):
    index.ingest([corpus])
    generation = str(index.generation)
    index.create_snapshot("first")
    index.create_snapshot("second")
    assert index.restore_snapshot(generation).name == "second"
    (corpus / "lamp.txt").write_text("The lamp is lit at dusk.\n")
    index.ingest([corpus])
    index.create_snapshot(generation)  # called like the number of another one
    assert index.restore_snapshot(generation).name == generation
    with pytest.raises(SnapshotNotFound, match="no snapshot of generation 4711"):
        index.restore_snapshot("4711")


def test_a_snapshot_that_is_deleted_while_they_are_listed_is_not_called_damaged(
    index: Index, monkeypatch: pytest.MonkeyPatch
):
    index.create_snapshot("one")
    index.create_snapshot("two")
    real = snapshots._manifest

    def read(folder: Path, name: str) -> Any:
        monkeypatch.setattr(snapshots, "_manifest", real)
        index.delete_snapshot(name)
        return real(folder, name)

    monkeypatch.setattr(snapshots, "_manifest", read)
    (left,) = index.snapshots()
    assert not left.damaged


def test_names_lead_to_no_other_folder_and_are_given_once(index: Index):
    for name in ("../outside", "", ".hidden", "a/b", "x" * 65, "new\nline"):
        with pytest.raises(InvalidSnapshotName):
            index.create_snapshot(name)
        with pytest.raises(InvalidSnapshotName):
            index.delete_snapshot(name)
    index.create_snapshot("v1.0")
    with pytest.raises(SnapshotExists):
        index.create_snapshot("v1.0")
    with pytest.raises(SnapshotNotFound):
        index.restore_snapshot("v2.0")


@pytest.mark.parametrize("file", ["catalog.sqlite3", "snapshot.json"])
def test_a_damaged_snapshot_is_refused_and_changes_nothing(index: Index, kept: list[Any], file: str):
    path = index.folder / "snapshots" / "before" / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    found, generation = answers(index), index.generation
    with pytest.raises(SnapshotDamaged):
        index.restore_snapshot("before")
    assert (answers(index), index.refreshed_version().generation) == (found, generation)
    index.delete_snapshot("before")


def test_nothing_is_restored_under_a_running_ingest(index: Index, kept: list[Any]):
    with writer_lock(index.folder, holder=lambda: None), pytest.raises(IndexLocked):
        index.restore_snapshot("before")


def killed(action: Callable[[], object], place: str, call: int) -> None:
    """Does something in a process that dies at the n-th call of a function of the module."""
    pid = os.fork()
    if pid == 0:
        owner: Any = snapshots.Catalog if place == "replace_with" else snapshots
        real, calls = getattr(owner, place), []

        def deadly(*arguments: Any, **options: Any) -> Any:
            calls.append(1)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        setattr(owner, place, deadly)
        action()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize(("place", "call"), [("_copy", 1), ("_sync", 1), ("_sync", 3), ("_sync", 4)])
def test_killed_while_it_is_made_there_is_a_whole_snapshot_or_none(
    index: Index, corpus: Path, place: str, call: int
):
    index.ingest([corpus])
    killed(lambda: _open(index).create_snapshot("s"), place, call)
    assert [info.damaged for info in index.snapshots()] == ([False] if (place, call) == ("_sync", 4) else [])
    index.create_snapshot("t")
    assert not list((index.folder / "snapshots").glob(".*"))  # the remains are cleared up


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux says when a process was started")
def test_what_was_left_behind_goes_though_a_later_process_has_the_number_of_the_one_that_made_it(
    index: Index,
):
    """In a container the numbers are few: the next server has the number of the one that was killed."""
    left, in_use = (index.folder / "snapshots" / f".{os.getpid()}-{name}.tmp" for name in ("dead", "beef"))
    left.mkdir(parents=True)
    (left / "catalog.sqlite3").write_bytes(b"half")
    os.utime(left, (1_000_000_000, 1_000_000_000))
    in_use.mkdir()  # by another thread of this process
    index.create_snapshot("s")
    assert not left.exists()
    assert in_use.exists()


@pytest.mark.parametrize(("place", "call"), [("_sha256", 1), ("_continue_from", 1), ("replace_with", 1)])
def test_killed_while_it_is_restored_the_index_is_as_before(
    index: Index, kept: list[Any], place: str, call: int
):
    found = answers(index)
    killed(lambda: _open(index).restore_snapshot("before"), place, call)
    with _open(index) as again:
        assert again.verify().findings == ()
        assert answers(again) == found
        again.restore_snapshot("before")
        assert answers(again) == kept


def _open(index: Index) -> Index:
    return Index.open(index.folder, embedder=HashingEmbedder())


def test_killed_after_the_restore_the_checkpoint_is_made_anew(index: Index, kept: list[Any]):
    pid = os.fork()
    if pid == 0:
        opened = _open(index)
        opened._save_vectors = lambda: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
        opened.restore_snapshot("before")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    with _open(index) as again:
        assert answers(again) == kept
        assert again.verify().findings == ()
