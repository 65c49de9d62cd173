"""What `verify` tries out: searches against brute force, and the embedder against what is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from store_fakes import HashingEmbedder

from indexer.index import Index
from indexer.vectors import VectorIndex


def test_verify_measures_recall_and_embeds_a_sample_again(index: Index, corpus: Path):
    assert index.verify().recall is None  # there is nothing to find
    index.ingest([corpus])
    report = index.verify(embedder=HashingEmbedder(), reembed=3)
    assert (report.findings, report.recall, report.reembedded) == ((), 1.0, 3)
    assert index.verify(embedder=HashingEmbedder(), reembed=1000).reembedded == index.stats().chunks
    assert index.verify().reembedded == 0


def test_an_embedder_that_changed_under_its_name_is_noticed(index: Index, corpus: Path):
    class Changed(HashingEmbedder):
        @staticmethod
        def vector(text: str) -> np.ndarray:
            return HashingEmbedder.vector(text[::-1])

    index.ingest([corpus])
    report = index.verify(embedder=Changed(), reembed=2)
    assert [finding.check for finding in report.findings] == ["embedder", "embedder"]
    assert "embedded differently" in report.findings[0].message


def test_another_embedder_is_named_and_not_asked(index: Index, corpus: Path):
    index.ingest([corpus])
    other = HashingEmbedder("hashing-33")
    report = index.verify(embedder=other, reembed=2)
    assert [finding.check for finding in report.findings] == ["embedder"]
    assert (report.reembedded, sum(other.texts.values())) == (0, 0)


def test_a_search_that_misses_what_it_should_find_is_noticed(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    index.ingest([corpus])
    nearest = VectorIndex.nearest

    def without_the_best(self: VectorIndex, *arguments, **options):
        return [(numbers[1:], scores[1:]) for numbers, scores in nearest(self, *arguments, **options)]

    monkeypatch.setattr(VectorIndex, "nearest", without_the_best)
    report = index.verify()
    assert [finding.check for finding in report.findings] == ["recall"]
    assert report.recall < 1
