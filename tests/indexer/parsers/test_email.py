from __future__ import annotations

from collections.abc import Callable
from email.message import EmailMessage

import pytest
from parsing_samples import Words, make_pdf, outline_of

from indexer.parsers import parse
from indexer.parsers.errors import EncryptedFile
from indexer.types import ParsedDocument

Read = Callable[..., ParsedDocument]


def message(body: str = "See you at nine.\n\n- bring\n- tickets\n") -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "Ann <ann@example.org>"
    mail["To"] = "Bo <bo@example.org>"
    mail["Subject"] = "Ferry – übermorgen"
    mail["Date"] = "Fri, 03 May 2024 10:00:00 +0200"
    mail.set_content(body)
    return mail


def test_mail_keeps_headers_and_body(read: Read) -> None:
    document = read(message().as_bytes(), "a.eml")
    assert outline_of(document) == [
        ("heading", "Ferry – übermorgen"),
        (
            "text",
            "From: Ann <ann@example.org>\nTo: Bo <bo@example.org>\nDate: Fri, 03 May 2024 10:00:00 +0200\n"
            "Subject: Ferry – übermorgen",
        ),
        ("text", "See you at nine."),
        ("list", "- bring\n- tickets"),
    ]
    assert document.title == "Ferry – übermorgen"
    assert document.metadata["author"] == "Ann <ann@example.org>"


def test_the_html_body_is_read_when_there_is_no_plain_one(read: Read) -> None:
    mail = message()
    mail.add_alternative("<h1>No</h1><p>html</p>", subtype="html")
    assert "html" not in read(mail.as_bytes(), "a.eml").text
    only = message()
    only.set_content("<h2>Yes</h2><p>html words</p>", subtype="html")
    assert outline_of(read(only.as_bytes(), "a.eml"))[-2:] == [("heading", "Yes"), ("text", "html words")]


def test_attachments_are_named_and_those_with_text_are_read(read: Read) -> None:
    mail = message("Attached.")
    mail.add_attachment("a,b\n1,2\n", subtype="csv", filename="fares.csv")
    mail.add_attachment(
        make_pdf([[Words(50, 50, "printed words in a document, long enough to be read")]]),
        maintype="application",
        subtype="pdf",
        filename="plan.pdf",
    )
    mail.add_attachment(b"\x00\x01\x02" * 9, maintype="application", subtype="octet-stream", filename="x.bin")
    mail.add_attachment(b"%PDF-1.4 broken", maintype="application", subtype="pdf", filename="broken.pdf")
    document = read(mail.as_bytes(), "a.eml")
    assert "Attachment: fares.csv (8 bytes)" in document.text
    assert "a | b\n--- | ---\n1 | 2" in document.text
    assert "printed words" in document.text
    assert "Attachment: x.bin (27 bytes)" in document.text
    assert any("broken.pdf" in warning for warning in document.warnings)
    assert all(block.page is None for block in document.blocks)


def test_forwarded_messages_are_read_within_the_message(read: Read) -> None:
    outer = message("Look:")
    outer.add_attachment(message("inner words"))
    document = read(outer.as_bytes(), "a.eml")
    assert "inner words" in document.text
    assert [block.level for block in document.blocks if block.kind == "heading"] == [1, 2]


def test_messages_within_messages_end_somewhere(read: Read) -> None:
    mail = message("bottom")
    for _ in range(30):
        outer = message("layer")
        outer.add_attachment(mail)
        mail = outer
    document = read(mail.as_bytes(), "a.eml")
    assert document.text.count("layer") < 10


def test_encrypted_mail_is_a_typed_failure() -> None:
    kind = b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data"
    mail = b"From: a@b.c\nTo: d@e.f\nSubject: x\n" + kind + b"\n\nAAAA\n"
    with pytest.raises(EncryptedFile):
        parse(mail, name="a.eml")


@pytest.mark.parametrize(
    "header",
    [b"Date: not a date", b"From: <<<>>>;;\xff", b"To: =?bogus?Q?=FF?=", b"Subject: =?utf-8?B?/w==?="],
)
def test_broken_headers_do_not_cost_the_mail(header: bytes, read: Read) -> None:
    data = header + b"\nContent-Type: text/plain; charset=bogus\n\nthe body\n"
    assert "the body" in read(data, "a.eml").text
