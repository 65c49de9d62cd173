"""Files with the same content: stored once, whatever becomes of one of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from ingest_looks import TRUNCATED_PDF, chunks_found, summary
from store_fakes import HashingEmbedder, InProcessReader

from indexer import planning
from indexer.index import Index


def test_copies_are_parsed_and_embedded_once(
    index: Index, tmp_path: Path, parsed: list[str], embedder: HashingEmbedder
):
    folder = tmp_path / "copies"
    for number in range(50):
        path = folder / f"{number:02}" / "same.txt"
        path.parent.mkdir(parents=True)
        path.write_text("The same in every folder.\n")
    report = index.ingest([folder])
    assert summary(report) == {"indexed": 50}
    assert len(parsed) == 1
    assert sum(embedder.texts.values()) == 1
    assert index.stats().documents == 1
    (chunk,) = chunks_found(index, "same")
    assert chunk.uris == tuple(str(folder / f"{number:02}" / "same.txt") for number in range(50))


def test_only_so_many_copies_wait_for_one_that_is_read_and_the_rest_are_read_again(
    index: Index,
    tmp_path: Path,
    parsed: list[str],
    embedder: HashingEmbedder,
    monkeypatch: pytest.MonkeyPatch,
):
    """So memory does not grow with their number; nothing is stored or embedded twice."""
    monkeypatch.setattr(planning, "MAX_WAITING_COPIES", 10)
    real = InProcessReader.read  # all are found before the first is read
    monkeypatch.setattr(InProcessReader, "read", lambda reader, files: real(reader, list(files)))
    folder = tmp_path / "copies"
    folder.mkdir()
    for number in range(15):
        (folder / f"{number:02}.txt").write_text("The same under every name.\n")
    assert summary(index.ingest([folder])) == {"indexed": 15}
    assert len(parsed) == 5
    assert sum(embedder.texts.values()) == 1
    (chunk,) = chunks_found(index, "same")
    assert len(chunk.uris) == 15
    assert index.verify().ok


def test_deleting_a_copy_leaves_the_others_and_only_the_last_takes_the_text_along(
    index: Index, tmp_path: Path, embedder: HashingEmbedder
):
    folder = tmp_path / "copies"
    paths = [folder / name / "same.txt" for name in ("a", "b", "c")]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_text("The same in every folder.\n")
    index.ingest([folder])
    embedder.texts.clear()
    for gone, kept in enumerate((paths[1:], paths[2:], [])):
        paths[gone].unlink()
        assert summary(index.ingest([folder], prune=True))["removed"] == 1
        assert [chunk.uris for chunk in chunks_found(index, "same")] == [tuple(map(str, kept))] * bool(kept)
    assert embedder.texts == {}
    assert index.verify().ok


def test_a_copy_that_changes_leaves_the_others_as_they_were(index: Index, tmp_path: Path):
    folder = tmp_path / "copies"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("The same in both.\n")
    index.ingest([folder])
    (folder / "a.txt").write_text("Another now, and longer.\n")
    index.ingest([folder])
    found = {chunk.text: chunk.uris for chunk in chunks_found(index, "anything")}
    assert found == {
        "The same in both.": (str(folder / "b.txt"),),
        "Another now, and longer.": (str(folder / "a.txt"),),
    }


def test_copies_of_a_file_that_cannot_be_read_fail_with_it(index: Index, corpus: Path, parsed: list[str]):
    for name in ("a.pdf", "b.pdf", "c.pdf"):
        (corpus / name).write_bytes(TRUNCATED_PDF)
    report = index.ingest([corpus])
    assert {Path(failure.uri).name for failure in report.failed} == {"a.pdf", "b.pdf", "c.pdf"}
    assert [name for name in parsed if name.endswith(".pdf")] == ["a.pdf"]
    assert len([status for status in index.doctor() if status.status == "failed"]) == 3


def test_a_copy_of_a_file_that_failed_earlier_is_not_tried_either(
    index: Index, corpus: Path, parsed: list[str]
):
    (corpus / "a.pdf").write_bytes(TRUNCATED_PDF)
    (first,) = index.ingest([corpus]).failed
    (corpus / "b.pdf").write_bytes(TRUNCATED_PDF)
    parsed.clear()
    report = index.ingest([corpus])
    assert summary(report) == {"unchanged": 3, "failed": 2}
    assert {(failure.reason, failure.code) for failure in report.failed} == {(first.reason, first.code)}
    assert parsed == []
    (corpus / "c.pdf").write_bytes(TRUNCATED_PDF)
    index.ingest([corpus], retry_failed=True)
    assert parsed != []
