from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from email.message import EmailMessage
from types import SimpleNamespace

import pytest
from parsing_samples import Words, make_pdf, outline_of
from PIL import Image

from indexer.parsers import ParseOptions, allowance, mbox, ocr, parse
from indexer.parsers.errors import EmptyFile, EncryptedFile, NoExtractableText
from indexer.parsers.layout import Segment
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


def test_a_date_that_no_calendar_has_is_kept_as_it_is_written(read: Read) -> None:
    data = message().as_bytes().replace(b"03 May 2024", b"99999999999 May 2024")
    assert "Date: Fri, 99999999999 May 2024" in read(data, "a.eml").text


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


# --- pictures that are attached


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Stands in for the models: wide pictures hold a sentence, others two letters."""
    sizes: list[tuple[int, int]] = []

    def read_picture(image: Image.Image) -> ocr.OcrResult:
        sizes.append(image.size)
        words = "Received with thanks: 40 crowns" if image.size[0] > image.size[1] else "OK"
        return ocr.OcrResult([Segment(words, 2, 2, 20, 9, 8)], 0.99)

    monkeypatch.setattr(ocr, "read_picture", read_picture)
    return sizes


def png(width: int, height: int, shade: int = 255) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (width, height), shade).save(buffer, "PNG")
    return buffer.getvalue()


def with_pictures(*pictures: bytes) -> EmailMessage:
    mail = message("Attached.")
    for number, picture in enumerate(pictures):
        mail.add_attachment(picture, maintype="image", subtype="png", filename=f"scan{number}.png")
    return mail


def test_the_text_in_attached_pictures_is_read(read: Read, seen: list[tuple[int, int]]) -> None:
    document = read(with_pictures(png(300, 200)).as_bytes(), "a.eml")
    assert outline_of(document)[-2:] == [
        ("text", f"Attachment: scan0.png ({len(png(300, 200)):,} bytes)"),
        ("text", "Received with thanks: 40 crowns"),
    ]
    assert document.warnings == ()


def test_logos_icons_and_pictures_that_were_seen_are_passed_over(
    read: Read, seen: list[tuple[int, int]]
) -> None:
    mail = with_pictures(png(40, 20), png(300, 200), png(300, 200), png(200, 300), b"\x89PNG\r\n\x1a\nbroken")
    document = read(mail.as_bytes(), "a.eml")
    assert seen == [(300, 200), (200, 300)]
    assert document.text.count("Received") == 1
    assert "OK" not in document.text
    assert [warning.split(":")[0] for warning in document.warnings] == ["Attachment scan4.png"]


def test_pages_of_ocr_are_announced_and_counted_over_all_attachments(seen: list[tuple[int, int]]) -> None:
    mail = with_pictures(*(png(300, 200, shade) for shade in (250, 251, 252)))
    announced: list[int] = []
    options = ParseOptions(max_ocr_pages=2)
    document = parse(
        mail.as_bytes(), name="a.eml", options=options, before_ocr_page=lambda: announced.append(1)
    )
    assert (len(announced), len(seen)) == (2, 2)
    assert "limit of pages" in document.warnings[0]
    read_nothing = parse(mail.as_bytes(), name="a.eml", options=ParseOptions(ocr=False))
    assert "Received" not in read_nothing.text
    assert len(seen) == 2


def test_attachments_that_take_too_long_cost_those_after_them_and_not_the_mail(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0, 40)
    monkeypatch.setattr(allowance, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    mail = message("Attached.")
    for number in range(4):
        mail.add_attachment(f"word {number}", filename=f"{number}.txt")
    document = read(mail.as_bytes(), "a.eml", soft_seconds=90.0)
    assert "word 0" in document.text
    assert "word 3" not in document.text
    assert "took too long" in document.warnings[-1]


# --- mailboxes


def mailbox(*mails: bytes) -> bytes:
    return b"".join(b"From ann@example.org Fri May  3 10:00:00 2024\n" + mail + b"\n" for mail in mails)


def test_the_messages_of_a_mailbox_are_read_one_below_the_other(read: Read) -> None:
    untitled = message("No subject, and\n\n>From here on it is quoted.\n\nFrom there it is not.\n")
    del untitled["Subject"]
    attached = message("Look:")
    attached.add_attachment("a,b\n1,2\n", subtype="csv", filename="fares.csv")
    data = mailbox(message("First.").as_bytes(), untitled.as_bytes(), attached.as_bytes())
    for name, raw in (("a.mbox", data), ("Inbox", data), ("dos.mbox", data.replace(b"\n", b"\r\n"))):
        document = read(raw, name)
        headings = [text for kind, text in outline_of(document) if kind == "heading"]
        assert headings == ["Ferry – übermorgen", "Message 2", "Ferry – übermorgen"]
        assert [block.level for block in document.blocks if block.kind == "heading"] == [1, 1, 1]
        assert "\n\nFrom here on it is quoted.\n\nFrom there it is not." in document.text
        assert "a | b\n--- | ---\n1 | 2" in document.text
        assert (document.format, document.metadata["messages"], document.warnings) == ("mbox", "3", ())


def test_a_mailbox_with_nothing_in_it_is_a_failure_and_blank_messages_are_none(read: Read) -> None:
    with pytest.raises(EmptyFile):
        parse(b" \r\n \n", name="a.mbox")
    document = read(mailbox(b"", message("Only this.").as_bytes()), "a.mbox")
    assert document.metadata["messages"] == "1"
    assert document.title == "Ferry – übermorgen"


def test_a_message_that_cannot_be_read_costs_a_warning(read: Read) -> None:
    kind = b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data"
    encrypted = b"From: a@b.c\nTo: d@e.f\nSubject: x\n" + kind + b"\n\nAAAA\n"
    document = read(mailbox(encrypted, message("Second.").as_bytes()), "a.mbox")
    assert document.metadata["messages"] == "1"
    assert document.warnings[0].startswith("Message 1: ")
    with pytest.raises(NoExtractableText):
        parse(mailbox(encrypted), name="a.mbox")


def test_beyond_its_limits_the_rest_of_a_mailbox_is_left_out_with_a_warning(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = mailbox(*(message(f"Word {number}.").as_bytes() for number in range(6)))
    document = read(data, "a.mbox", max_characters=500)
    assert "Word 1." in document.text
    assert "Word 5." not in document.text
    assert "too much text" in document.warnings[-1]
    monkeypatch.setattr(mbox, "MAX_MESSAGES", 2)
    assert read(data, "a.mbox").warnings == ("Message 3 and what follows was not read: there are too many.",)
