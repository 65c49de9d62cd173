"""Files that are gone, or ignored from now on: what is forgotten, and what only seems to be gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ingest_looks import summary, texts

from indexer.index import Index


def test_a_file_that_is_gone_stays_until_it_is_pruned(index: Index, corpus: Path):
    index.ingest([corpus])
    (corpus / "heron.txt").unlink()
    assert summary(index.ingest([corpus])) == {"unchanged": 2, "missing": 1}
    assert "Herons nest by the pond." in texts(index)
    assert summary(index.ingest([corpus], prune=True)) == {"unchanged": 2, "removed": 1}
    assert "Herons nest by the pond." not in texts(index)
    assert summary(index.ingest([corpus], prune=True)) == {"unchanged": 2}
    assert index.verify().ok


def test_pruning_keeps_to_the_paths_that_were_named(index: Index, tmp_path: Path, corpus: Path):
    other = tmp_path / "corpus-2"
    other.mkdir()
    (other / "apple.txt").write_text("Apples.\n")
    index.ingest([corpus, other])
    (corpus / "heron.txt").unlink()
    (other / "apple.txt").unlink()
    assert summary(index.ingest([corpus], prune=True)) == {"unchanged": 2, "removed": 1}
    assert "Apples." in texts(index)


def test_pruning_does_not_take_a_link_that_leads_nowhere_for_an_empty_folder(
    index: Index, tmp_path: Path, corpus: Path
):
    """The disk that it leads to may be unplugged."""
    link = tmp_path / "link"
    link.symlink_to(corpus)
    assert summary(index.ingest(link)) == {"indexed": 3}
    corpus.rename(tmp_path / "unplugged")
    assert summary(index.ingest(link, prune=True)) == {"failed": 1}
    assert "Herons nest by the pond." in texts(index)


def test_pruning_does_not_take_an_unreadable_folder_for_an_empty_one(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    (corpus / "deep").mkdir()
    (corpus / "deep" / "apple.txt").write_text("Apples.\n")
    index.ingest([corpus])
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    report = index.ingest([corpus], prune=True)
    assert summary(report) == {"unchanged": 3, "failed": 1}
    assert "Apples." in texts(index)


def test_a_file_that_is_newly_ignored_is_not_found_any_more(index: Index, corpus: Path):
    index.ingest([corpus])
    (corpus / ".ragserveignore").write_text("heron*\n")
    assert summary(index.ingest([corpus])) == {"unchanged": 2, "skipped": 2}
    assert "Herons nest by the pond." not in texts(index)
    (corpus / ".ragserveignore").unlink()
    assert summary(index.ingest([corpus])) == {"indexed": 1, "unchanged": 2}
    assert "Herons nest by the pond." in texts(index)
    assert {status.status for status in index.files()} == {"indexed"}  # the ignore file is forgotten
