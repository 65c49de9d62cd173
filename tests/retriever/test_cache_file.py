"""The cache on disk: what comes back, and what must not."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from fakes import DIMENSION, FakeCorpus, FakeEmbedder, FakeView, brute_force, embed, found, make_retriever
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from indexer.types import Filters
from retriever import RetrievalCache, RetrievalSettings
from retriever.cache_file import load, save
from retriever.cache_keys import ListKey, Space
from retriever.lists import DenseList

DENSE = RetrievalSettings(ranking="dense")
CODE = Filters(kinds=frozenset({"code"}), path_glob="*")


def corpus_of(count: int = 200) -> FakeCorpus:
    corpus, rng = FakeCorpus(), np.random.default_rng(3)
    for i in range(count):
        vector = rng.standard_normal(DIMENSION)
        vector = (vector / np.linalg.norm(vector)).astype(np.float32)
        corpus.add(f"text {i}", vector, kind="code" if i % 2 else "text")
    return corpus


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.safetensors"


def session(corpus: FakeCorpus, path: Path, queries: list[str], **options) -> list[str]:
    """The tiers that a new process answers queries from."""
    embedder = FakeEmbedder()
    cache = RetrievalCache(candidates=20, **options)
    with make_retriever(corpus, embedder, cache=cache, settings=DENSE, cache_file=path) as retriever:
        tiers = []
        for query in queries:
            result = retriever.search(query, k=3)
            assert found(result) == brute_force(corpus, query, embed(query), 3, DENSE, None)
            tiers.append(result.tier)
    return tiers


def test_a_known_question_is_neither_embedded_nor_searched_for_after_a_restart(path):
    corpus, embedder = corpus_of(), FakeEmbedder()
    assert session(corpus, path, ["amber", "basin"]) == ["miss", "miss"]
    corpus.log["nearest"].clear()
    retriever = make_retriever(corpus, embedder, cache=RetrievalCache(), settings=DENSE, cache_file=path)
    assert retriever.search("amber", k=3).tier == "certified"
    assert (embedder.batches, corpus.log["nearest"]) == ([], [])


def test_the_file_holds_no_text_of_a_document_and_is_its_owners_alone(path):
    corpus = corpus_of()
    corpus.add("the secret of the lagoon", embed("amber"))
    session(corpus, path, ["amber"])
    assert b"amber" in path.read_bytes()
    assert b"lagoon" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_what_was_added_and_removed_meanwhile_is_replayed(path):
    corpus = corpus_of()
    session(corpus, path, ["amber"])
    best = corpus.add("new", embed("amber"))
    corpus.add("far", -embed("amber"))
    assert session(corpus, path, ["amber"]) == ["certified"]
    corpus.remove(best)
    assert session(corpus, path, ["amber"]) == ["certified"]


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.sampled_from(["amber", "basin", "cedar delta"])),
            st.tuples(st.just("remove"), st.integers(1, 60)),
            st.tuples(st.just("ask"), st.sampled_from(["amber", "basin", "cedar", "amber basin"])),
            st.tuples(st.just("restart"), st.none()),
        ),
        min_size=5,
        max_size=30,
    )
)
def test_restarts_at_any_moment_change_no_answer(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("cache") / "cache.safetensors"
    corpus = corpus_of(60)

    def start():
        cache = RetrievalCache(candidates=8, max_bytes=20_000)
        return make_retriever(corpus, cache=cache, settings=DENSE, cache_file=path)

    retriever = start()
    for kind, value in steps:
        if kind == "add":
            corpus.add(value)
        elif kind == "remove" and value in corpus.rows:
            corpus.remove(value)
        elif kind == "restart":
            retriever.close()
            retriever = start()
        elif kind == "ask":
            result = retriever.search(value, k=3)
            assert found(result) == brute_force(corpus, value, embed(value), 3, DENSE, None)
            stats = retriever.cache.stats()
            assert stats.bytes <= stats.max_bytes


@pytest.mark.parametrize("change", ["token", "forgotten", "earlier"])
def test_lists_of_another_index_or_an_unknown_state_are_left_out(path, change):
    corpus = corpus_of()
    session(corpus, path, ["amber"])
    if change == "token":
        corpus.version = corpus.version._replace(token="another")
    elif change == "forgotten":
        corpus.add("more")
        corpus.forgotten = corpus.version.generation
    else:  # the index was made anew and has fewer states behind it
        corpus = corpus_of(50)
    cache, embedder = RetrievalCache(), FakeEmbedder()
    retriever = make_retriever(corpus, embedder, cache=cache, settings=DENSE, cache_file=path)
    assert (cache.stats().num_lists, cache.stats().num_vectors) == (0, 1)
    assert retriever.search("amber").tier == "miss"
    assert embedder.batches == []  # the vector of a question depends on no corpus
    assert retriever.search("amber", k=2).tier == "certified"


def test_what_another_embedder_made_is_left_out(path):
    corpus = corpus_of()
    session(corpus, path, ["amber"])
    cache = RetrievalCache()
    load(cache, path, corpus, embedder="another")
    assert (cache.stats().num_lists, cache.stats().num_vectors) == (0, 0)


def test_lists_under_a_filter_come_back_under_that_filter(path):
    corpus, cache = corpus_of(), RetrievalCache(candidates=20)
    with make_retriever(corpus, cache=cache, settings=DENSE, cache_file=path) as retriever:
        before = found(retriever.search("amber", k=3, filters=CODE))
    with make_retriever(corpus, cache=RetrievalCache(), settings=DENSE, cache_file=path) as retriever:
        assert retriever.search("amber", k=3).tier == "miss"
        result = retriever.search("amber", k=3, filters=CODE)
        assert (result.tier, found(result)) == ("certified", before)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_file_is_a_clean_start_and_a_warning(path, caplog, seed):
    corpus = corpus_of()
    session(corpus, path, ["amber", "basin"])
    data, rng = path.read_bytes(), np.random.default_rng(seed)
    damages = [
        b"",
        b"\x80\x04K\x01.",
        data[: rng.integers(1, len(data))],
        data + b"more",
        flipped(data, int(rng.integers(len(data)))),
        b"\xff" * len(data),
    ]
    path.write_bytes(damages[seed % len(damages)])
    assert session(corpus, path, ["amber"]) == ["miss"]
    assert "retrieval cache" in caplog.text
    assert session(corpus, path, ["amber"]) == ["certified"]


def test_every_bit_of_the_file_counts(path):
    corpus = corpus_of(20)
    cache = RetrievalCache(candidates=2)
    retriever = make_retriever(corpus, cache=cache, settings=RetrievalSettings(ranking="dense", depth=2))
    retriever.search("amber", k=1)
    save(cache, path)
    data = path.read_bytes()
    for at in np.random.default_rng(0).integers(0, len(data), 60).tolist():
        path.write_bytes(flipped(data, at))
        fresh = RetrievalCache()
        if load(fresh, path, corpus, embedder="fake"):  # white space in the header, say
            assert fresh.state(saved_at=0)._replace(saved_at=0).lists[0].entry.chunks
            assert path.read_bytes()[at] in b" \t\n\r"


def test_a_list_of_which_nothing_is_left_costs_the_others_nothing(path):
    corpus, cache = corpus_of(), RetrievalCache(candidates=20)
    with make_retriever(corpus, cache=cache, settings=DENSE, cache_file=path) as retriever:
        retriever.search("amber", k=3)
        nothing = DenseList(np.zeros(0, np.int64), np.zeros(0, np.float32), 0.5, 0)
        key = ListKey(Space("fake", None), "basin")
        cache.keep_list(FakeView(corpus), key, embed("basin"), nothing, seconds=1.0)
    assert session(corpus, path, ["amber"]) == ["certified"]


def test_a_file_that_is_larger_than_the_cache_may_be_is_not_read(path, caplog):
    corpus = corpus_of()
    session(corpus, path, ["amber"])
    with path.open("ab") as file:
        file.truncate(20 << 20)
    assert session(corpus, path, ["amber"], max_bytes=1 << 20) == ["miss"]
    assert "larger than the cache may be" in caplog.text


def test_a_file_takes_no_more_bytes_than_what_is_in_it_counts_for(path):
    """Else a cache that is nearly full would be too large to be read again."""
    cache = RetrievalCache(candidates=1000)
    with make_retriever(corpus_of(1500), cache=cache, settings=DENSE, cache_file=path) as retriever:
        for number in range(15):
            retriever.search(f"query {number}", k=1)
    assert cache.stats().num_lists > 8
    assert path.stat().st_size < cache.stats().bytes


def test_a_disk_that_cannot_be_written_costs_nothing_but_the_cache(tmp_path, caplog):
    corpus = corpus_of()
    assert session(corpus, tmp_path / "nowhere" / "cache", ["amber"]) == ["miss"]
    assert "could not be saved" in caplog.text


def test_what_a_full_disk_did_not_take_is_saved_the_next_time(path, caplog, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: File too large (os error 27)")

    cache, corpus = RetrievalCache(candidates=20), corpus_of()
    make_retriever(corpus, cache=cache, settings=DENSE).search("amber")
    with monkeypatch.context() as patched:
        patched.setattr("safetensors.numpy.save_file", full)
        assert not save(cache, path)
    assert "File too large" in caplog.text
    assert save(cache, path)
    assert session(corpus, path, ["amber"]) == ["certified"]


def test_an_unchanged_cache_is_not_written_again(path):
    corpus = corpus_of()
    session(corpus, path, ["amber"])
    before = path.stat().st_mtime_ns, path.stat().st_ino
    session(corpus, path, [])
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_a_smaller_budget_keeps_what_was_used_most(path):
    corpus = corpus_of()
    session(corpus, path, [f"query {i}" for i in range(20)] + ["query 3", "query 3 again"] * 4)
    cache = RetrievalCache(max_bytes=8_000)
    load(cache, path, corpus, embedder="fake")
    stats = cache.stats()
    assert 0 < stats.num_lists + stats.num_vectors < 20
    assert stats.bytes <= 8_000


@pytest.mark.parametrize(
    ("elapsed", "tier"), [(0, "certified"), (4, "certified"), (7, "miss"), (-100, "certified")]
)
def test_ages_go_on_by_the_wall_clock_and_a_clock_set_back_makes_nothing_younger(path, elapsed, tier):
    corpus = corpus_of()
    now = [0.0]
    cache = RetrievalCache(candidates=20, ttl_s=10, clock=lambda: now[0])
    make_retriever(corpus, cache=cache, settings=DENSE).search("amber", k=3)
    now[0] = 5.0
    save(cache, path, clock=lambda: 1000.0)
    later = [0.0]
    cache = RetrievalCache(candidates=20, ttl_s=10, clock=lambda: later[0])
    load(cache, path, corpus, embedder="fake", clock=lambda: 1000.0 + elapsed)
    retriever = make_retriever(corpus, cache=cache, settings=DENSE)
    assert retriever.search("amber", k=2).tier == tier
    later[0] = 5.5
    cache.clear() if tier == "miss" else None
    assert retriever.search("amber", k=1).tier == "miss"
