from __future__ import annotations

import numpy as np
import pytest
from catalog_looks import chunks, count, ids_of, source, store
from store_fakes import HashingEmbedder

from indexer import catalog_reader
from indexer.catalog import Catalog
from indexer.catalog_writer import Failure
from indexer.errors import (
    UnknownChunk,
    UnknownDocument,
)
from indexer.types import Box, Filters


def test_a_stored_document_comes_back_as_it_was(catalog: Catalog):
    document = store(catalog, "/a.txt", "one\ntwö")
    ids = [chunks(catalog)["twö"][1], chunks(catalog)["one"][1]]
    with catalog.read() as connection:
        second, first = catalog_reader.load_chunks(connection, ids)
        vectors = catalog_reader.load_vectors(connection, ids)
        assert catalog_reader.document_text(connection, document) == "one\ntwö"
    assert (first.text, first.start, first.end) == ("one", 0, 3)
    assert (second.text, second.start, second.end) == ("twö", 4, 7)
    assert second.id == ids[0]
    assert second.document_id == document
    assert second.uri == "/a.txt"
    assert second.page == 1
    assert second.boxes == (Box(1, 0.0, 0.5, 10.0, 12.25),)
    assert second.heading_path == ("Title", "Überschrift")
    np.testing.assert_array_equal(vectors[0], HashingEmbedder.vector("twö"))


def test_a_changed_file_replaces_only_the_chunks_that_changed(catalog: Catalog):
    document = store(catalog, "/a.txt", "one\ntwo\nthree")
    before = chunks(catalog)
    assert store(catalog, "/a.txt", "zero\none\nthree") == document
    after = chunks(catalog)
    assert after["one"] == before["one"]
    assert after["three"] == before["three"]
    assert set(after) == {"zero", "one", "three"}
    with catalog.read() as connection:
        (one,) = catalog_reader.load_chunks(connection, [after["one"][1]])
        assert (one.start, one.end) == (5, 8)  # the offsets follow the text
        assert connection.execute("SELECT count(*) FROM embeddings").fetchone() == (3,)
        assert catalog_reader.removed_since(connection, 1) == [before["two"]]
        assert catalog_reader.added_since(connection, 1) == [after["zero"][1]]


def test_chunks_that_say_the_same_are_told_apart(catalog: Catalog):
    store(catalog, "/a.txt", "same\nsame\nsame")
    assert count(catalog, "chunks") == 3
    assert count(catalog, "embeddings") == 1
    store(catalog, "/a.txt", "same\nsame")
    assert count(catalog, "chunks") == 2


def test_a_chunk_whose_vector_changes_gets_a_new_number_and_keeps_its_id(catalog: Catalog):
    store(catalog, "/a.txt", "one", context="old title")
    number, id_ = chunks(catalog)["one"]
    store(catalog, "/a.txt", "one", context="new title", version="v2")
    assert chunks(catalog)["one"][1] == id_
    assert chunks(catalog)["one"][0] > number
    with catalog.read() as connection:
        assert catalog_reader.removed_since(connection, 1) == [(number, id_)]
        assert catalog_reader.added_since(connection, 1) == [id_]
        np.testing.assert_array_equal(
            catalog_reader.load_vectors(connection, [id_])[0], HashingEmbedder.vector("new titleone")
        )


def test_files_with_the_same_content_share_a_document_until_one_of_them_changes(catalog: Catalog):
    document = store(catalog, "/b.txt", "one")
    assert store(catalog, "/a.txt", "one") == document
    assert count(catalog, "documents") == 1
    with catalog.read() as connection:
        assert catalog_reader.load_chunks(connection, [chunks(catalog)["one"][1]])[0].uri == "/a.txt"
    other = store(catalog, "/a.txt", "two")
    assert other != document
    with catalog.read() as connection:
        uris = {c.text: c.uri for c in catalog_reader.load_chunks(connection, ids_of(catalog))}
    assert uris == {"one": "/b.txt", "two": "/a.txt"}


def test_content_that_turns_up_again_does_not_take_the_id_of_the_document_that_it_once_was(catalog: Catalog):
    document = store(catalog, "/a.txt", "one")
    assert store(catalog, "/a.txt", "two") == document
    assert store(catalog, "/b.txt", "one") != document
    assert count(catalog, "documents") == 2


def test_a_chunk_that_is_found_under_other_paths_is_listed_as_changed(catalog: Catalog):
    store(catalog, "/b.txt", "one")
    id_ = chunks(catalog)["one"][1]
    store(catalog, "/a.txt", "one")
    with catalog.read() as connection:
        assert [c for _, c in catalog_reader.removed_since(connection, 1)] == [id_]
        assert catalog_reader.added_since(connection, 1) == [id_]
    with catalog.write() as writer:
        assert writer.remove_file("/b.txt")
    with catalog.read() as connection:
        assert catalog_reader.added_since(connection, 2) == [id_]
        filters = Filters(path_glob="/b.txt")
        assert catalog_reader.matching_numbers(connection, filters).tolist() == []


