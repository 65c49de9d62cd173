from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from store_fakes import HashingEmbedder

from indexer import catalog_reader, catalog_writer, schema
from indexer.catalog import CATALOG_NAME, Catalog, ChunkChange
from indexer.catalog_writer import Conversion, Failure, SourceFile
from indexer.chunking import ChunkDraft
from indexer.database import Database
from indexer.errors import (
    IndexBusy,
    IndexClosed,
    IndexCorrupt,
    IndexNotFound,
    IndexNotWritable,
    IndexTooNew,
    NotAnIndex,
    UnknownChunk,
    UnknownDocument,
)
from indexer.identity import content_key, embedding_key
from indexer.types import Box, Filters, ParsedDocument


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = Catalog.open(tmp_path / "index")
    yield opened
    opened.close()


def conversion(text: str, *, name: str = "a.txt", context: str = "", version: str = "v1") -> Conversion:
    """One chunk a line."""
    drafts, position = [], 0
    for line in text.split("\n"):
        end = position + len(line)
        boxes = (Box(1, 0.0, 0.5, 10.0, 12.25),)
        drafts.append(ChunkDraft(position, end, 1, boxes, ("Title", "Überschrift"), "text", context))
        position = end + 1
    keys = [embedding_key("e", context + text[draft.start : draft.end]) for draft in drafts]
    document = ParsedDocument(text=text, blocks=(), title="Title", format="text", metadata={"author": "Ida"})
    return Conversion(content_key(text.encode(), name), version, document, drafts, keys)


def source(uri: str, *, size: int = 1, mtime_ns: int = 1) -> SourceFile:
    return SourceFile(uri, uri.encode(), size, mtime_ns, checked_ns=10**18)


def store(catalog: Catalog, uri: str, text: str, *, context: str = "", version: str = "v1") -> str:
    converted = conversion(text, context=context, version=version)
    with catalog.write() as writer:
        writer.set_meta("dimension", "32")
        texts = [context + text[draft.start : draft.end] for draft in converted.drafts]
        vectors = [HashingEmbedder.vector(body) for body in texts]
        writer.add_embeddings(dict(zip(converted.embedding_keys, vectors, strict=True)))
        return writer.store(source(uri), converted)


def generation(catalog: Catalog) -> int:
    with catalog.read() as connection:
        return catalog_reader.version(connection).generation


def chunks(catalog: Catalog) -> dict[str, tuple[int, str]]:
    """Number and id of each chunk, by text. Texts that occur twice are not for this."""
    with catalog.read() as connection:
        rows = connection.execute("SELECT text, rowid, id FROM chunks").fetchall()
    return {text: (number, id_) for text, number, id_ in rows}


def count(catalog: Catalog, table: str) -> int:
    with catalog.read() as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


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
        uris = {c.text: c.uri for c in catalog_reader.load_chunks(connection, _ids(catalog))}
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


def test_the_generation_rises_only_when_a_search_could_tell(catalog: Catalog):
    store(catalog, "/a.txt", "one")
    assert generation(catalog) == 1
    with catalog.write() as writer:
        assert writer.link(source("/a.txt", mtime_ns=2), conversion("one").content_key, "v1") == 1  # touched
        assert writer.link(source("/a.txt", mtime_ns=3), b"other key", "v1") is None
        writer.fail(source("/c.txt"), Failure("x", "y", "z"), content_key=None, conversion="v1")
    assert generation(catalog) == 1
    store(catalog, "/a.txt", "\none")  # moved within the document
    assert generation(catalog) == 2


def test_nothing_of_a_transaction_that_fails_stays(catalog: Catalog):
    store(catalog, "/a.txt", "one")

    def remove_and_fail() -> None:
        with catalog.write() as writer:
            writer.remove_file("/a.txt")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        remove_and_fail()
    assert set(chunks(catalog)) == {"one"}
    assert generation(catalog) == 1
    store(catalog, "/b.txt", "two")  # and the next one is not disturbed
    assert set(chunks(catalog)) == {"one", "two"}


def test_a_reader_sees_one_state_for_as_long_as_it_reads(catalog: Catalog):
    store(catalog, "/a.txt", "one")
    with catalog.read() as connection:
        assert catalog_reader.version(connection).generation == 1
        store(catalog, "/b.txt", "two")
        assert catalog_reader.version(connection).generation == 1
        assert connection.execute("SELECT count(*) FROM chunks").fetchone() == (1,)
    assert generation(catalog) == 2


