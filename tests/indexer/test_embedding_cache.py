"""The cache of vectors that indexes share: it saves work, stays within its size, and is never in the way."""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from store_fakes import HashingEmbedder

from indexer import embedding_cache
from indexer.embedding_cache import CACHE_NAME, EmbeddingCache
from indexer.index import Index

LARGE = 1 << 30


def vectors(start: int, count: int, dimension: int = 32) -> dict[bytes, np.ndarray]:
    rows = np.random.default_rng(start).standard_normal((count, dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return {(start + n).to_bytes(32, "big"): row for n, row in enumerate(rows)}


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "cache", max_bytes=LARGE)


def same(found: dict[bytes, np.ndarray], expected: dict[bytes, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all((found[key] == expected[key]).all() for key in found)


def ingested(folder: Path, corpus: Path, cache: EmbeddingCache, embedder: HashingEmbedder) -> int:
    with Index.open(folder, embedder=embedder, embedding_cache=cache) as index:
        report = index.ingest([corpus])
        assert index.verify().ok
    assert report.embedded == embedder.texts.total()
    return report.embedded


def test_a_text_is_embedded_once_for_all_indexes(
    tmp_path: Path, corpus: Path, parsed: list[str], cache: EmbeddingCache
):
    assert ingested(tmp_path / "one", corpus, cache, HashingEmbedder()) == 4
    assert ingested(tmp_path / "two", corpus, cache, HashingEmbedder()) == 0
    assert ingested(tmp_path / "three", corpus, cache, HashingEmbedder("another")) == 4
    with Index.open(tmp_path / "one") as one, Index.open(tmp_path / "two") as two:
        ids = [hit.chunk_id for hit in one.search(HashingEmbedder().embed_queries(["x"]), 9)[0]]
        assert np.array_equal(one.vectors(ids), two.vectors(ids))


def test_files_that_are_cut_otherwise_cost_only_the_chunks_that_never_were(
    tmp_path: Path, corpus: Path, parsed: list[str], cache: EmbeddingCache
):
    """And back again nothing, though the index has long forgotten what it held."""
    long = " ".join(f"Sentence {number} is about herons." for number in range(40))
    (corpus / "long.txt").write_text(long)
    ever: Counter[str] = Counter()
    for max_tokens in (64, 40, 64, 40):
        embedder = HashingEmbedder()
        embedder.max_tokens = max_tokens
        ingested(tmp_path / "one", corpus, cache, embedder)
        ever.update(embedder.texts)
        assert set(ever.values()) == {1}
    assert sum(ever.values()) > 10


def test_an_import_uses_it_too(tmp_path: Path, corpus: Path, parsed: list[str], cache: EmbeddingCache):
    ingested(tmp_path / "one", corpus, cache, HashingEmbedder())
    with Index.open(tmp_path / "one") as one:
        one.export(tmp_path / "all.jsonl")
    with Index.open(tmp_path / "two", embedder=HashingEmbedder(), embedding_cache=cache) as two:
        assert two.import_export(tmp_path / "all.jsonl").embedded == 0


def test_what_is_stored_is_found_by_another_process_s_cache(tmp_path: Path, cache: EmbeddingCache):
    stored = vectors(0, 1200)
    cache.store(stored)
    other = EmbeddingCache(tmp_path / "cache", max_bytes=LARGE)
    assert same(other.load([*stored, b"unknown"], dimension=32), stored)
    assert other.load(stored, dimension=16) == {}


def test_the_file_stays_within_its_size_and_keeps_what_was_used_last(tmp_path: Path):
    cache = EmbeddingCache(tmp_path / "cache", max_bytes=1 << 20)
    favourite = vectors(0, 10, 384)
    cache.store(favourite)
    for round_ in range(1, 21):
        cache.store(vectors(1000 * round_, 100, 384))
        assert len(cache.load(favourite, dimension=384)) == 10
    assert cache.load(vectors(1000, 100, 384), dimension=384) == {}
    assert len(cache.load(vectors(20_000, 100, 384), dimension=384)) == 100
    cache.close()
    assert (tmp_path / "cache" / CACHE_NAME).stat().st_size <= (1 << 20) + 500_000


def _store_many(folder: Path, start: int) -> None:
    cache = EmbeddingCache(folder, max_bytes=LARGE)
    for batch in range(10):
        cache.store(vectors(start + 100 * batch, 50))


def test_processes_may_write_at_the_same_time(
    tmp_path: Path, cache: EmbeddingCache, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(embedding_cache, "_BUSY_SECONDS", 300.0)  # on a slow disk, too, nothing is left out
    context = multiprocessing.get_context("fork")
    starts = (0, 10_000, 20_000)
    processes = [context.Process(target=_store_many, args=(tmp_path / "cache", start)) for start in starts]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    for start in starts:
        for batch in range(10):
            expected = vectors(start + 100 * batch, 50)
            assert same(cache.load(expected, dimension=32), expected)


@pytest.mark.parametrize(
    "content", [b"", b"not a database at all" * 100, b"SQLite format 3\x00" + bytes(8000)]
)
def test_a_file_that_is_no_cache_is_replaced(tmp_path: Path, cache: EmbeddingCache, content: bytes):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / CACHE_NAME).write_bytes(content)
    stored = vectors(0, 5)
    assert cache.load(stored, dimension=32) == {}
    cache.store(stored)
    assert same(cache.load(stored, dimension=32), stored)


def test_a_cache_whose_pages_are_damaged_is_replaced(tmp_path: Path, cache: EmbeddingCache):
    stored = vectors(0, 2000)
    cache.store(stored)
    cache.close()
    path = tmp_path / "cache" / CACHE_NAME
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)
    assert cache.load(stored, dimension=32) == {}
    cache.store(stored)
    assert same(cache.load(stored, dimension=32), stored)


def test_a_cache_of_another_version_is_replaced(tmp_path: Path, cache: EmbeddingCache):
    (tmp_path / "cache").mkdir()
    connection = sqlite3.connect(tmp_path / "cache" / CACHE_NAME)
    connection.execute("CREATE TABLE vectors (something_else)")
    connection.close()
    cache.store(vectors(0, 5))
    assert len(cache.load(vectors(0, 5), dimension=32)) == 5


def test_a_vector_in_which_a_bit_flipped_is_not_used(tmp_path: Path, cache: EmbeddingCache):
    cache.store(vectors(0, 5))
    connection = sqlite3.connect(tmp_path / "cache" / CACHE_NAME, isolation_level=None)
    (blob,) = connection.execute("SELECT vector FROM vectors WHERE rowid = 3").fetchone()
    flipped = bytes([blob[0] ^ 1]) + blob[1:]
    connection.execute("UPDATE vectors SET vector = ? WHERE rowid = 3", (flipped,))
    connection.close()
    assert len(cache.load(vectors(0, 5), dimension=32)) == 4


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(
    tmp_path: Path, corpus: Path, parsed: list[str]
):
    (tmp_path / "file").write_text("in the way")
    cache = EmbeddingCache(tmp_path / "file" / "cache", max_bytes=LARGE)
    assert ingested(tmp_path / "one", corpus, cache, HashingEmbedder()) == 4
