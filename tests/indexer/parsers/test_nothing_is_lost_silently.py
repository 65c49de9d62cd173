"""Where a limit leaves something of a file out, a warning says so: `doctor` lists the file as not whole."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from email.message import EmailMessage

import pypdf
import pytest
from openpyxl import Workbook
from parsing_samples import Words, make_pdf, text_of
from pypdf.annotations import Link, Text

from indexer.parsers import email, notebook, pdf_annotations, tables, tabular
from indexer.types import ParsedDocument

Read = Callable[..., ParsedDocument]
PROSE = "The ferry leaves the northern pier at nine and comes back in the evening of each day."


def test_columns_beyond_the_limit(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabular, "_MAX_COLUMNS", 3)
    assert read("a,b,c\n1,2,3\n", "a.csv").warnings == ()
    assert read("a,b,c,,\n1,2,3,,\n", "a.csv").warnings == (), "blank ones are none"
    document = read("a,b,c,d\n1,2,3,4\n5,6,7,8\n", "a.csv")
    assert "4" not in document.text
    assert document.warnings == ("A table was cut after 3 columns.",)


def test_rows_below_a_large_gap(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_MAX_EMPTY_ROWS", 5)
    book = Workbook()
    book.active.title = "Tides"
    book.active["A1"], book.active["A5"], book.active["A40"] = "first", "second", "third"
    buffer = io.BytesIO()
    book.save(buffer)
    document = read(buffer.getvalue(), "a.xlsx")
    assert "second" in document.text
    assert "third" not in document.text
    assert document.warnings == ("What stands on sheet 'Tides' below 5 blank rows was not read.",)


def test_what_a_cell_of_a_notebook_printed(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "_LONGEST_OUTPUT", 20)
    outputs = [{"output_type": "stream", "text": text} for text in ("short", "x" * 20, "y" * 21)]
    cells = [{"cell_type": "code", "source": "run()", "outputs": outputs}]
    document = read(json.dumps({"cells": cells, "nbformat": 4}), "a.ipynb")
    assert document.warnings == ("1 outputs of cells were cut after 20 characters.",)


def test_messages_within_messages_and_parts_beyond_the_limit(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    def message(body: str) -> EmailMessage:
        mail = EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "a@b.c", "d@e.f", "x"
        mail.set_content(body)
        return mail

    mail = message("bottom")
    for _ in range(4):
        outer = message("layer")
        outer.add_attachment(mail)
        mail = outer
    document = read(mail.as_bytes(), "a.eml")
    assert "bottom" not in document.text
    assert document.warnings == ("A message within messages is nested too deep to be read.",)
    monkeypatch.setattr(email, "_MAX_PARTS", 3)
    many = message("body")
    for number in range(4):
        many.add_attachment(f"word {number}", filename=f"{number}.txt")
    document = read(many.as_bytes(), "a.eml")
    assert "word 3" not in document.text
    assert document.warnings == ("Only the first 3 parts of a message were looked at.",)


def pdf_with(*annotations: object) -> bytes:
    page = [Words(72, 100 + 12 * row, PROSE) for row in range(3)]
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(make_pdf([page, page])))
    for annotation in annotations:
        writer.add_annotation(1, annotation)
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def test_comments_and_links_beyond_the_limit(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    said = ("Page 2: some of the form fields, comments and links were not read: they are too many.",)
    comments = [Text(rect=(50, 50, 70, 70), text=f"Comment {number}") for number in range(3)]
    assert read(pdf_with(*comments), "a.pdf").warnings == ()
    links = [Link(rect=(70, 690, 200, 704), url=f"https://ferry.example/{number}") for number in range(3)]
    assert read(pdf_with(*links), "a.pdf").warnings == ()
    monkeypatch.setattr(pdf_annotations, "_MOST_LINKS", 2)
    assert read(pdf_with(*links), "a.pdf").warnings == said
    monkeypatch.setattr(pdf_annotations, "_MAX_ANNOTATIONS", 2)
    assert read(pdf_with(*comments), "a.pdf").warnings == said


def test_a_comment_of_many_pages_is_kept_whole(read: Read) -> None:
    long = " ".join(f"word{number}" for number in range(6000))
    document = read(pdf_with(Text(rect=(50, 50, 70, 70), text=long)), "a.pdf")
    assert text_of(document, document.blocks[-1]) == long


@pytest.mark.parametrize("answer", ["At nine.", "At nine. " * 200, {"adults": "x" * 500, "dogs": "y" * 500}])
def test_a_key_of_json_that_is_a_sentence_is_kept_whole(answer: object, read: Read) -> None:
    question = f"When does the ferry leave, and if it does, {'why not later, ' * 12}and from where?"
    document = read(json.dumps({"first": 1, question: answer, "last": "z" * 900}), "a.json")
    assert question in document.text
    assert all(len(block.name) <= 110 for block in document.blocks)
