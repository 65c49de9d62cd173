"""An index that outgrew the exact search: its files, how it follows the catalog, what survives a crash."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from store_fakes import HashingEmbedder, InProcessReader

from indexer import catalog_reader, checkpoint, reading
from indexer.index import Index
from indexer.recall import best_scores, recalls
from indexer.types import Filters
from indexer.vector_settings import VectorSettings

SETTINGS = VectorSettings(exact_chunks=40)
WORDS = ("ferry", "heron", "tide", "crown", "bridge", "apple", "pond", "mill", "stork", "toll", "harbour")
QUERIES = HashingEmbedder().embed_queries(["heron pond", "ferry toll 7", "tide mill", "apple 30 crown"])


def write(corpus: Path, numbers: range) -> None:
    for number in numbers:
        words = " ".join(WORDS[number * step % 11] for step in (1, 3, 5))
        (corpus / f"{number}.txt").write_text(f"{words} {number} {number % 7}")


class Place(NamedTuple):
    """Where the index and the files are; the same for every test, since paths are part of an index."""

    index: Path
    corpus: Path
    saved: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """An index of 60 chunks, where 40 are all compared, and what is ingested later is parsed right here."""
    folder = tmp_path_factory.mktemp("approximate")
    place = Place(folder / "now" / "index", folder / "now" / "corpus", folder / "saved")
    place.corpus.mkdir(parents=True)
    write(place.corpus, range(60))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            reading, "open_reader", lambda settings, embedder: InProcessReader(settings, embedder, [])
        )
        with opened(place.index) as index:
            index.ingest([place.corpus])
            assert index.verify().findings == ()
        shutil.copytree(place.index.parent, place.saved)
        yield place


@pytest.fixture
def large(place: Place) -> Path:
    """The folder of the index, as it was."""
    shutil.rmtree(place.index.parent)
    shutil.copytree(place.saved, place.index.parent)
    return place.index


@pytest.fixture
def many(place: Place) -> Path:
    """The folder of the files; take `large` first."""
    return place.corpus


def opened(folder: Path, settings: VectorSettings = SETTINGS, *, read_only: bool = False) -> Index:
    return Index.open(folder, embedder=HashingEmbedder(), vectors=settings, read_only=read_only)


def recall(index: Index) -> float:
    with index.view() as view, index.catalog.read() as connection:
        assert not view.is_exact
        every = np.concatenate([batch.vectors for batch in catalog_reader.numbered_vectors(connection)])
        found = [scores for _, scores in view.nearest(QUERIES, 10)]
    return float(recalls(found, best_scores([every], QUERIES, 10), 10).mean())


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("vectors*")}


def test_a_large_index_becomes_approximate_and_a_small_one_exact_again(large: Path, many: Path):
    stamp = checkpoint.read_stamp(large)
    assert stamp is not None
    assert stamp.base is not None
    assert (stamp.count, stamp.base.count, stamp.total) == (0, 60, 60)
    assert names(large) == {stamp.file, "vectors.json"} | {file.file for file in stamp.base.files}
    with opened(large) as index:
        assert recall(index) >= 0.9
        for number in range(50):
            (many / f"{number}.txt").unlink()
        index.ingest([many], prune=True)
        assert checkpoint.read_stamp(large).base is None
        with index.view() as view:
            assert view.is_exact
        assert index.verify().findings == ()
    assert len(names(large)) == 2


def test_what_comes_and_goes_is_followed_without_making_it_all_anew(large: Path, many: Path):
    before = checkpoint.read_stamp(large).base
    with opened(large) as index, opened(large, read_only=True) as reader:
        assert reader.search(QUERIES, 3)[0]
        (many / "5.txt").unlink()
        write(many, range(60, 63))
        index.ingest([many], prune=True)
        after = checkpoint.read_stamp(large)
        assert (after.base.codes, after.base.rows) == (before.codes, before.rows)
        assert (after.count, after.base.live, after.total) == (3, 59, 62)
        assert index.verify().findings == ()
        assert reader.search(QUERIES, 5) == index.search(QUERIES, 5)
    with opened(large, read_only=True) as again:
        assert recall(again) >= 0.9
        hits = again.search(HashingEmbedder().embed_queries([(many / "62.txt").read_text()]), 1)[0]
        assert again.chunks([hits[0].chunk_id])[0].uri.endswith("62.txt")
        found = again.search(QUERIES, 62)
        assert [len(hits) for hits in found] == [62] * len(QUERIES)


def test_a_tail_that_has_grown_is_merged(large: Path, many: Path):
    before = checkpoint.read_stamp(large).base
    write(many, range(60, 70))
    with opened(large) as index:
        index.ingest([many])
        after = checkpoint.read_stamp(large)
        assert after.base.codes != before.codes
        assert (after.count, after.base.count, after.base.trained_on) == (0, 70, 60)  # the lists are kept
        assert recall(index) >= 0.9
        assert index.verify().findings == ()
    assert names(large) == {after.file, "vectors.json"} | {file.file for file in after.base.files}


def test_a_server_takes_what_another_process_has_merged(large: Path, many: Path):
    with opened(large, read_only=True) as server, opened(large) as index:
        assert server.search(QUERIES, 3)[0]
        write(many, range(60, 70))
        index.ingest([many])
        server.refresh()  # follows the catalog
        server.refresh()  # finds that there is a better checkpoint
        assert server.search(QUERIES, 5) == index.search(QUERIES, 5)
        with server.view() as view:
            assert len(view._vectors.tail) == 0


def test_filters_give_k_hits_whenever_k_chunks_pass(large: Path, many: Path):
    with opened(large, read_only=True) as index:
        for glob, count in ((f"{many}/1*.txt", 11), (f"{many}/7.txt", 1), (f"{many}/x.txt", 0)):
            for hits in index.search(QUERIES, 8, filters=Filters(path_glob=glob)):
                assert len(hits) == min(8, count)


def _codes(folder: Path) -> Path:
    return next(folder.glob("*.ivf"))


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _edit(folder: Path, **changes: object) -> None:
    stamp = json.loads((folder / "vectors.json").read_bytes())
    stamp["base"] |= changes
    (folder / "vectors.json").write_text(json.dumps(stamp))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: _codes(folder).unlink(),
        lambda folder: _flip(_codes(folder)),
        lambda folder: next(folder.glob("*.rows.npy")).write_bytes(b"\x93NUMPY"),
        lambda folder: _flip(next(folder.glob("*.chunks.npy"))),
        lambda folder: _edit(folder, plan=[]),
        lambda folder: _edit(folder, rows={"file": "../vectors-1-00000000.ivf", "bytes": 1, "sha256": ""}),
        lambda folder: (folder / "vectors.json").unlink(),
    ],
)
def test_one_that_cannot_be_used_is_made_anew(large: Path, damage: Callable[[Path], object]):
    damage(large)
    with opened(large, read_only=True) as reader, reader.view() as view:
        assert view.is_exact  # from the catalog, in memory
    with opened(large) as index:
        assert recall(index) >= 0.9
        assert index.verify().findings == ()
    assert checkpoint.read_stamp(large).base is not None


def test_verify_notices_a_vector_that_changed_on_disk(large: Path):
    _flip(next(large.glob("*.rows.npy")))
    with opened(large, read_only=True) as index:
        assert {finding.check for finding in index.verify().findings} >= {"checkpoint", "vectors"}


def test_an_ingest_that_dies_while_it_merges_leaves_the_old_files(
    place: Place, large: Path, many: Path, monkeypatch: pytest.MonkeyPatch
):
    before = names(large)
    copy = place.saved.parent / "copy"
    write(many, range(60, 70))

    def die(*_: object) -> None:
        shutil.copytree(large, copy)  # what a kill -9 would leave
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("indexer.ivf_building.tune", die)
        with opened(large) as index, pytest.raises(KeyboardInterrupt):
            index.ingest([many])
    assert before < names(copy)  # and half a new index, which nobody looks at
    with opened(copy) as index:
        assert index.stats().chunks == 70
        assert recall(index) >= 0.9
        index.ingest([many])
        assert index.verify().findings == ()
    stamp = checkpoint.read_stamp(copy)
    assert names(copy) == {stamp.file, "vectors.json"} | {file.file for file in stamp.base.files}


def test_other_settings_take_effect_with_the_next_ingest(large: Path, many: Path):
    with opened(large, VectorSettings(exact_chunks=1000)) as index:
        index.ingest([many])
        assert checkpoint.read_stamp(large).base is None
    with opened(large, VectorSettings(exact_chunks=40, recall_target=0.5)) as index:
        index.ingest([many])
        assert checkpoint.read_stamp(large).base.recall_target == 0.5
