"""Files that cannot be read: listed, kept in their last good version, tried again for a reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ingest_looks import TRUNCATED_PDF, summary, texts

from indexer import planning
from indexer.index import Index
from indexer.parsers import ParseOptions
from indexer.parsers.errors import NotARegularFile, OcrUnavailable, ParseError


def test_a_file_that_fails_after_it_was_indexed_keeps_its_old_version(index: Index, corpus: Path):
    index.ingest([corpus])
    (corpus / "heron.txt").write_text(" \n")
    report = index.ingest([corpus])
    assert summary(report) == {"unchanged": 2, "failed": 1}
    assert report.failed[0].code == "empty-file"
    assert "The version indexed at" in report.failed[0].reason
    assert "Herons nest by the pond." in texts(index)
    assert index.ingest([corpus]).failed == report.failed  # also when nothing is tried again
    assert index.doctor()[0].reason == report.failed[0].reason
    assert index.doctor()[0].document_id is not None
    (corpus / "heron.txt").write_text("Herons are back.\n")
    assert summary(index.ingest([corpus])) == {"indexed": 1, "unchanged": 2}
    assert "Herons nest by the pond." not in texts(index)
    assert index.verify().ok


def test_a_failure_is_retried_only_on_request_or_with_a_reason(
    index: Index, corpus: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
):
    (corpus / "broken.pdf").write_bytes(TRUNCATED_PDF)
    index.ingest([corpus])

    def tried(**options) -> bool:
        parsed.clear()
        assert len(index.ingest([corpus], **options).failed) == 1
        return "broken.pdf" in parsed

    assert not tried()
    assert tried(retry_failed=True)
    assert not tried()
    assert tried(parse_options=ParseOptions(max_pages=7))
    assert not tried(parse_options=ParseOptions(max_pages=7))


def test_a_file_that_could_not_be_read_is_read_once_its_permissions_are_mended(
    index: Index, corpus: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
):
    """Which changes neither its size nor its time."""
    heron, access = corpus / "heron.txt", os.access
    for path in corpus.iterdir():
        os.utime(path, (1e9, 1e9))  # long settled, so that time and size are trusted
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: str(path) != str(heron) and access(path, mode))
        for _ in range(2):
            assert [failure.code for failure in index.ingest([corpus]).failed] == ["unreadable-file"]
        assert "heron.txt" not in parsed
    parsed.clear()
    assert summary(index.ingest([corpus])) == {"indexed": 1, "unchanged": 2}
    assert parsed == ["heron.txt"]


@pytest.mark.parametrize("reason", [OcrUnavailable, NotARegularFile])
def test_a_file_whose_obstacle_passes_by_itself_is_tried_in_the_next_run(
    index: Index, corpus: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch, reason: type[ParseError]
):
    import store_fakes

    real = store_fakes.parse

    def parse(data: bytes, *, name: str, options: ParseOptions) -> object:
        if name == "heron.txt":
            raise reason("Not today.", hint="Tomorrow.")
        return real(data, name=name, options=options)

    for path in corpus.iterdir():
        os.utime(path, (1e9, 1e9))
    with monkeypatch.context() as patch:
        patch.setattr(store_fakes, "parse", parse)
        assert summary(index.ingest([corpus])) == {"indexed": 2, "failed": 1}
    parsed.clear()
    assert summary(index.ingest([corpus])) == {"indexed": 1, "unchanged": 2}
    assert parsed == ["heron.txt"]


def test_encrypted_files_are_tried_again_with_a_password_and_nothing_else_is(
    index: Index, corpus: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
):
    from indexer.parsers.errors import EncryptedPdf

    (corpus / "secret.txt").write_text("The vault is empty.\n")
    import store_fakes

    real = store_fakes.parse

    def parse(data: bytes, *, name: str, options: ParseOptions) -> object:
        if name == "secret.txt" and options.password != "opensesame":
            raise EncryptedPdf("It needs a password.", hint="Give it one.")
        return real(data, name=name, options=options)

    monkeypatch.setattr(store_fakes, "parse", parse)
    assert summary(index.ingest([corpus])) == {"indexed": 3, "failed": 1}
    parsed.clear()
    assert summary(index.ingest([corpus])) == {"unchanged": 3, "failed": 1}
    assert parsed == []
    report = index.ingest([corpus], parse_options=ParseOptions(password="opensesame"))
    assert summary(report) == {"indexed": 1, "unchanged": 3}
    assert parsed == ["secret.txt"]
    assert summary(index.ingest([corpus])) == {"unchanged": 4}


def test_a_document_without_a_chunk_is_a_failure_and_not_a_silent_success(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    import store_fakes

    monkeypatch.setattr(store_fakes, "chunk_document", lambda *_, **__: [])
    report = index.ingest([corpus])
    assert {failure.code for failure in report.failed} == {"no-extractable-text"}
    assert index.verify().ok


def test_text_that_no_encoding_can_hold_is_a_failure_of_that_file_alone(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    import dataclasses

    import store_fakes

    real = store_fakes.parse

    def parse(data: bytes, *, name: str, options: ParseOptions) -> object:
        document = real(data, name=name, options=options)
        broken = dataclasses.replace(document, metadata={"author": "\ud800"})
        return broken if name == "heron.txt" else document

    monkeypatch.setattr(store_fakes, "parse", parse)
    report = index.ingest([corpus])
    assert summary(report) == {"indexed": 2, "failed": 1}
    assert report.failed[0].code == "undecodable-text"


def test_a_file_that_vanishes_before_it_is_read_is_a_failure(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    real = planning._sha256

    def vanish(path: Path) -> bytes:
        if path.name == "heron.txt":
            path.unlink()
        return real(path)

    monkeypatch.setattr(planning, "_sha256", vanish)
    report = index.ingest([corpus])
    assert summary(report) == {"indexed": 2, "failed": 1}
    assert report.failed[0].code == "unreadable-file"
    assert summary(index.ingest([corpus])) == {"unchanged": 2}
    assert index.doctor() == []


def test_a_file_that_is_too_large_is_not_even_hashed(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    real = planning._sha256

    def watch(path: Path) -> bytes:
        assert path.name != "huge.txt"
        return real(path)

    monkeypatch.setattr(planning, "_sha256", watch)
    (corpus / "huge.txt").write_text("word " * 1000)
    report = index.ingest([corpus], parse_options=ParseOptions(max_bytes=3000))
    assert summary(report) == {"indexed": 3, "failed": 1}
    assert report.failed[0].code == "document-too-large"


def test_a_file_that_changes_while_it_is_read_is_indexed_as_it_was_read(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    """And a copy that waited for it is not taken for the same any more, but said to need another run."""
    (corpus / "copy.txt").write_bytes((corpus / "heron.txt").read_bytes())
    real = planning._sha256

    def change_after(path: Path) -> bytes:
        digest = real(path)
        if path.name == "copy.txt":
            path.write_text("Storks by now.\n")
        return digest

    with monkeypatch.context() as patch:
        patch.setattr(planning, "_sha256", change_after)
        report = index.ingest([corpus])
    assert summary(report) == {"indexed": 3, "failed": 1}
    assert (report.failed[0].code, Path(report.failed[0].uri).name) == ("changed-while-read", "heron.txt")
    assert "Storks by now." in texts(index)
    assert summary(index.ingest([corpus])) == {"indexed": 1, "unchanged": 3}
    assert {"Storks by now.", "Herons nest by the pond."} <= texts(index)
    assert index.verify().ok
