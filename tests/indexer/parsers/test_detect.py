from __future__ import annotations

import random

import pytest
from parsing_samples import Words, make_pdf, make_zip

from indexer.parsers import detect_format, parse
from indexer.parsers.errors import UnsupportedFormat

PDF = make_pdf([[Words(50, 50, "hello")]])
HTML = b"<!DOCTYPE html><html><body><p>hello</p></body></html>"
DOCX = make_zip({"[Content_Types].xml": "<Types/>", "word/document.xml": "<w/>"})


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        (PDF, "a.pdf", "pdf"),
        (b"junk\x00\x01" + PDF, "a.pdf", "pdf"),
        (b"\x89PNG\r\n\x1a\n....", "a", "png"),
        (b"\xff\xd8\xff\xe0..JFIF", "a", "jpeg"),
        (b"II*\x00....", "a", "tiff"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "a", "webp"),
        (b"GIF89a....", "a", "gif"),
        (b"{\\rtf1 hello}", "a", "rtf"),
        (DOCX, "a.docx", "docx"),
        (make_zip({"xl/workbook.xml": "<w/>"}), "a.xlsx", "xlsx"),
        (make_zip({"ppt/presentation.xml": "<w/>"}), "a.pptx", "pptx"),
        (make_zip({"META-INF/container.xml": "<c/>"}), "a.epub", "epub"),
        (make_zip({"readme.txt": "hello"}), "a.zip", "zip"),
        (make_zip({"readme.txt": "hello"}), "a.whl", None),
        (b"# hello\n", "a.md", "markdown"),
        (b"def f(): pass\n", "a.py", "python"),
        (b"hello", "Makefile", "code"),
        (b"fn main() {}", "a.RS", "rust"),
        (b"class A {}", "a.kt", "code"),
        (b"hello", "a.unheardof", "text"),
        (b"hello", "LICENSE", "text"),
        (b"#!/usr/bin/env python3\nprint(1)\n", "tool", "python"),
        (b"#!/bin/sh\necho\n", "tool", "bash"),
        (b"\x7fELF\x02\x01\x01\x00\x00\x00", "a.out", None),
        (b"\x00\x01\x02\x03" * 50, "a.bin", None),
    ],
)
def test_formats_are_recognised_by_content_and_then_by_name(
    data: bytes, name: str, expected: str | None
) -> None:
    assert detect_format(data, name) == expected


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        (PDF, "report.txt", "pdf"),
        (DOCX, "report.pdf", "docx"),
        (HTML, "report.pdf", "html"),
        (b"only words\n", "report.pdf", "text"),
        (b"only words\n", "photo.png", "text"),
        (b"\x89PNG\r\n\x1a\n....", "photo.jpg", "png"),
    ],
)
def test_content_outweighs_a_wrong_extension(data: bytes, name: str, expected: str) -> None:
    assert detect_format(data, name) == expected


def test_damage_in_a_file_with_a_documents_name_is_a_failure_and_not_a_binary_to_skip() -> None:
    noise = random.Random(1).randbytes(4000)
    assert detect_format(noise, "report.pdf") == "pdf"
    assert detect_format(noise, "notes.txt") == "text"
    assert detect_format(noise, "blob") is None
    assert detect_format(noise, "film.ts") is None, "TypeScript's extension is a video's as well"


def test_a_truncated_zip_is_recognised_by_its_members() -> None:
    assert detect_format(DOCX[:80], "report") == "docx" or detect_format(DOCX[:120], "report") == "docx"
    assert detect_format(DOCX[:40], "report.docx") == "docx"


def test_files_that_are_empty_on_purpose_are_skipped() -> None:
    assert detect_format(b"", "pkg/__init__.py") is None
    assert detect_format(b"", "py.typed") is None
    assert detect_format(b"", "notes.txt") == "text"


@pytest.mark.parametrize("name", ["old.doc", "old.xls", "old.ppt", "mail.msg"])
def test_old_office_files_are_known(name: str) -> None:
    assert detect_format(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 600, name) == name[-3:]


@pytest.mark.parametrize("name", ["old.rar", "old.7z", "old.pst"])
def test_what_holds_documents_and_is_not_read_is_known_and_not_skipped(name: str) -> None:
    mark = {"rar": b"Rar!\x1a\x07\x01\x00", "7z": b"7z\xbc\xaf\x27\x1c", "pst": b"!BDN"}[
        name.partition(".")[2]
    ]
    assert detect_format(mark + bytes(range(256)), name) == name.partition(".")[2]
    with pytest.raises(UnsupportedFormat):
        parse(mark + bytes(range(256)), name="blob")


def test_mail_without_an_extension_is_recognised_by_its_headers() -> None:
    mail = b"Received: from a\r\nFrom: a@b.c\r\nTo: d@e.f\r\nSubject: hi\r\n\r\nhello\r\n"
    assert detect_format(mail, "12345") == "eml"
    assert detect_format(b"From a@b.c Fri May  3 10:00:00 2024\n" + mail, "Inbox") == "mbox"
    assert detect_format(b"From a@b.c Fri May  3 10:00:00 2024\n" + mail, "a.eml") == "eml"
    assert detect_format(b"From: here to there\nit is far\n", "poem.txt") == "text"