def test_threads_read_while_another_writes(catalog: Catalog):
    store(catalog, "/a.txt", "one\ntwo")
    failures: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(50):
                with catalog.read() as connection:
                    ids = [i for (i,) in connection.execute("SELECT id FROM chunks")]
                    assert len(catalog_reader.load_chunks(connection, ids)) == 2
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for turn in range(30):
        store(catalog, "/a.txt", f"one\ntwo {turn}")
    for thread in threads:
        thread.join()
    assert failures == []


def test_hooks_follow_every_change_within_its_transaction(catalog: Catalog):
    class Mirror:
        def prepare(self, connection: sqlite3.Connection) -> None:
            connection.execute("CREATE TABLE IF NOT EXISTS mirror (chunk INTEGER PRIMARY KEY)")

        def before_commit(self, connection: sqlite3.Connection, change: ChunkChange) -> None:
            connection.executemany("INSERT INTO mirror VALUES (?)", ((number,) for number in change.added))
            connection.executemany("DELETE FROM mirror WHERE chunk = ?", ((n,) for n in change.removed))
            if (fail := self.fail) is not None:
                raise fail

        fail: Exception | None = None

    def mirrored() -> list[int]:
        with catalog.read() as connection:
            return [number for (number,) in connection.execute("SELECT chunk FROM mirror ORDER BY chunk")]

    mirror = Mirror()
    catalog.add_hook(mirror)
    store(catalog, "/a.txt", "one\ntwo")
    store(catalog, "/a.txt", "two\nthree")
    assert mirrored() == sorted(number for number, _ in chunks(catalog).values())
    mirror.fail = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        store(catalog, "/a.txt", "four")
    assert set(chunks(catalog)) == {"two", "three"}
    assert mirrored() == sorted(number for number, _ in chunks(catalog).values())


def test_a_chunk_that_comes_and_goes_within_a_transaction_is_not_reported_to_hooks(catalog: Catalog):
    seen: list[ChunkChange] = []

    class Recorder:
        def prepare(self, connection: sqlite3.Connection) -> None: ...

        def before_commit(self, connection: sqlite3.Connection, change: ChunkChange) -> None:
            seen.append(change)

    catalog.add_hook(Recorder())
    converted = conversion("one")
    with catalog.write() as writer:
        writer.add_embeddings({key: np.ones(2, np.float32) for key in converted.embedding_keys})
        writer.store(source("/a.txt"), converted)
        writer.remove_file("/a.txt")
    assert seen == []
    assert count(catalog, "embeddings") == 0


def test_the_history_is_trimmed_and_what_it_lost_is_not_claimed_to_be_known(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(catalog_writer, "HISTORY_GENERATIONS", 3)
    for turn in range(6):
        store(catalog, "/a.txt", f"text {turn}")
    with catalog.read() as connection:
        assert not catalog_reader.remembers_generation(connection, 2)
        assert catalog_reader.remembers_generation(connection, 3)
        assert [g for (g,) in connection.execute("SELECT generation FROM removed_chunks")] == [4, 5, 6]


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


# --- opening


def test_opening_what_is_not_there_makes_it_only_if_that_is_wanted(tmp_path: Path):
    with pytest.raises(IndexNotFound):
        Catalog.open(tmp_path / "index", create=False)
    with pytest.raises(IndexNotFound):
        Catalog.open(tmp_path / "index", read_only=True)
    assert not (tmp_path / "index").exists()
    Catalog.open(tmp_path / "deep" / "index").close()
    Catalog.open(tmp_path / "deep" / "index", create=False).close()


def test_a_folder_of_other_things_does_not_become_an_index(tmp_path: Path):
    (tmp_path / "report.pdf").write_text("mine")
    with pytest.raises(NotAnIndex, match=r"report\.pdf"):
        Catalog.open(tmp_path)
    with pytest.raises(NotAnIndex, match="is a file"):
        Catalog.open(tmp_path / "report.pdf")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.pdf"]


def test_a_folder_that_may_not_be_entered_or_made_is_a_typed_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for method in ("mkdir", "exists"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, method, deny)
            with pytest.raises(IndexNotWritable, match="Permission denied"):
                Catalog.open(tmp_path / "index")


def test_a_file_of_another_program_is_left_alone(tmp_path: Path):
    other = sqlite3.connect(tmp_path / CATALOG_NAME)
    other.execute("CREATE TABLE notes (text)")
    other.commit()
    other.close()
    with pytest.raises(IndexCorrupt, match="another program"):
        Catalog.open(tmp_path)


def test_a_catalog_made_while_its_header_is_read_is_not_taken_for_another_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "index"
    folder.mkdir()
    with contextlib.closing(sqlite3.connect(folder / CATALOG_NAME)) as empty:
        empty.execute("PRAGMA journal_mode = WAL")
    connect = Database._connect
    made: list[str] = []

    def connect_and_let_another_make_it(database: Database, *, writable: bool) -> sqlite3.Connection:
        connection = connect(database, writable=writable)

        def before(statement: str) -> None:
            if statement == "PRAGMA user_version" and not made:
                made.append(statement)
                Catalog.open(folder).close()

        if not writable:
            connection.set_trace_callback(before)
        return connection

    monkeypatch.setattr(Database, "_connect", connect_and_let_another_make_it)
    with pytest.raises(IndexNotFound, match="is empty"):  # as it was when the reading began
        Catalog.open(folder, read_only=True)
    assert made
    Catalog.open(folder, read_only=True).close()


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path):
    (tmp_path / CATALOG_NAME).write_bytes(b"definitely not a database, and long enough to have a header" * 40)
    with pytest.raises(IndexCorrupt, match="damaged"):
        Catalog.open(tmp_path)
    with pytest.raises(IndexCorrupt, match="damaged"):
        Catalog.open(tmp_path, read_only=True)


