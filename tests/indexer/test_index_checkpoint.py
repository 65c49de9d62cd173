from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from store_fakes import HashingEmbedder

from indexer import checkpoint
from indexer.errors import DiskFull, IndexNotWritable, StorageFailed
from indexer.index import Index
from indexer.types import ScoredChunkId
from indexer.vectors import load_faiss

QUERIES = ["when does the ferry leave", "herons", "tide hour"]


@pytest.fixture
def filled(index: Index, corpus: Path) -> Index:
    index.ingest([corpus])
    return index


def answers(folder: Path, *, read_only: bool = True) -> list[list[ScoredChunkId]]:
    """What an index that is opened afresh finds."""
    with Index.open(folder, read_only=read_only) as opened:
        return opened.search(HashingEmbedder().embed_queries(QUERIES), 3)


def the_file(folder: Path) -> Path:
    (path,) = folder.glob("vectors-*")
    return path


def test_an_ingest_leaves_a_checkpoint_that_holds_every_chunk(filled: Index):
    stamp = checkpoint.read_stamp(filled.folder)
    assert stamp is not None
    assert (stamp.generation, stamp.count, stamp.dimension) == (filled.generation, filled.stats().chunks, 32)
    index = load_faiss().read_index(str(filled.folder / stamp.file))  # an ordinary FAISS file
    assert index.ntotal == stamp.count
    assert sorted(p.name for p in filled.folder.glob("vectors*")) == [stamp.file, "vectors.json"]


def test_opening_takes_the_vectors_from_the_checkpoint(filled: Index, monkeypatch: pytest.MonkeyPatch):
    expected = answers(filled.folder)
    monkeypatch.setattr(checkpoint, "VectorIndex", _OnlyAdopt)
    assert answers(filled.folder) == expected


class _OnlyAdopt(checkpoint.VectorIndex):
    def _add(self, added: object) -> None:
        assert not list(added), "the checkpoint was not used"


def _delete_file(folder: Path) -> None:
    the_file(folder).unlink()


def _delete_both(folder: Path) -> None:
    the_file(folder).unlink()
    (folder / "vectors.json").unlink()


def _delete_stamp(folder: Path) -> None:
    (folder / "vectors.json").unlink()


def _flip_a_bit(folder: Path) -> None:
    data = bytearray(the_file(folder).read_bytes())
    data[len(data) // 2] ^= 1
    the_file(folder).write_bytes(data)


def _truncate(folder: Path) -> None:
    os.truncate(the_file(folder), the_file(folder).stat().st_size // 2)


def _empty(folder: Path) -> None:
    os.truncate(the_file(folder), 0)


def _garbage_stamp(folder: Path) -> None:
    (folder / "vectors.json").write_text('{"format": 1')


def _stamp_that_leads_elsewhere(folder: Path) -> None:
    name = the_file(folder).name
    the_file(folder).rename(folder.parent / name)
    _edit_stamp(folder, file=f"../{name}")


def _stamp_of_another_catalog(folder: Path) -> None:
    _edit_stamp(folder, token="0" * 32)


def _stamp_of_the_future(folder: Path) -> None:
    stamp = json.loads((folder / "vectors.json").read_bytes())
    later = f"vectors-{stamp['generation'] + 1}.faiss"
    the_file(folder).rename(folder / later)
    _edit_stamp(folder, generation=stamp["generation"] + 1, file=later)


def _another_kind_of_index(folder: Path) -> None:
    """A FAISS file that is sound and stamped, but not ours: its vectors lie elsewhere."""
    faiss = load_faiss()
    stamp = json.loads((folder / "vectors.json").read_bytes())
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(32))
    index.add_with_ids(np.ones((stamp["count"], 32), np.float32), np.arange(1, stamp["count"] + 1))
    _write_stamped(folder, index)


def _numbers_of_other_chunks(folder: Path) -> None:
    faiss = load_faiss()
    stamp = json.loads((folder / "vectors.json").read_bytes())
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(32))
    index.add_with_ids(np.ones((stamp["count"], 32), np.float32), np.arange(2, stamp["count"] + 2))
    _write_stamped(folder, index)


