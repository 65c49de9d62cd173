"""The retriever over a real index: files in, hits out, while the files change."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from indexer import reading
from indexer.index import Index
from indexer.types import Filters
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
