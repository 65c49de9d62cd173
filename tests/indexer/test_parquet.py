"""Parquet: the same rows as JSON Lines, read by other tools and back again, and never trusted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from store_fakes import HashingEmbedder

from indexer import parquet_rows
from indexer.errors import InvalidExport, ParquetMissing, UnknownExportFormat
from indexer.export_rows import open_rows
from indexer.index import Index

QUESTIONS = ["ferry leaves nine", "two crowns", "herons pond", "tide hour", "nothing of the kind"]


@pytest.fixture
def filled(index: Index, corpus: Path) -> Index:
    """With a duplicate, a file that failed, one that is skipped, and one whose name is no text."""
    (corpus / "copy of heron.txt").write_text("Herons nest by the pond.\n")
    (corpus / "empty.txt").touch()
    (corpus / "private.txt").write_text("The safe opens with 1931.\n")
    (corpus / ".ragserveignore").write_text("private.txt\n")
    index.ingest([corpus])
    return index


@pytest.fixture
def exported(filled: Index, tmp_path: Path) -> Path:
    path = tmp_path / "all.parquet"
    filled.export(path, vectors=True)
    return path


def answers(index: Index) -> list[Any]:
    """All that a search can tell, ids and scores included."""
    vectors = HashingEmbedder().embed_queries(QUESTIONS)
    near, matching = index.search(vectors, 10), index.search_text(QUESTIONS, 10)
    chunks = index.chunks([hit.chunk_id for hits in near for hit in hits])
    return [near, matching, chunks, [index.document_text(chunk.document_id) for chunk in chunks]]


def test_an_import_answers_every_question_as_the_exported_index_does(
    filled: Index, exported: Path, tmp_path: Path, corpus: Path
):
    embedder = HashingEmbedder()
    with Index.open(tmp_path / "other", embedder=embedder) as other:
        report = other.import_export(exported)
        assert answers(other) == answers(filled)
        assert [(file.uri, file.status, file.code) for file in other.files()] == [
            (file.uri, file.status, file.code) for file in filled.files()
        ]
        assert (report.documents, report.files, report.embedded, embedder.texts.total()) == (3, 7, 0, 0)
        assert other.verify().findings == ()
        assert other.ingest([corpus]).indexed == 0


@pytest.mark.parametrize("vectors", [True, False])
def test_its_rows_are_those_of_json_lines(filled: Index, tmp_path: Path, vectors: bool):
    def rows(name: str) -> list[dict[str, Any]]:
        filled.export(tmp_path / name, vectors=vectors)
        return [
            {field: value for field, value in row.items() if value is not None}
            for row in open_rows(tmp_path / name)
        ]

    lines, table = rows("all.jsonl"), rows("all.parquet")
    for row in lines:
        if row["type"] == "document":
            row["files"] = [{k: v for k, v in file.items() if v is not None} for file in row["files"]]
    assert table == lines


def test_boxes_and_what_a_document_says_of_itself_come_back(tmp_path: Path):
    header = {"type": "ragserve-export", "dimension": 2}
    rows = [
        {"type": "document", "metadata": {"author": "M. E.", "": "x"}, "warnings": ["Cut."], "files": []},
        {"type": "chunk", "boxes": [[3, 1.5, 2.0, 30.25, 4.0]], "heading_path": ["A", "B"], "page": 3},
        {"type": "chunk", "boxes": [], "heading_path": [], "vector": [0.6, -0.8]},
    ]
    with (tmp_path / "a.parquet").open("wb") as file:
        parquet_rows.write_parquet(file, header, rows, dimension=2)
    rows[2]["vector"] = np.array([0.6, -0.8], np.float32).tolist()
    assert list(open_rows(tmp_path / "a.parquet")) == [header, *rows]


def test_other_tools_see_a_table_with_vectors_of_one_length(filled: Index, exported: Path):
    table = parquet.read_table(exported)
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 32)
    chunks = [row for row in table.to_pylist() if row["type"] == "chunk"]
    stored = filled.vectors([row["id"] for row in chunks])
    assert np.array_equal(np.array([row["vector"] for row in chunks], np.float32), stored)


def test_rows_are_written_in_groups_of_bounded_size(
    filled: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(parquet_rows, "_GROUP_ROWS", 2)
    filled.export(tmp_path / "all.parquet")
    groups = parquet.ParquetFile(tmp_path / "all.parquet").metadata
    assert groups.num_row_groups > 3
    assert max(groups.row_group(number).num_rows for number in range(groups.num_row_groups)) == 2
    monkeypatch.setattr(parquet_rows, "_GROUP_ROWS", 1000)
    monkeypatch.setattr(parquet_rows, "_GROUP_CHARACTERS", 10)
    filled.export(tmp_path / "all.parquet", replace=True)
    assert parquet.ParquetFile(tmp_path / "all.parquet").metadata.num_row_groups > 3
    with Index.open(tmp_path / "other", embedder=HashingEmbedder()) as other:
        other.import_export(tmp_path / "all.parquet")
        assert answers(other) == answers(filled)


def test_the_form_is_what_is_asked_for_or_what_the_name_says(filled: Index, tmp_path: Path):
    for name, asked, is_parquet in (
        ("a.parquet", None, True),
        ("a.PARQUET", None, True),
        ("a.jsonl", None, False),
        ("a", "parquet", True),
        ("b.parquet", "jsonl", False),
    ):
        filled.export(tmp_path / name, format=asked)
        assert (tmp_path / name).read_bytes().startswith(b"PAR1") is is_parquet
    with pytest.raises(UnknownExportFormat, match="'xml'") as raised:
        filled.export(tmp_path / "all.xml", format="xml")
    assert "jsonl, parquet" in raised.value.hint


def test_without_the_library_the_extra_is_named(
    filled: Index, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for attempt in (lambda: filled.export(tmp_path / "b.parquet"), lambda: filled.import_export(exported)):
        with pytest.raises(ParquetMissing) as raised:
            attempt()
        assert "ragserve[parquet]" in raised.value.hint
    assert not (tmp_path / "b.parquet").exists()
    assert not list(tmp_path.glob(".*.tmp"))


# --- files that are not what an export writes


def rewritten(path: Path, change: Callable[[pa.Table], pa.Table], **options: Any) -> None:
    table = parquet.read_table(path)
    parquet.write_table(change(table), path, **{"use_dictionary": False, "compression": "zstd", **options})


def with_header(change: Callable[[dict[str, Any]], Any]) -> Callable[[pa.Table], pa.Table]:
    def replace(table: pa.Table) -> pa.Table:
        header = change(json.loads(table.schema.metadata[b"ragserve"]))
        return table.replace_schema_metadata({b"ragserve": json.dumps(header)})

    return replace


def with_column(name: str, values: pa.Array) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.schema.get_field_index(name), name, values)


def with_text_of_first_chunk(table: pa.Table) -> pa.Table:
    rows = table.to_pylist()
    number = next(number for number, row in enumerate(rows) if row["type"] == "chunk")
    rows[number]["text"] = "something else"
    return pa.Table.from_pylist(rows, table.schema)


WRONG = {
    "no header": (lambda table: table.replace_schema_metadata({}), {}, "no header"),
    "a header that is no object": (with_header(lambda header: [header]), {}, "not a JSON object"),
    "another version": (with_header(lambda header: header | {"version": 2}), {}, "row 0: the field version"),
    "another number of chunks": (with_header(lambda header: header | {"chunks": 9}), {}, "ends after 4 of 9"),
    "another dimension": (with_header(lambda header: header | {"dimension": 31}), {}, "columns are not"),
    "a dimension that is a text": (with_header(lambda h: h | {"dimension": "x"}), {}, "columns are not"),
    "a column less": (lambda table: table.drop_columns("kind"), {}, "columns are not"),
    "a column more": (lambda table: table.append_column("x", table["kind"]), {}, "columns are not"),
    "columns that repeat values": (lambda table: table, {"use_dictionary": True}, "is encoded in a way"),
    "a wrong text": (with_text_of_first_chunk, {}, "row 2: the field text"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_no_export_is_refused_with_the_reason_and_changes_nothing(
    filled: Index, exported: Path, name: str
):
    change, options, message = WRONG[name]
    before, generation = answers(filled), filled.generation
    rewritten(exported, change, **options)
    with pytest.raises(InvalidExport, match=message) as raised:
        filled.import_export(exported)
    assert str(exported) in raised.value.message
    assert raised.value.hint
    assert (answers(filled), filled.refreshed_version().generation) == (before, generation)


@pytest.mark.parametrize(
    ("limit", "value"), [("_MAX_GROUP_ROWS", 3), ("_MAX_GROUP_BYTES", 100), ("_MAX_COLUMN_VALUES", 5)]
)
def test_groups_beyond_the_limits_are_not_unpacked(
    filled: Index, exported: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
):
    monkeypatch.setattr(parquet_rows, limit, value)
    monkeypatch.setattr(
        parquet.ParquetFile, "iter_batches", lambda *_, **__: pytest.fail("something was unpacked")
    )
    with pytest.raises(InvalidExport, match="larger than an export"):
        filled.import_export(exported)


def test_a_text_that_is_repeated_a_million_times_in_a_few_bytes_is_not_unpacked(
    filled: Index, exported: Path
):
    """Two megabytes, once in a dictionary: two terabytes if one believed it."""
    table = parquet.read_table(exported)
    row = next(row for row in table.to_pylist() if row["type"] == "chunk") | {"text": "x" * 2_000_000}
    small = pa.Table.from_pylist([row] * 500, table.schema)
    parquet.write_table(small, exported, use_dictionary=["text"], compression="zstd")
    assert exported.stat().st_size < 1_000_000
    with pytest.raises(InvalidExport, match="is encoded in a way"):
        filled.import_export(exported)


def test_damage_anywhere_is_an_error_that_says_so_or_harmless(filled: Index, exported: Path, tmp_path: Path):
    data = exported.read_bytes()
    damaged = tmp_path / "damaged.parquet"
    refused = 0
    for place in range(4, len(data), max(1, len(data) // 120)):
        damaged.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            filled.import_export(damaged)
        except InvalidExport:
            refused += 1
    assert refused > 60
    assert filled.verify().ok


@pytest.mark.parametrize("length", [4, 8, 11, 40, 2000])
def test_a_file_that_was_cut_off_is_refused(filled: Index, exported: Path, length: int):
    exported.write_bytes(exported.read_bytes()[:length])
    with pytest.raises(InvalidExport):
        filled.import_export(exported)


def test_a_footer_that_claims_to_be_larger_than_the_file_is_refused(filled: Index, exported: Path):
    data = exported.read_bytes()
    exported.write_bytes(data[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(InvalidExport, match="footer"):
        filled.import_export(exported)
