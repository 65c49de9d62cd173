"""A document that names another file, a host or a command gets none of it, whatever its format offers."""

from __future__ import annotations

import io
import socket
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest
from parsing_samples import assemble_pdf, make_zip

from indexer.parsers import parse
from indexer.parsers.errors import ParseError

SECRET = "The safe opens with 1931."
OOXML = "http://schemas.openxmlformats.org"
RELATION = f"{OOXML}/officeDocument/2006/relationships"


def entity(path: Path, root: str = "a") -> str:
    return f'<?xml version="1.0"?><!DOCTYPE {root} [<!ENTITY x SYSTEM "{path.as_uri()}">]>'


def docx(path: Path) -> bytes:
    paragraph = "<w:p><w:r><w:t>Words &x;</w:t></w:r></w:p>"
    body = f'{entity(path)}<w:document xmlns:w="w"><w:body>{paragraph}</w:body></w:document>'
    return make_zip({"word/document.xml": body})


def docx_with_relations(path: Path) -> bytes:
    kinds = ("aFChunk", "image", "attachedTemplate", "subDocument", "hyperlink", "footnotes")
    relations = "".join(
        f'<Relationship Id="r{n}" Type="{RELATION}/{kind}" Target="{target}"{mode}/>'
        for n, kind in enumerate(kinds)
        for target in (path.as_uri(), str(path), f"../../../../../../..{path}")
        for mode in ("", ' TargetMode="External"')
    )
    body = (
        '<w:document xmlns:w="w" xmlns:r="r" xmlns:a="a"><w:body><w:p><w:r><w:t>Words</w:t></w:r>'
        f'<w:fldSimple w:instr="INCLUDETEXT {path}"/><a:blip r:embed="r1" r:link="r1"/></w:p>'
        '<w:altChunk r:id="r0"/></w:body></w:document>'
    )
    relations = f"<Relationships>{relations}</Relationships>"
    return make_zip({"word/document.xml": body, "word/_rels/document.xml.rels": relations})


