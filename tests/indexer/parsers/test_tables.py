from __future__ import annotations

import datetime
import io
import zipfile
from collections.abc import Callable

import pytest
from openpyxl import Workbook
from openpyxl.comments import Comment
from parsing_samples import make_zip, outline_of, text_of

from indexer.parsers import ParseOptions, parse
from indexer.parsers.archives import DocumentArchive
from indexer.parsers.comments import people_of, sheet_comments
from indexer.parsers.errors import DecompressionBomb, EncryptedFile, MalformedFile, TruncatedFile
from indexer.types import ParsedDocument

Read = Callable[..., ParsedDocument]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_dialect_of_delimited_text_is_found_out(delimiter: str, read: Read) -> None:
    rows = [["name", "note", "km"], ["Ferry", "slow, steady; sure", "12"], ["Bus", 'says "go"', "3"]]
    quoted = "\r\n".join(
        delimiter.join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row) for row in rows
    )
    document = read(quoted, "a.csv")
    assert (
        document.text
        == 'name | note | km\n--- | --- | ---\nFerry | slow, steady; sure | 12\nBus | says "go" | 3'
    )


def test_every_block_of_a_long_table_repeats_the_header(read: Read) -> None:
    lines = ["name,kilometres"] + [f"Ferry number {i},{i}" for i in range(500)]
    document = read("\n".join(lines), "a.csv")
    assert len(document.blocks) > 5
    for block in document.blocks:
        assert text_of(document, block).startswith("name | kilometres\n")
        assert block.end - block.start < 900
    rows = [
        line
        for block in document.blocks
        for line in text_of(document, block).split("\n")
        if line.startswith("Ferry")
    ]
    assert len(rows) == 500


def test_wide_tables_become_records(read: Read) -> None:
    columns = [f"a rather long column name {i}" for i in range(20)]
    document = read(",".join(columns) + "\n" + ",".join(map(str, range(20))) + "\n", "a.csv")
    assert text_of(document, document.blocks[0]).split("\n")[3] == "a rather long column name 3: 3"


def test_captions_above_a_table_and_headers_of_numbers_are_not_column_names(read: Read) -> None:
    captioned = read("Stanley Cups\nTeam,Cups\nBlues,1\n", "a.csv")
    assert outline_of(captioned) == [("text", "Stanley Cups"), ("table", "Team | Cups\n--- | ---\nBlues | 1")]
    numbers = read("1,2\n3,4\n", "a.csv")
    assert numbers.text == "1 | 2\n3 | 4"


def test_rows_beyond_the_limit_are_dropped_with_a_warning(read: Read) -> None:
    document = read("a,b\n" + "1,2\n" * 50, "a.csv", max_table_rows=10)
    assert document.text.count("1 | 2") == 9
    assert "cut after 10 rows" in document.warnings[0]


def workbook(**sheets: list[list[object]]) -> bytes:
    book = Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def test_workbooks_are_read_sheet_by_sheet(read: Read) -> None:
    when = datetime.datetime(2024, 5, 6)
    data = workbook(
        Tides=[["port", "high"], ["North", 1.1 + 2.2], ["South", when]],
        Empty=[],
        Two=[["a", "b"], ["c", "d"], [], [None, "x", "y"], [None, 1, True]],
    )
    document = read(data, "a.xlsx")
    assert outline_of(document) == [
        ("heading", "Tides"),
        ("table", "port | high\n--- | ---\nNorth | 3.3\nSouth | 2024-05-06"),
        ("heading", "Two"),
        ("table", "a | b\n--- | ---\nc | d"),
        ("table", "x | y\n--- | ---\n1 | TRUE"),
    ]
    assert [block.name for block in document.blocks if block.kind == "table"] == ["Tides", "Two", "Two"]


def test_comments_on_cells_are_read_with_the_cell_and_their_author(read: Read) -> None:
    book = Workbook()
    book.active.append(["port", "high"])
    book.active["B1"].comment = Comment("In metres?", "Ann")
    buffer = io.BytesIO()
    book.save(buffer)
    assert outline_of(read(buffer.getvalue(), "a.xlsx"))[-1] == ("text", "B1: Comment by Ann: In metres?")


def test_replies_to_comments_are_read_and_what_older_programs_are_told_about_them_is_not(read: Read) -> None:
    relation = '<Relationship Id="r%d" Type="x/%s" Target="%s"/>'
    members = {
        "xl/workbook.xml": '<workbook xmlns:r="r"><sheets><sheet name="Tides" r:id="r1"/></sheets>'
        "</workbook>",
        "xl/_rels/workbook.xml.rels": "<Relationships>"
        + relation % (1, "worksheet", "worksheets/a.xml")
        + relation % (2, "person", "people.xml")
        + "</Relationships>",
        "xl/people.xml": '<personList><person displayName="Bo" id="{B}"/></personList>',
        "xl/worksheets/_rels/a.xml.rels": "<Relationships>"
        + relation % (1, "comments", "../comments1.xml")
        + relation % (2, "threadedComment", "../threads.xml")
        + "</Relationships>",
        "xl/comments1.xml": "<comments><authors><author>tc={C}</author></authors><commentList>"
        '<comment ref="A1" authorId="0"><text><t>[Threaded comment] Your version allows</t></text></comment>'
        "</commentList></comments>",
        "xl/threads.xml": '<ThreadedComments><threadedComment ref="A1" personId="{B}"><text>Why?</text>'
        '</threadedComment><threadedComment ref="A1" personId="{X}"><text>Because.</text></threadedComment>'
        "</ThreadedComments>",
    }
    archive = DocumentArchive(make_zip(members), name="a.xlsx", options=ParseOptions())
    people = people_of(archive, "xl/workbook.xml")
    lines = [comment.line for comment in sheet_comments(archive, "xl/worksheets/a.xml", people)]
    assert lines == ["A1: Comment by Bo: Why?", "A1: Because."]


def test_damaged_comments_cost_themselves_alone(read: Read) -> None:
    book = Workbook()
    book.active.append(["port", "high"])
    book.active["B1"].comment = Comment("In metres?", "Ann")
    buffer = io.BytesIO()
    book.save(buffer)
    with zipfile.ZipFile(buffer) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    damaged = {name: b"<broken" if "comments" in name else data for name, data in members.items()}
    document = read(make_zip(damaged), "a.xlsx")
    assert "port | high" in document.text
    assert any("comments" in warning.lower() for warning in document.warnings)


def test_formulas_are_read_where_no_values_were_saved(read: Read) -> None:
    assert "=SUM(A1:A9)" in read(workbook(S=[["=SUM(A1:A9)"]]), "a.xlsx").text


def test_damaged_workbooks_are_typed_failures() -> None:
    data = workbook(S=[["a"]])
    with pytest.raises(TruncatedFile):
        parse(data[: len(data) // 2], name="a.xlsx")
    with pytest.raises(MalformedFile):
        parse(make_zip({"xl/workbook.xml": "<nonsense/>"}), name="a.xlsx")
    locked = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le")
    with pytest.raises(EncryptedFile):
        parse(locked, name="a.xlsx")


def test_a_zip_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = make_zip({"word/document.xml": b"<w>" + b" " * 60_000_000 + b"</w>"})
    assert len(bomb) < 100_000
    with pytest.raises(DecompressionBomb) as failure:
        parse(bomb, name="a.docx")
    assert failure.value.code == "decompression-bomb"