def test_an_index_whose_creation_was_cut_off_is_created_again(tmp_path: Path):
    (tmp_path / CATALOG_NAME).touch()
    with pytest.raises(IndexNotFound):
        Catalog.open(tmp_path, read_only=True)
    opened = Catalog.open(tmp_path)
    assert generation(opened) == 0
    opened.close()


def test_a_newer_schema_is_refused(catalog: Catalog, monkeypatch: pytest.MonkeyPatch):
    catalog.close()
    connection = sqlite3.connect(catalog.path)
    connection.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")
    connection.close()
    for read_only in (False, True):
        with pytest.raises(IndexTooNew, match="later version"):
            Catalog.open(catalog.path.parent, read_only=read_only)


def test_an_older_schema_is_upgraded_when_it_may_be_written(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
):
    store(catalog, "/a.txt", "one")
    catalog.close()
    step = "CREATE TABLE extra (x INTEGER) STRICT;\nINSERT INTO extra VALUES (7);\n"
    monkeypatch.setattr("indexer.database.MIGRATIONS", (*schema.MIGRATIONS, step))
    monkeypatch.setattr("indexer.database.SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
    with pytest.raises(IndexNotWritable, match="older version"):
        Catalog.open(catalog.path.parent, read_only=True)
    upgraded = Catalog.open(catalog.path.parent)
    with upgraded.read() as connection:
        assert connection.execute("SELECT x FROM extra").fetchone() == (7,)
        assert connection.execute("SELECT count(*) FROM chunks").fetchone() == (1,)
    upgraded.close()
    Catalog.open(catalog.path.parent, read_only=True).close()


def test_writing_through_a_read_only_catalog_is_refused(catalog: Catalog):
    reader = Catalog.open(catalog.path.parent, read_only=True)
    with pytest.raises(IndexNotWritable), reader.write():
        pass
    store(catalog, "/a.txt", "one")
    assert generation(reader) == 1  # and it sees what others commit
    reader.close()


def test_a_closed_catalog_says_so(catalog: Catalog):
    catalog.close()
    with pytest.raises(IndexClosed), catalog.read():
        pass
    with pytest.raises(IndexClosed), catalog.write():
        pass


def test_a_writer_that_waits_too_long_gets_an_error_and_loses_nothing(catalog: Catalog):
    store(catalog, "/a.txt", "one")
    impatient = Catalog.open(catalog.path.parent, busy_seconds=0.01)
    with catalog.write(), pytest.raises(IndexBusy), impatient.write():
        pass
    store(impatient, "/b.txt", "two")
    assert set(chunks(catalog)) == {"one", "two"}
    impatient.close()


def test_a_text_that_names_a_semicolon_does_not_break_a_statement():
    script = "CREATE TABLE a (x); -- one; two\nINSERT INTO a VALUES ('x;\n');\n"
    assert len(list(schema.statements(script))) == 2


def _ids(catalog: Catalog) -> list[str]:
    return [id_ for _, id_ in chunks(catalog).values()]
