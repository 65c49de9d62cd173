"""The retriever over a real index: files in, hits out, while the files change."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from indexer import catalog_reader, reading
from indexer.index import Index
from indexer.scoring import exact_scores
from indexer.types import Filters
from indexer.vector_settings import VectorSettings
from retriever import RetrievalCache, RetrievalSettings, Retriever

_FAKES = Path(__file__).parents[1] / "indexer" / "store_fakes.py"
_SPEC = importlib.util.spec_from_file_location("store_fakes_for_retriever", _FAKES)
assert _SPEC is not None
assert _SPEC.loader is not None
store_fakes = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = store_fakes
_SPEC.loader.exec_module(store_fakes)

WORDS = ["amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "heron"]
QUERIES = ["amber basin", "cedar", "heron grove delta", "ember fjord", "nowhere"]


@pytest.fixture
def embedder():
    return store_fakes.HashingEmbedder()


@pytest.fixture
def index(tmp_path, embedder, monkeypatch):
    monkeypatch.setattr(
        reading,
        "open_reader",
        lambda settings, embedder: store_fakes.InProcessReader(settings, embedder, []),
    )
    with Index.open(tmp_path / "index", embedder=embedder) as opened:
        yield opened


def write(folder: Path, name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(" ".join(rng.choice(WORDS, 12)) + ".\n", encoding="utf-8")


def ids(result) -> list[tuple[str, float]]:
    return [(hit.chunk.id, hit.score) for hit in result.hits]


def test_an_index_without_anything_in_it_has_no_hits(index, embedder):
    assert Retriever(index, embedder).search("amber").hits == ()


@pytest.mark.parametrize("ranking", ["pool", "rrf", "dense", "lexical"])
def test_the_cache_serves_what_the_true_search_finds_while_files_come_change_and_go(
    index, embedder, tmp_path, ranking
):
    folder, rng = tmp_path / "files", np.random.default_rng(11)
    for i in range(30):
        write(folder, f"{i}.txt", i)
    index.ingest([folder])
    options = RetrievalSettings(ranking=ranking, depth=4)
    retriever = Retriever(index, embedder, settings=options, cache=RetrievalCache(candidates=8))
    filters = Filters(path_glob="*/1*.txt")
    tiers = set()
    for step in range(8):
        for query in QUERIES:
            for restriction in (None, filters):
                cached = retriever.search(query, k=3, filters=restriction)
                true = retriever.search(query, k=3, filters=restriction, use_cache=False)
                assert ids(cached) == ids(true), (step, query, cached.tier)
                tiers.add(cached.tier)
        write(folder, f"{rng.integers(30)}.txt", 1000 + step)
        (folder / f"{step}.txt").unlink()
        (folder / f"1{step}.txt").rename(folder / f"moved {step}.txt")
        index.ingest([folder], prune=True)
    assert "miss" in tiers
    assert "certified" in tiers or ranking in ("lexical", "rrf")


def test_what_is_certified_over_an_index_that_has_outgrown_the_exact_search_is_true_of_every_vector(
    index, embedder, tmp_path
):
    """Its lists are from when all vectors were compared, and kept right by what the catalog says."""
    folder, rng = tmp_path / "files", np.random.default_rng(5)
    for i in range(36):
        write(folder, f"{i}.txt", i)
    index.close()
    cache = RetrievalCache(candidates=12)
    dense = RetrievalSettings(ranking="dense")
    asked = [(query, filters) for query in QUERIES for filters in (None, Filters(path_glob="*/1*.txt"))]
    certified = 0
    with Index.open(index.folder, embedder=embedder, vectors=VectorSettings(exact_chunks=40)) as grown:
        grown.ingest([folder])
        retriever = Retriever(grown, embedder, settings=dense, cache=cache)
        for query, filters in asked:
            assert retriever.search(query, k=3, filters=filters).explanation.get("proven", True)
        for step in range(5):
            for i in range(8):
                write(folder, f"1{step}{i}.txt", 100 * step + i)
            (folder / f"{rng.integers(36)}.txt").unlink(missing_ok=True)
            (folder / f"1{step}.txt").rename(folder / f"moved {step}.txt")
            grown.ingest([folder], prune=True)
            for query, filters in asked:
                result = retriever.search(query, k=1 + step % 2, filters=filters)
                if result.tier == "certified":
                    certified += 1
                    assert ids(result) == every_vector(grown, embedder, query, filters)[: 1 + step % 2]
                elif result.tier == "miss":
                    assert not result.explanation["proven"]
        with grown.view() as view:
            assert not view.is_exact
    assert certified > 10


def test_threads_that_search_while_files_come_and_go_get_what_is_true_at_that_moment(
    index, embedder, tmp_path
):
    folder = tmp_path / "files"
    for i in range(30):
        write(folder, f"{i}.txt", i)
    index.ingest([folder])
    retriever = Retriever(index, embedder, cache=RetrievalCache(candidates=10, max_bytes=60_000))
    wrong, tiers, done = [], Counter(), threading.Event()
    filters = Filters(path_glob="*/1*.txt")

    def ask() -> None:
        is_last = False
        while not is_last:
            is_last = done.is_set()  # once more when nothing changes any longer
            for query in QUERIES:
                for restriction in (None, filters):
                    before = index.refreshed_version()
                    cached = retriever.search(query, k=3, filters=restriction)
                    true = retriever.search(query, k=3, filters=restriction, use_cache=False)
                    if index.refreshed_version() == before:
                        tiers[cached.tier] += 1
                        if ids(cached) != ids(true):
                            wrong.append((query, restriction, cached.tier))

    with ThreadPoolExecutor(3) as threads:
        asking = [threads.submit(ask) for _ in range(3)]
        try:
            for step in range(5):
                write(folder, f"1{step}0.txt", 1000 + step)
                (folder / f"{step}.txt").unlink()
                (folder / f"1{step}.txt").rename(folder / f"moved {step}.txt")
                index.ingest([folder], prune=True)
        finally:
            done.set()
        for one in asking:
            one.result()
    assert wrong == []
    assert tiers["exact"] + tiers["certified"] > 0


def every_vector(index: Index, embedder, query: str, filters: Filters | None) -> list[tuple[str, float]]:
    """Ids and scores of all chunks that pass, from the catalog's own vectors."""
    (vector,) = embedder.embed_queries([query])
    with index.view() as view, index.catalog.read() as connection:
        allowed = view.matching(filters)
        found = []
        for batch in catalog_reader.numbered_vectors(connection):
            here = slice(None) if allowed is None else np.isin(batch.numbers, allowed)
            scores = exact_scores(batch.vectors[here], vector)
            found += zip(batch.ids[here].astype(str).tolist(), scores.tolist(), strict=True)
    return sorted(found, key=lambda hit: (-hit[1], hit[0]))


