from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from catalog_looks import generation, store

from indexer import schema
from indexer.catalog import CATALOG_NAME, Catalog
from indexer.database import Database
from indexer.errors import (
    IndexClosed,
    IndexCorrupt,
    IndexNotFound,
    IndexNotWritable,
    IndexTooNew,
    NotAnIndex,
)


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


def test_a_text_that_names_a_semicolon_does_not_break_a_statement():
    script = "CREATE TABLE a (x); -- one; two\nINSERT INTO a VALUES ('x;\n');\n"
    assert len(list(schema.statements(script))) == 2
