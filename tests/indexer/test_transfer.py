"""Export and import: nothing is lost on the way, and what is wrong is said."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_fakes import HashingEmbedder

from indexer import exporting
from indexer.catalog_writer import CatalogWriter
from indexer.errors import ExportExists, InvalidExport, StorageFailed
from indexer.index import Index

QUESTIONS = ["ferry leaves nine", "two crowns", "herons pond", "tide hour", "nothing of the kind"]


@pytest.fixture
def filled(index: Index, corpus: Path) -> Index:
    """With a duplicate, an edited document, a failed file with a last good version, and skipped files."""
    (corpus / "copy of heron.txt").write_text("Herons nest by the pond.\n")
    (corpus / "later empty.txt").write_text("There was a pier here once.\n")
    index.ingest([corpus])
    (corpus / "ferry.md").write_text("# Ferry\n\nThe ferry leaves at ten.\n\n# Tolls\n\nCrossing is free.\n")
    (corpus / "later empty.txt").write_text("")
    (corpus / "private.txt").write_text("The safe opens with 1931.\n")
    (corpus / ".ragserveignore").write_text("private.txt\n")
    index.ingest([corpus])
    return index


def answers(index: Index) -> list[Any]:
    """All that a search can tell, ids and scores included."""
    vectors = HashingEmbedder().embed_queries(QUESTIONS)
    near, matching = index.search(vectors, 10), index.search_text(QUESTIONS, 10)
    chunks = index.chunks([hit.chunk_id for hits in near for hit in hits])
    return [near, matching, chunks, [index.document_text(chunk.document_id) for chunk in chunks]]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_import_answers_every_question_as_the_exported_index_does(
    filled: Index, tmp_path: Path, corpus: Path
):
    filled.export(tmp_path / "all.jsonl", vectors=True)
    embedder = HashingEmbedder()
    with Index.open(tmp_path / "other", embedder=embedder) as other:
        report = other.import_export(tmp_path / "all.jsonl")
        assert answers(other) == answers(filled)
        assert [(file.uri, file.status, file.code, file.document_id) for file in other.files()] == [
            (file.uri, file.status, file.code, file.document_id) for file in filled.files()
        ]
        assert other.verify().findings == ()
        assert (report.files, report.embedded, embedder.texts.total()) == (7, 0, 0)


def test_after_an_import_the_same_folder_is_unchanged(filled: Index, tmp_path: Path, corpus: Path):
    filled.export(tmp_path / "all.jsonl", vectors=True)
    with Index.open(tmp_path / "other", embedder=HashingEmbedder()) as other:
        other.import_export(tmp_path / "all.jsonl")
        report = other.ingest([corpus])
        assert (report.indexed, report.unchanged, report.skipped) == (0, 4, 2)
        assert [failure.uri for failure in report.failed] == [str(corpus / "later empty.txt")]


def test_without_vectors_the_texts_are_embedded_again_to_the_same_results(filled: Index, tmp_path: Path):
    filled.export(tmp_path / "all.jsonl")
    assert not any("vector" in line for line in lines(tmp_path / "all.jsonl"))
    with Index.open(tmp_path / "other", embedder=HashingEmbedder()) as other:
        assert other.import_export(tmp_path / "all.jsonl").embedded == filled.stats().embeddings
        assert answers(other) == answers(filled)


def test_vectors_of_another_embedder_are_not_taken_over(filled: Index, tmp_path: Path):
    filled.export(tmp_path / "all.jsonl", vectors=True)
    embedder = HashingEmbedder("another")
    with Index.open(tmp_path / "other", embedder=embedder) as other:
        other.import_export(tmp_path / "all.jsonl")
        assert embedder.texts.total() == filled.stats().embeddings
        assert other.verify().ok


def test_an_import_adds_to_what_is_there_and_replaces_files_of_the_same_path(filled: Index, tmp_path: Path):
    filled.export(tmp_path / "all.jsonl", vectors=True)
    own = tmp_path / "own"
    own.mkdir()
    (own / "lamp.txt").write_text("The lamp is lit at dusk.\n")
    ferry = tmp_path / "corpus" / "ferry.md"
    ferry.write_text("# Ferry\n\nThe ferry was sold.\n")
    with Index.open(tmp_path / "other", embedder=HashingEmbedder()) as other:
        other.ingest([own, ferry])
        other.import_export(tmp_path / "all.jsonl")
        assert other.verify().ok
        (sold, lamp) = other.search_text(["sold", "lamp"], 3)
        assert (len(sold), len(lamp)) == (0, 1)
        assert other.stats().documents == filled.stats().documents + 1
        assert not other.import_export(tmp_path / "all.jsonl").embedded  # a second time changes nothing


def test_an_export_is_not_written_over_and_appears_when_it_is_complete(
    filled: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    target = tmp_path / "all.jsonl"
    target.write_text("precious")
    with pytest.raises(ExportExists):
        filled.export(target)

    def full_disk(_: int) -> None:
        raise OSError(5, "the disk is gone")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StorageFailed):
        filled.export(target, replace=True)
    assert target.read_text() == "precious"
    assert [path.name for path in tmp_path.glob("*.jsonl*")] == ["all.jsonl"]
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_appeared_while_an_export_was_written_is_kept(
    filled: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
):
    target = tmp_path / "all.jsonl"
    write = exporting.write_json_lines

    def meanwhile(*arguments: Any) -> None:
        write(*arguments)
        target.write_text("precious")

    monkeypatch.setattr(exporting, "write_json_lines", meanwhile)
    if not has_links:
        monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    with pytest.raises(ExportExists):
        filled.export(target)
    assert target.read_text() == "precious"
    assert not list(tmp_path.glob(".*.tmp"))


def test_where_files_cannot_be_linked_an_export_is_written_all_the_same(
    filled: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    filled.export(tmp_path / "all.jsonl")
    assert lines(tmp_path / "all.jsonl")[0]["type"] == "ragserve-export"
    assert not list(tmp_path.glob(".*.tmp"))


def test_of_two_exports_to_one_path_at_the_same_time_the_last_to_end_is_there_whole(
    filled: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    filled.export(tmp_path / "alone.jsonl")
    write, both_write = exporting.write_json_lines, threading.Barrier(2, timeout=60)

    def beside_the_other(*arguments: Any) -> None:
        both_write.wait()  # each has its file open
        write(*arguments)

    monkeypatch.setattr(exporting, "write_json_lines", beside_the_other)
    target = tmp_path / "all.jsonl"
    with ThreadPoolExecutor(2) as threads:
        exports = [threads.submit(filled.export, target, replace=True) for _ in range(2)]
    assert exports[0].result().bytes == exports[1].result().bytes == target.stat().st_size
    assert target.read_bytes() == (tmp_path / "alone.jsonl").read_bytes()


def test_an_export_may_have_the_longest_name_that_a_file_can_have(filled: Index, tmp_path: Path):
    target = tmp_path / ("a" * 249 + ".jsonl")
    filled.export(target)
    assert lines(target)[0]["type"] == "ragserve-export"


def test_the_folder_of_an_export_is_on_disk_when_it_is_done_if_its_file_system_syncs_folders(
    filled: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    target = tmp_path / "all.jsonl"
    sync, synced = os.fsync, []

    def observed(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            synced.append((os.path.samestat(os.fstat(descriptor), tmp_path.stat()), target.exists()))
            raise OSError(errno.EINVAL, "folders are not synced here")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", observed)
    filled.export(target)
    assert synced == [(True, True)]


def refusing(number: int) -> Callable[..., None]:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def changed(where: str, **fields: Any) -> Callable[[list[dict[str, Any]]], int]:
    """Changes the first line of a type; returns its number."""

    def change(rows: list[dict[str, Any]]) -> int:
        number = next(i for i, row in enumerate(rows) if row["type"] == where)
        rows[number].update(fields)
        return number + 1

    return change


WRONG = [
    (changed("ragserve-export", version=2), "version"),
    (changed("ragserve-export", type="parquet"), "type"),
    (changed("document", text=None), "text"),
    (changed("document", text="\udc80"), "text"),
    (changed("document", id="../../etc"), "id"),
    (changed("document", content_key="ff"), "content_key"),
    (changed("document", files=[]), "files"),
    (changed("document", files=[{"uri": 3}]), "files[0].uri"),
    (changed("document", metadata={"author": 3}), "metadata"),
    (changed("chunk", start=-1), "start"),
    (changed("chunk", start=True), "start"),
    (changed("chunk", end=10**9), "end"),
    (changed("chunk", text="something else"), "text"),
    (changed("chunk", kind="song"), "kind"),
    (changed("chunk", document="0" * 32), "document"),
    (changed("chunk", boxes=[[1, 2]]), "boxes"),
    (changed("chunk", vector=[1.0]), "vector"),
    (changed("chunk", vector=[0.5] * 32), "vector"),
    (changed("chunk", vector=[10**400] * 32), "vector"),
    (changed("file", status="lost"), "status"),
    (changed("file", mtime_ns="now"), "mtime_ns"),
]


def test_a_wrong_line_is_named_with_its_field_and_nothing_is_lost(filled: Index, tmp_path: Path):
    path = tmp_path / "all.jsonl"
    filled.export(path, vectors=True)
    good, before, generation = path.read_text(), answers(filled), filled.generation
    for change, field in WRONG:
        path.write_text(good)
        rows = lines(path)
        number = change(rows)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        with pytest.raises(InvalidExport) as caught:
            filled.import_export(path)
        assert f"{path}, line {number}: the field {field} " in caught.value.message
        assert caught.value.hint
        assert filled.refreshed_version().generation == generation
    assert answers(filled) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\xff\xfe\n", "not JSON"),
        (b"[1, 2]\n", "not a JSON object"),
        (b'{"type": NaN}\n', "NaN"),
        (b"[" * 100_000 + b"\n", "not JSON"),
    ],
)
def test_what_is_no_export_is_refused(index: Index, tmp_path: Path, content: bytes, message: str):
    (tmp_path / "all.jsonl").write_bytes(content)
    with pytest.raises(InvalidExport, match=message):
        index.import_export(tmp_path / "all.jsonl")


def test_a_file_that_was_cut_off_is_noticed(filled: Index, tmp_path: Path):
    path = tmp_path / "all.jsonl"
    filled.export(path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(InvalidExport, match="ends after"):
        filled.import_export(path)


def test_a_document_without_chunks_is_refused(filled: Index, tmp_path: Path):
    path = tmp_path / "all.jsonl"
    filled.export(path)
    rows = lines(path)
    first = next(i for i, row in enumerate(rows) if row["type"] == "document")
    last = next(i for i, row in enumerate(rows[first + 1 :], first + 1) if row["type"] != "chunk")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[: first + 1] + rows[last:]))
    with pytest.raises(InvalidExport, match="no chunk"):
        filled.import_export(path)


@pytest.mark.parametrize(
    ("method", "call"), [("add_embeddings", 1), ("_add_chunk", 3), ("finish", 3), ("finish_run", 1)]
)
def test_killed_in_the_middle_an_import_is_all_or_nothing(
    filled: Index, tmp_path: Path, method: str, call: int, monkeypatch: pytest.MonkeyPatch
):
    path, target = tmp_path / "all.jsonl", tmp_path / "other"
    filled.export(path)
    pid = os.fork()
    if pid == 0:
        real, calls = getattr(CatalogWriter, method), []

        def deadly(self: CatalogWriter, *arguments: Any) -> Any:
            calls.append(1)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(self, *arguments)

        setattr(CatalogWriter, method, deadly)
        with Index.open(target, embedder=HashingEmbedder()) as other:
            other.import_export(path)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    with Index.open(target, embedder=HashingEmbedder()) as other:
        assert other.verify().ok
        assert other.stats().documents in (0, filled.stats().documents)
        other.import_export(path)
        assert answers(other) == answers(filled)


def test_vectors_travel_to_the_last_bit(filled: Index, tmp_path: Path):
    filled.export(tmp_path / "all.jsonl", vectors=True)
    rows = [row for row in lines(tmp_path / "all.jsonl") if row["type"] == "chunk"]
    stored = filled.vectors([row["id"] for row in rows])
    assert np.array_equal(np.array([row["vector"] for row in rows], np.float32), stored)