def test_removing_the_last_file_of_a_document_leaves_nothing_of_it(catalog: Catalog):
    store(catalog, "/a.txt", "one\ntwo")
    store(catalog, "/b.txt", "two\nthree")
    with catalog.write() as writer:
        assert writer.remove_file("/a.txt")
        assert not writer.remove_file("/unknown.txt")
    assert set(chunks(catalog)) == {"two", "three"}
    assert count(catalog, "documents") == 1
    assert count(catalog, "embeddings") == 2  # "two" is still needed
    assert count(catalog, "files") == 1


def test_a_file_that_fails_keeps_its_last_good_version_and_says_so(catalog: Catalog):
    store(catalog, "/a.txt", "one")
    with catalog.write() as writer:
        failure = Failure("truncated-file", "It ends too soon.", "Copy it again.")
        writer.fail(source("/a.txt"), failure, content_key=None, conversion="v1")
    assert set(chunks(catalog)) == {"one"}
    with catalog.read() as connection:
        (status,) = catalog_reader.file_statuses(connection, only_not_indexed=True)
    assert (status.status, status.code, status.hint) == ("failed", "truncated-file", "Copy it again.")
    assert status.reason.startswith("It ends too soon. The version indexed at ")


def test_a_file_that_is_skipped_is_not_found_any_more(catalog: Catalog):
    store(catalog, "/a.txt", "one")
    with catalog.write() as writer:
        failure = Failure("ignored", "Excluded by .gitignore.", "")
        writer.skip(source("/a.txt"), failure, content_key=None, conversion="v1")
    assert chunks(catalog) == {}
    assert count(catalog, "documents") == 0


def test_filters_choose_by_path_kind_and_document(catalog: Catalog):
    document = store(catalog, "/docs/guide/a.txt", "one")
    store(catalog, "/src/a.txt", "two")

    def texts(**filters) -> set[str]:
        with catalog.read() as connection:
            numbers = catalog_reader.matching_numbers(connection, Filters(**filters))
            ids = catalog_reader.chunk_ids(connection, numbers.tolist())
            return {chunk.text for chunk in catalog_reader.load_chunks(connection, ids)}

    assert texts(path_glob="*.txt") == {"one", "two"}
    assert texts(path_glob="/docs/*") == {"one"}
    assert texts(path_glob="guide") == {"one"}  # a folder, wherever it is, means all that is in it
    assert texts(path_glob="guide/") == {"one"}
    assert texts(path_glob="src/?.txt") == {"two"}
    assert texts(path_glob="uide/a.txt") == set()
    assert texts(kinds=frozenset({"text"})) == {"one", "two"}
    assert texts(kinds=frozenset({"code"})) == set()
    assert texts(document_ids=frozenset({document, "unknown"})) == {"one"}
    assert texts(document_ids=frozenset({document}), path_glob="/src/*") == set()
    with catalog.read() as connection:
        assert catalog_reader.matching_numbers(connection, Filters()) is None


def test_a_chunk_names_every_path_that_holds_it_the_best_first(catalog: Catalog):
    for uri in ("/notes/old/a.txt", "/notes/b.txt", "/notes/a.txt", "/archive/2024/x/a.txt"):
        store(catalog, uri, "one")
    (_, id_) = chunks(catalog)["one"]

    def uris(path_glob: str | None = None) -> tuple[str, ...]:
        with catalog.read() as connection:
            (chunk,) = catalog_reader.load_chunks(connection, [id_], filters=Filters(path_glob=path_glob))
        assert chunk.uri == chunk.uris[0]
        return chunk.uris

    assert uris() == ("/notes/a.txt", "/notes/b.txt", "/notes/old/a.txt", "/archive/2024/x/a.txt")
    # A search that was told where to look is told of a file there.
    assert uris("archive") == ("/archive/2024/x/a.txt", "/notes/a.txt", "/notes/b.txt", "/notes/old/a.txt")
    assert uris("/notes/b*")[0] == "/notes/b.txt"


def test_what_does_not_exist_is_an_error_of_its_own(catalog: Catalog):
    with catalog.read() as connection:
        with pytest.raises(UnknownChunk, match="no chunk abc"):
            catalog_reader.load_chunks(connection, ["abc"])
        with pytest.raises(KeyError):
            catalog_reader.load_vectors(connection, ["abc"])
        with pytest.raises(UnknownDocument):
            catalog_reader.document_text(connection, "abc")


def test_files_below_a_folder_are_those_and_no_others(catalog: Catalog):
    for uri in ("/a", "/a/b", "/a/c/d", "/a.txt", "/ab", "/b"):
        store(catalog, uri, uri)
    with catalog.read() as connection:
        assert [f.uri for f in catalog_reader.files_below(connection, "/a")] == ["/a", "/a/b", "/a/c/d"]
        assert [f.uri for f in catalog_reader.files_below(connection, "/a", after="/a/b")] == ["/a/c/d"]
        assert len(catalog_reader.files_below(connection, "/")) == 6