def test_dense_and_lexical_rankings_are_those_of_the_index(index, embedder, tmp_path):
    for i in range(25):
        write(tmp_path / "files", f"{i}.txt", i)
    index.ingest([tmp_path / "files"])
    for ranking in ("dense", "lexical"):
        retriever = Retriever(index, embedder, settings=RetrievalSettings(ranking=ranking))
        for query in QUERIES:
            if ranking == "dense":
                (expected,) = index.search(embedder.embed_queries([query]), 7)
            else:
                (expected,) = index.search_text([query], 7)
            found = ids(retriever.search(query, k=7))
            assert [name for name, _ in found] == [hit.chunk_id for hit in expected]
            assert [score for _, score in found] == pytest.approx([hit.score for hit in expected])


def test_longer_passages_are_the_documents_text_whatever_the_files_hold(index, embedder, tmp_path):
    folder, rng = tmp_path / "files", np.random.default_rng(7)
    folder.mkdir()
    for name in ("a.md", "b.md"):
        sections = [f"# Part {i}\n\n" + "\n\n".join(_paragraphs(rng)) for i in range(4)]
        (folder / name).write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    index.ingest([folder])
    ways = [{"neighbours": 1}, {"section_min_hits": 2}, {"neighbours": 2, "section_min_hits": 2}]
    longer = 0
    for way in ways:
        retriever = Retriever(index, embedder, settings=RetrievalSettings(section_max_chars=3000, **way))
        for query in QUERIES:
            for hit in retriever.search(query, k=6).hits:
                chunk, text = hit.chunk, index.document_text(hit.chunk.document_id)
                assert text[chunk.start : chunk.end] == chunk.text
                for part, original in zip(
                    hit.parts, index.chunks([p.chunk_id for p in hit.parts]), strict=True
                ):
                    assert (part.start, part.end, part.page) == (original.start, original.end, original.page)
                    assert original.text in chunk.text
                longer += bool(hit.parts)
    assert longer
    with index.view() as view:
        assert view.around("nothing", 1, 1) == []


def _paragraphs(rng: np.random.Generator) -> list[str]:
    return [" ".join(rng.choice(WORDS, 60)).capitalize() + "." for _ in range(4)]


def test_a_view_is_one_state_while_another_thread_ingests(index, embedder, tmp_path):
    write(tmp_path / "files", "a.txt", 1)
    index.ingest([tmp_path / "files"])
    with index.view() as view:
        version, count = view.version, view.count()
        (found,) = view.nearest(embedder.embed_queries(["amber"]), 5)
    write(tmp_path / "files", "b.txt", 2)
    index.ingest([tmp_path / "files"])
    with index.view() as view:
        assert view.version != version
        assert view.count() == count + 1
        assert len(view.added_since(version)) == 1
        assert len(view.nearest(embedder.embed_queries(["amber"]), 5)[0][0]) == len(found[0]) + 1
        assert view.added_since(version._replace(token="another")) is None
        present, vectors = view.vectors(np.array([1, 2, 999]))
        assert present.tolist() == [1, 2]
        assert vectors.shape == (2, embedder.dimension)
        assert view.sample(1).shape == (1, embedder.dimension)
