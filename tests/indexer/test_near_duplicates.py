"""Files that say the same, or nearly: found, grouped, and kept in step with the index."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from store_fakes import HashingEmbedder

from indexer import minhash
from indexer import near_duplicates as module
from indexer.index import Index
from indexer.minhash import signature, similar_pairs
from indexer.types import Filters


def prose(seed: int, words: int = 300) -> list[str]:
    chooser = random.Random(seed)
    return ["".join(chooser.choices("abcdefghijklmnop", k=chooser.randint(3, 9))) for _ in range(words)]


def write(path: Path, words: list[str]) -> None:
    path.write_text(". ".join(" ".join(words[i : i + 12]) for i in range(0, len(words), 12)) + ".\n")


def groups(index: Index) -> list[tuple[set[str], float]]:
    return [({Path(uri).name for uri in g.uris}, g.similarity) for g in index.near_duplicates().groups]


@pytest.mark.parametrize("changed_words", [0, 5, 20, 60])
def test_the_estimate_is_near_the_true_jaccard_similarity(changed_words: int):
    words = prose(1, 1000)
    other = list(words)
    for place in random.Random(2).sample(range(1000), changed_words):
        other[place] = "changed"
    texts = [" ".join(words), " ".join(other)]
    left, right = ({text[i : i + 16] for i in range(len(text) - 15)} for text in texts)
    _, similarities = similar_pairs(np.stack([signature(text) for text in texts]), 0.1)
    assert similarities.tolist() == pytest.approx([len(left & right) / len(left | right)], abs=0.14)


def test_every_run_of_16_characters_has_its_own_polynomial():
    codes = np.arange(3, 43, dtype=np.uint64) ** np.uint64(9)
    expected = []
    for start in range(25):
        total = 0
        for code in codes[start : start + 16].tolist():
            total = total * minhash._FACTOR + code
        expected.append(total % 2**64)
    assert minhash._polynomials(codes).tolist() == expected


def test_case_and_white_space_make_no_difference_and_short_texts_are_not_compared():
    text = " ".join(prose(1))
    assert np.array_equal(signature(text), signature(text.upper().replace(" ", "\n\t")))
    assert not len(similar_pairs(np.stack([signature("Yes."), signature("Yes.")]), 0.8)[0])
    assert not len(similar_pairs(np.stack([signature(""), signature("")]), 0.8)[0])
    assert not len(similar_pairs(np.zeros((0, 128), np.uint32), 0.8)[0])


def test_texts_that_have_little_in_common_make_no_pair():
    signatures = np.stack([signature(" ".join(prose(seed))) for seed in range(50)])
    assert not len(similar_pairs(signatures, 0.5)[0])


def test_many_equal_texts_cost_a_pair_each_and_not_one_for_every_two():
    pairs, _ = similar_pairs(np.stack([signature(" ".join(prose(1)))] * 500), 0.8)
    assert len(pairs) < 1000
    assert set(pairs.ravel().tolist()) == set(range(500))


def test_an_edited_copy_is_reported_with_the_original_and_forgotten_with_it(index: Index, corpus: Path):
    words = prose(1)
    write(corpus / "draft.txt", words)
    write(corpus / "final.txt", [*words, "signed", "and", "sealed"])
    write(corpus / "other.txt", prose(2))
    index.ingest([corpus])
    ((names, similarity),) = groups(index)
    assert names == {"draft.txt", "final.txt"}
    assert 0.8 <= similarity < 1
    write(corpus / "final.txt", prose(3))  # a change of the text changes what it is like
    index.ingest([corpus])
    assert groups(index) == []
    write(corpus / "final.txt", words[:290])
    index.ingest([corpus])
    assert [names for names, _ in groups(index)] == [{"draft.txt", "final.txt"}]
    (corpus / "draft.txt").unlink()
    index.ingest([corpus], prune=True)
    assert groups(index) == []
    assert index.verify().ok


def test_a_document_that_shrinks_is_compared_anew(index: Index, corpus: Path):
    words = prose(1)
    write(corpus / "long.txt", [*words, *prose(2)])
    write(corpus / "short.txt", words)
    index.ingest([corpus])
    assert groups(index) == []
    write(corpus / "long.txt", words[:-1])
    index.ingest([corpus])
    assert [names for names, _ in groups(index)] == [{"long.txt", "short.txt"}]


def test_an_exact_copy_is_stored_once_found_by_every_path_and_listed_with_all_of_them(
    index: Index, corpus: Path, embedder: HashingEmbedder
):
    for name in ("a copy.txt", "heron.txt", "z copy.txt"):
        (corpus / name).write_text("Herons nest by the pond.\n")
    index.ingest([corpus])
    assert sum(n for text, n in embedder.texts.items() if text.endswith("Herons nest by the pond.")) == 1
    names = {"a copy.txt", "heron.txt", "z copy.txt"}
    assert groups(index) == [(names, 1.0)]
    statuses = [status for status in index.files() if Path(status.uri).name in names]
    assert {status.status for status in statuses} == {"indexed"}
    assert len(statuses) == 3
    assert len({status.document_id for status in statuses}) == 1
    for name in names:
        (hits,) = index.search_text(["herons"], 5, filters=Filters(path_glob=name))
        assert len(hits) == 1


def test_an_index_from_before_there_were_signatures_gets_them_with_the_next_ingest(
    index: Index, corpus: Path, embedder: HashingEmbedder
):
    write(corpus / "draft.txt", prose(1))
    write(corpus / "final.txt", prose(1)[:-1])
    index.ingest([corpus])
    with index.catalog.write() as writer:
        writer.connection.execute("DROP TABLE document_minhashes")
    assert groups(index) == []
    with Index.open(index.folder, embedder=embedder) as again:
        again.ingest([corpus])
        assert len(groups(again)) == 1


def test_the_list_is_bounded_and_says_how_much_it_leaves_out(
    index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "MAX_GROUPS", 2)
    monkeypatch.setattr(module, "MAX_FILES", 2)
    for seed in range(3):
        for copy in range(3):
            write(corpus / f"{seed}-{copy}.txt", prose(seed))
    index.ingest([corpus])
    report = index.near_duplicates()
    assert (len(report.groups), report.total) == (2, 3)
    assert {(len(group.uris), group.files) for group in report.groups} == {(2, 3)}