def odt(path: Path) -> bytes:
    body = (
        '<o:document-content xmlns:o="o" xmlns:text="t" xmlns:draw="d" xmlns:xlink="x"><o:body><o:text>'
        "<text:p>Words"
        f'<draw:frame><draw:image xlink:href="{path.as_uri()}"/><draw:object xlink:href="{path}"/>'
        "</draw:frame>"
        f'</text:p><text:section><text:section-source xlink:href="../../../../../..{path}"/></text:section>'
        "</o:text></o:body></o:document-content>"
    )
    return make_zip({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": body})


def epub(path: Path) -> bytes:
    package = (
        "<package><manifest>"
        f'<item id="a" href="../../../../../../..{path}" media-type="text/html"/>'
        f'<item id="b" href="{path.as_uri()}" media-type="text/html"/>'
        '<item id="c" href="c.html" media-type="text/html"/></manifest>'
        '<spine><itemref idref="a"/><itemref idref="b"/><itemref idref="c"/></spine></package>'
    )
    container = '<container><rootfiles><rootfile full-path="x.opf"/></rootfiles></container>'
    members = {"mimetype": "application/epub+zip", "META-INF/container.xml": container, "x.opf": package}
    return make_zip({**members, "c.html": "<html><body>Words</body></html>"})


def pdf(path: Path) -> bytes:
    content = b"BT /F1 12 Tf 72 700 Td (Words of a page that has enough of them to be read.) Tj ET"
    page = (
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents [4 0 R 5 0 R]"
        " /Resources << /Font << /F1 6 0 R >> >>"
        f" /AA << /O << /S /Launch /F ({path}) >> >> >>"
    )
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R /OpenAction << /S /Launch /F ({path}) >> >>".encode(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        page.encode(),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        f"<< /Length 0 /F ({path}) >>\nstream\n\nendstream".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    return assemble_pdf(objects, "/Root 1 0 R")


def html(path: Path) -> str:
    uri = path.as_uri()
    return (
        f'<html><head><base href="{uri}"><meta http-equiv="refresh" content="0;url={uri}">'
        f'<link rel="import" href="{uri}">'
        f'</head><body><p>Words</p><iframe src="{uri}"></iframe><object data="{uri}"></object>'
        f'<embed src="{uri}">'
        f'<img src="{uri}"><!--#include file="{path}" --><script src="{uri}"></script></body></html>'
    )


def mail(path: Path) -> str:
    return (
        "From: a@b.c\nTo: d@e.f\nSubject: x\nMIME-Version: 1.0\n"
        "Content-Type: multipart/mixed; boundary=B\n\n--B\n\nWords\n"
        f'--B\nContent-Type: message/external-body; access-type=local-file; name="{path}"\n\n\n--B--\n'
    )


def archive_of_links(path: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("link.txt")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, str(path))
        archive.writestr("words.txt", "Words")
    return buffer.getvalue()


def tar_of_links(path: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind in (("soft.txt", tarfile.SYMTYPE), ("hard.txt", tarfile.LNKTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, str(path)
            archive.addfile(link)
        words = tarfile.TarInfo("words.txt")
        words.size = 5
        archive.addfile(words, io.BytesIO(b"Words"))
    return buffer.getvalue()


def workbook(path: Path) -> bytes:
    cell = '<c t="inlineStr"><is><t>Words &x;</t></is></c>'
    sheet = f"{entity(path)}<worksheet><sheetData><row>{cell}</row></sheetData></worksheet>"
    relations = (
        '<Relationships><Relationship Id="r1" Type="x/worksheet" Target="worksheets/a.xml"/></Relationships>'
    )
    return make_zip(
        {
            "xl/workbook.xml": '<workbook xmlns:r="r"><sheets><sheet name="S" sheetId="1" r:id="r1"/>'
            "</sheets></workbook>",
            "xl/_rels/workbook.xml.rels": relations,
            "xl/worksheets/a.xml": sheet,
        }
    )


HOSTILE: dict[str, Callable[[Path], bytes | str]] = {
    "a.xml": lambda path: f"{entity(path)}<a>Words &x;</a>",
    "include.xml": lambda path: (
        '<a xmlns:xi="http://www.w3.org/2001/XInclude">Words'
        f'<xi:include href="{path.as_uri()}" parse="text"/></a>'
    ),
    "a.svg": lambda path: (
        f'{entity(path, "svg")}<svg><text>Words &x;</text><image href="{path.as_uri()}"/></svg>'
    ),
    "a.html": html,
    "a.rst": lambda path: (
        f"Words\n\n.. include:: {path}\n\n.. literalinclude:: {path}\n\n.. raw:: html\n   :file: {path}\n\n"
        f".. csv-table::\n   :file: {path}\n"
    ),
    "a.adoc": lambda path: f"Words\n\ninclude::{path}[]\n",
    "a.org": lambda path: f'Words\n#+INCLUDE: "{path}"\n#+SETUPFILE: {path}\n',
    "a.md": lambda path: f"Words\n\n![x]({path.as_uri()})\n\n{{% include {path} %}}\n\n!include {path}\n",
    "a.tex": lambda path: f"Words\n\n\\input{{{path}}}\n\\verbatiminput{{{path}}}\n",
    "a.yaml": lambda path: (
        f'words: !include {path}\nrun: !!python/object/apply:os.system ["cp {path} {path}.copy"]\n'
        f'new: !!python/object/new:subprocess.Popen [["cp", "{path}", "{path}.copy"]]\n'
    ),
    "a.json": lambda path: f'{{"words": "Words", "$ref": "{path.as_uri()}"}}',
    "a.rtf": lambda path: (
        f'{{\\rtf1 Words {{\\field{{\\*\\fldinst INCLUDETEXT "{path.as_posix()}"}}{{\\fldrslt x}}}}}}'
    ),
    "a.docx": docx,
    "relations.docx": docx_with_relations,
    "a.xlsx": workbook,
    "a.odt": odt,
    "a.epub": epub,
    "a.pdf": pdf,
    "a.eml": mail,
    "a.zip": archive_of_links,
    "a.tar": tar_of_links,
    "a.ipynb": lambda path: (
        '{"cells": [{"cell_type": "code", "source": "Words\\n%%load ' + str(path) + '", "outputs": []},'
        ' {"cell_type": "markdown", "source": "![x](' + path.as_uri() + ')"}], "nbformat": 4}'
    ),
}


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that a document would like to have; nor may the network be asked for anything."""

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    path = tmp_path / "secret.txt"
    path.write_text(SECRET)
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_a_document_cannot_have_another_file_read_or_a_command_run(name: str, secret: Path) -> None:
    data = HOSTILE[name](secret)
    read: list[str] = []
    with suppress(ParseError):
        document = parse(data.encode() if isinstance(data, str) else data, name=name)
        read = [document.text, document.title, *document.metadata.values(), *document.warnings]
    assert SECRET not in " ".join(read)
    assert [path.name for path in secret.parent.iterdir()] == [secret.name]


def test_most_of_them_are_read_all_the_same(secret: Path) -> None:
    """So that the test above is not passed by refusing everything."""
    refused = set()
    for name, make in HOSTILE.items():
        data = make(secret)
        try:
            document = parse(data.encode() if isinstance(data, str) else data, name=name)
        except ParseError as error:
            refused.add((name, bool(error.hint)))
        else:
            assert "ords" in document.text, name
    assert refused == {(name, True) for name in ("a.docx", "a.svg", "a.xlsx", "a.xml")}, "for their entities"
