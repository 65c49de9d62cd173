"""Ingests that are stopped, refused, or fail as a whole: what they leave, and how the next one goes on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ingest_looks import giant_text, raising, summary, texts
from store_fakes import HashingEmbedder

from indexer import ingest as ingest_module
from indexer.errors import DiskFull, EmbedderFailed, EmbedderMismatch, IndexLocked, IndexNotWritable
from indexer.index import Index


def test_an_interrupted_run_keeps_what_it_committed_and_the_next_one_goes_on(
    index: Index,
    tmp_path: Path,
    embedder: HashingEmbedder,
    parsed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    no_thread_is_left: None,
):
    monkeypatch.setattr(ingest_module, "WINDOW_FILES", 4)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:02}.txt").write_text(f"File number {number}.\n")

    def interrupt(batch: Sequence[str]) -> None:
        if sum(embedder.texts.values()) >= 8:
            raise KeyboardInterrupt

    embedder.before_embedding = interrupt
    with pytest.raises(KeyboardInterrupt):
        index.ingest([folder])
    done = index.stats().chunks
    assert 8 <= done < 20
    assert index.verify().ok
    embedder.before_embedding = lambda batch: None
    parsed.clear()
    report = index.ingest([folder])
    assert summary(report) == {"indexed": 20 - done, "unchanged": done}
    assert len(parsed) == 20 - done
    assert set(embedder.texts.values()) == {1}
    assert index.verify().ok


def test_an_interruption_does_not_cost_the_embedding_of_a_giant_document(
    index: Index, tmp_path: Path, embedder: HashingEmbedder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ingest_module, "VECTORS_PER_COMMIT", 128)
    path = tmp_path / "giant.txt"
    path.write_text(giant_text(400))

    def interrupt(batch: Sequence[str]) -> None:
        if sum(embedder.texts.values()) >= 256:
            raise KeyboardInterrupt

    embedder.before_embedding = interrupt
    with pytest.raises(KeyboardInterrupt):
        index.ingest([path])
    assert index.stats().chunks == 0
    assert index.stats().embeddings == 256
    assert index.verify().ok
    embedder.before_embedding = lambda batch: None
    report = index.ingest([path])
    assert report.embedded == report.chunks - 256
    assert set(embedder.texts.values()) == {1}


def test_vectors_that_an_interrupted_ingest_left_behind_are_cleared_away(
    index: Index, tmp_path: Path, embedder: HashingEmbedder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ingest_module, "VECTORS_PER_COMMIT", 128)
    path = tmp_path / "giant.txt"
    path.write_text(giant_text(300))
    embedder.before_embedding = lambda batch: raising(KeyboardInterrupt)() if embedder.texts else None
    with pytest.raises(KeyboardInterrupt):
        index.ingest([path])
    assert index.stats().embeddings == 128
    path.write_text("Short now.\n")
    embedder.before_embedding = lambda batch: None
    index.ingest([path])
    assert index.stats().embeddings == 1


@pytest.mark.parametrize(
    "vectors",
    [
        np.ones((1, 32), np.float32),
        np.full((1, 32), np.nan, np.float32),
        np.zeros((1, 32), np.float32),
        np.ones((2, 32), np.float32) / np.sqrt(np.float32(32)),
        np.ones((1, 16), np.float32) / 4,
    ],
    ids=["too long", "not a number", "zero", "too many", "too few dimensions"],
)
def test_vectors_that_are_no_unit_vectors_never_reach_the_index(
    index: Index, tmp_path: Path, embedder: HashingEmbedder, vectors: np.ndarray
):
    path = tmp_path / "a.txt"
    path.write_text("Text.\n")
    embedder.embed_documents = lambda batch: vectors
    with pytest.raises(EmbedderFailed):
        index.ingest([path])
    assert index.stats().embeddings == 0
    del embedder.embed_documents
    assert summary(index.ingest([path])) == {"indexed": 1}


def test_another_embedder_is_refused_with_both_names(index: Index, corpus: Path):
    Index.open(index.folder, embedder=HashingEmbedder("other-32")).close()  # nothing is embedded yet
    with Index.open(index.folder, embedder=HashingEmbedder("other-32")) as second:
        index.ingest([corpus])
        with pytest.raises(EmbedderMismatch, match="hashing-32, not other-32"):
            second.ingest([corpus])
    named = HashingEmbedder("other-32")
    named.name = "acme/other"
    with pytest.raises(EmbedderMismatch, match=r"hashing-32, not acme/other \(other-32\)") as raised:
        Index.open(index.folder, embedder=named)
    assert "new index folder" in raised.value.hint
    assert index.verify().ok


def test_a_second_ingest_at_the_same_time_is_refused_at_once(
    index: Index, corpus: Path, embedder: HashingEmbedder
):
    messages: list[str] = []

    def second(batch: Sequence[str]) -> None:
        with (
            Index.open(index.folder, embedder=HashingEmbedder()) as other,
            pytest.raises(IndexLocked) as raised,
        ):
            other.ingest([corpus])
        messages.append(str(raised.value))

    embedder.before_embedding = second
    assert summary(index.ingest([corpus])) == {"indexed": 3}
    assert messages
    assert f"Another ingest is running (pid {os.getpid()})." in messages[0]
    embedder.before_embedding = lambda batch: None
    assert summary(index.ingest([corpus])) == {"unchanged": 3}  # the lock is free again


def test_a_full_disk_is_a_typed_error_and_loses_nothing(index: Index, tmp_path: Path, corpus: Path):
    index.ingest([corpus])
    before = texts(index)
    (corpus / "large.txt").write_text("\n\n".join(f"Paragraph number {n} of many." for n in range(3_000)))
    with index.catalog._database._write_lock:
        writer = index.catalog._database._writer
        pages = writer.execute("PRAGMA page_count").fetchone()[0]
        writer.execute(f"PRAGMA max_page_count = {pages + 4}")  # what SQLite says then is what a full disk is
    with pytest.raises(DiskFull, match="is full"):
        index.ingest([corpus])
    assert texts(index) == before
    assert index.verify().ok
    with index.catalog._database._write_lock:
        writer.execute(f"PRAGMA max_page_count = {2**31}")
    assert summary(index.ingest([corpus])) == {"indexed": 1, "unchanged": 3}


def test_an_index_that_is_open_for_reading_only_does_not_ingest(index: Index, corpus: Path):
    index.ingest([corpus])
    with (
        Index.open(index.folder, embedder=HashingEmbedder(), read_only=True) as reader,
        pytest.raises(IndexNotWritable),
    ):
        reader.ingest([corpus])