def _write_stamped(folder: Path, index: object) -> None:
    import hashlib

    path = the_file(folder)
    load_faiss().write_index(index, str(path))
    data = path.read_bytes()
    _edit_stamp(folder, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _edit_stamp(folder: Path, **changes: object) -> None:
    path = folder / "vectors.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


DAMAGES = [
    _delete_file,
    _delete_both,
    _delete_stamp,
    _flip_a_bit,
    _truncate,
    _empty,
    _garbage_stamp,
    _stamp_that_leads_elsewhere,
    _stamp_of_another_catalog,
    _stamp_of_the_future,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_that_cannot_be_used_is_built_anew_with_the_same_results(
    filled: Index, corpus: Path, damage: Callable[[Path], None]
):
    expected = answers(filled.folder)
    damage(filled.folder)
    assert answers(filled.folder) == expected
    assert checkpoint.read_stamp(filled.folder) is None or not _good(filled.folder)  # a reader writes nothing
    assert answers(filled.folder, read_only=False) == expected
    assert _good(filled.folder)
    damage(filled.folder)
    with Index.open(filled.folder, embedder=HashingEmbedder()) as opened:
        opened.ingest([corpus])  # nothing is new, but the checkpoint is made good
        assert opened.verify().ok
    assert _good(filled.folder)
    assert len(list(filled.folder.glob("vectors*"))) == 2


@pytest.mark.parametrize("forge", [_another_kind_of_index, _numbers_of_other_chunks])
def test_a_checkpoint_that_is_sound_but_not_of_these_chunks_is_not_taken(
    filled: Index, forge: Callable[[Path], None]
):
    expected = answers(filled.folder)
    forge(filled.folder)
    assert answers(filled.folder) == expected
    assert answers(filled.folder, read_only=False) == expected  # which also puts a good one in its place
    with Index.open(filled.folder, read_only=True) as opened:
        opened.search(_query("herons"), 1)
        assert opened._state.saved_version is not None


def _good(folder: Path) -> bool:
    with Index.open(folder, read_only=True) as opened, opened.catalog.read() as connection:
        from indexer import catalog_reader

        return checkpoint.is_current(folder, catalog_reader.version(connection))


def test_verify_reports_a_damaged_checkpoint_and_forgives_a_missing_one(filled: Index):
    _flip_a_bit(filled.folder)
    report = filled.verify()
    assert [finding.check for finding in report.findings] == ["checkpoint"]
    assert "nothing is lost" in report.findings[0].hint
    _delete_both(filled.folder)
    assert filled.verify().ok


def test_an_old_checkpoint_is_brought_up_to_date_from_the_catalog(
    filled: Index, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    old = tmp_path / "old"
    old.mkdir()
    for path in filled.folder.glob("vectors*"):
        shutil.copy(path, old)
    (corpus / "heron.txt").write_text("Storks nest on the mill.\n\nHerons do not.\n")
    (corpus / "new.txt").write_text("A new file about tides.\n")
    (corpus / "tide.py").unlink()
    filled.ingest([corpus], prune=True)
    expected = answers(filled.folder)
    for path in filled.folder.glob("vectors*"):
        path.unlink()
    for path in old.iterdir():
        shutil.copy(path, filled.folder)
    assert answers(filled.folder) == expected
    with Index.open(filled.folder, read_only=True) as opened:
        opened.search(HashingEmbedder().embed_queries(["x"]), 1)
        assert opened._state.saved_version.generation < opened.generation  # it was used, and replayed


def test_a_catalog_that_went_back_and_took_another_way_does_not_get_the_vectors_of_the_first(
    index: Index, corpus: Path, tmp_path: Path
):
    """Generation and chunk numbers are the same on both ways; only the content differs."""
    index.ingest([corpus])
    index.close()
    backup = tmp_path / "backup"
    shutil.copytree(index.folder, backup)
    for way, text in (("first", "Apples are red.\n"), ("second", "Ships are large.\n")):
        shutil.copy(backup / "catalog.sqlite3", index.folder)
        for log in index.folder.glob("catalog.sqlite3-*"):
            log.unlink()
        (corpus / "new.txt").write_text(text)
        with Index.open(index.folder, embedder=HashingEmbedder()) as opened:
            opened.ingest([corpus])
            assert opened.verify().ok, way
            hit = opened.search(HashingEmbedder().embed_queries([text]), 1)[0][0]
            assert opened.chunks([hit.chunk_id])[0].text == text.strip()


@pytest.mark.parametrize(
    ("code", "error"), [(errno.ENOSPC, DiskFull), (errno.EROFS, IndexNotWritable), (errno.EIO, StorageFailed)]
)
def test_a_checkpoint_that_cannot_be_written_is_an_error_after_everything_was_committed(
    filled: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
):
    (corpus / "new.txt").write_text("A new file about herons.\n")
    before = checkpoint.read_stamp(filled.folder)

    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(error):
            filled.ingest([corpus])
    assert checkpoint.read_stamp(filled.folder) == before
    assert not list(filled.folder.glob("*.tmp"))
    assert filled.stats().last_ingest["outcome"] == "failed"
    assert filled.verify().ok
    assert filled.search_text(["herons"], 5)[0]  # the new file is searchable all the same
    assert len(filled.search(HashingEmbedder().embed_queries(["new file herons"]), 9)[0]) == 5


def test_an_older_state_never_takes_the_place_of_a_newer_checkpoint(
    filled: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    """An ingest overtakes whoever opens the index, who finds no checkpoint of his state and would save it."""
    with Index.open(filled.folder) as late:
        real = late._state._open_saved

        def overtaken(*_: object) -> tuple[None, None]:
            monkeypatch.setattr(late._state, "_open_saved", real)
            (corpus / "new.txt").write_text("Storks nest on the mill, herons by the pond.\n")
            filled.ingest([corpus])
            return None, None

        monkeypatch.setattr(late._state, "_open_saved", overtaken)
        found = late.search(HashingEmbedder().embed_queries(QUERIES), 3)
    assert checkpoint.read_stamp(filled.folder).generation == filled.generation
    assert found == answers(filled.folder)
    assert filled.verify().ok


def test_large_files_are_not_hashed_at_every_start(filled: Index, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpoint, "HASHED_ON_OPEN_BYTES", 0)
    expected = answers(filled.folder)

    def refuse(*_: object) -> bool:
        raise AssertionError("hashed")

    monkeypatch.setattr(checkpoint, "file_matches", refuse)
    assert answers(filled.folder) == expected
    _truncate(filled.folder)  # the size still gives it away
    assert answers(filled.folder) == expected


def test_a_small_change_of_a_large_index_does_not_write_every_vector_again(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checkpoint, "_REWRITTEN_UP_TO_BYTES", 0)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(64):
        (folder / f"{number}.txt").write_text(f"Heron number {number}.\n")
    index.ingest([folder])
    before = checkpoint.read_stamp(index.folder)
    (folder / "7.txt").write_text("A ferry, not a heron.\n")
    index.ingest([folder])
    (folder / "new.txt").write_text("Storks nest on the mill.\n")
    (folder / "8.txt").unlink()
    index.ingest([folder], prune=True)
    assert checkpoint.read_stamp(index.folder) == before
    expected = index.search(HashingEmbedder().embed_queries(QUERIES), 64)
    with Index.open(index.folder, read_only=True) as opened:
        assert opened.search(HashingEmbedder().embed_queries(QUERIES), 64) == expected
        assert opened._state.saved_version.generation == before.generation  # it was used, and replayed
        assert opened.verify().ok
    (folder / "9.txt").write_text("Too many by now.\n")
    index.ingest([folder])
    assert checkpoint.read_stamp(index.folder).generation == index.generation
    assert index.verify().ok


@pytest.fixture
def left_behind(filled: Index, monkeypatch: pytest.MonkeyPatch) -> checkpoint.Stamp:
    """The checkpoint of `filled`, which no ingest writes anew, however much changes."""
    monkeypatch.setattr(checkpoint, "_REWRITTEN_UP_TO_BYTES", 0)
    monkeypatch.setattr(checkpoint, "_MAX_SHARE_BEHIND", 100)
    stamp = checkpoint.read_stamp(filled.folder)
    assert stamp is not None
    return stamp


def test_going_back_to_a_snapshot_goes_on_from_a_checkpoint_that_was_behind_it(
    filled: Index, corpus: Path, left_behind: checkpoint.Stamp
):
    (corpus / "new.txt").write_text("Storks nest on the mill.\n")
    filled.ingest([corpus])
    kept = answers(filled.folder)
    filled.create_snapshot("storks")
    (corpus / "new.txt").unlink()
    (corpus / "heron.txt").write_text("Herons, herons, and no tide hour.\n")
    filled.ingest([corpus], prune=True)
    assert answers(filled.folder) != kept
    filled.restore_snapshot("storks")
    assert checkpoint.read_stamp(filled.folder) == left_behind
    assert answers(filled.folder) == kept
    assert filled.verify().ok


def test_changes_whose_writer_was_killed_are_replayed_whatever_the_checkpoint_was_behind(
    filled: Index, corpus: Path, left_behind: checkpoint.Stamp, monkeypatch: pytest.MonkeyPatch
):
    (corpus / "new.txt").write_text("Storks nest on the mill.\n")
    filled.ingest([corpus])
    monkeypatch.setattr(Index, "_save_vectors", lambda index: None)  # killed after its last commit
    for turn in range(3):
        (corpus / "heron.txt").write_text(f"Herons, herons and herons {turn}.\n")
        filled.ingest([corpus])
    assert checkpoint.read_stamp(filled.folder) == left_behind
    expected = filled.search(HashingEmbedder().embed_queries(QUERIES), 3)
    assert answers(filled.folder) == expected
    with Index.open(filled.folder, read_only=True) as opened:
        assert opened.verify().ok


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_that_is_damaged_is_made_anew_by_a_small_change_too(
    filled: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
):
    monkeypatch.setattr(checkpoint, "_REWRITTEN_UP_TO_BYTES", 0)
    monkeypatch.setattr(checkpoint, "_MAX_SHARE_BEHIND", 1)
    damage(filled.folder)
    (corpus / "new.txt").write_text("Storks nest on the mill.\n")
    with Index.open(filled.folder, embedder=HashingEmbedder()) as opened:
        opened.ingest([corpus])
        assert opened.verify().ok
    assert _good(filled.folder)


def test_a_checkpoint_does_not_fall_further_behind_than_the_catalog_remembers(
    filled: Index, corpus: Path, left_behind: checkpoint.Stamp, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checkpoint, "_MAX_GENERATIONS_BEHIND", 2)
    behind = []
    for turn in range(6):
        (corpus / "heron.txt").write_text(f"Storks, storks and storks {turn}.\n")
        filled.ingest([corpus])
        behind.append(filled.generation - checkpoint.read_stamp(filled.folder).generation)
    assert behind == [1, 2, 0, 1, 2, 0]


def test_the_leftovers_of_a_crash_are_cleared_away(filled: Index, corpus: Path):
    (filled.folder / "vectors-3.faiss.tmp").write_bytes(b"half")
    (filled.folder / "vectors-1.faiss").write_bytes(b"old")
    (corpus / "new.txt").write_text("A new file.\n")
    filled.ingest([corpus])
    assert len(list(filled.folder.glob("vectors*"))) == 2


def test_a_reader_whose_history_is_gone_starts_anew(
    filled: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("indexer.catalog_writer.HISTORY_GENERATIONS", 2)
    with Index.open(filled.folder, read_only=True) as reader:
        before = reader.generation
        assert reader.search(_query("herons"), 1)[0]
        for turn in range(4):
            (corpus / "heron.txt").write_text(f"Storks, storks and storks {turn}.\n")
            filled.ingest([corpus])
        assert _texts(reader, "storks", 1) == ["Storks, storks and storks 3."]
        assert not reader.changes_since(before).complete
        assert reader.changes_since(reader.generation).complete
        assert not reader.changes_since(reader.generation + 1).complete


def _query(text: str) -> np.ndarray:
    return HashingEmbedder().embed_queries([text])


def _texts(index: Index, query: str, k: int) -> Sequence[str]:
    (hits,) = index.search(_query(query), k)
    return [chunk.text for chunk in index.chunks([hit.chunk_id for hit in hits])]
