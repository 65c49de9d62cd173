"""PDFs that are locked, damaged, hostile, too long or without text."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable

import pypdf
import pytest
from parsing_samples import assemble_pdf, make_pdf
from pdf_samples import LEAF, LINES, page, scanned
from PIL import Image

from indexer.parsers import ParseOptions, parse
from indexer.parsers.errors import EncryptedPdf, MalformedFile, NoExtractableText, ParseError, TruncatedFile
from indexer.types import ParsedDocument

Read = Callable[..., ParsedDocument]


def encrypted(password: str, owner: str = "owner") -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(make_pdf([page()])))
    writer.encrypt(user_password=password, owner_password=owner, algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def test_encrypted_pdfs_open_with_the_password_given_or_without_one(read: Read) -> None:
    assert LINES[0] in read(encrypted("secret"), "a.pdf", password="secret").text
    assert LINES[0] in read(encrypted(""), "a.pdf").text
    for password in (None, "wrong"):
        with pytest.raises(EncryptedPdf) as failure:
            parse(encrypted("secret"), name="a.pdf", options=ParseOptions(password=password))
        assert failure.value.code == "encrypted-pdf"
        assert "password" in str(failure.value)
        assert "secret" not in str(failure.value)


def test_a_password_is_never_shown() -> None:
    assert "secret" not in repr(ParseOptions(password="secret"))


def test_a_truncated_pdf_gives_what_can_be_read_with_a_warning_or_a_typed_failure(read: Read) -> None:
    data = make_pdf([page() for _ in range(20)])
    with pytest.raises(TruncatedFile) as failure:
        parse(data[: len(data) // 20], name="a.pdf")
    assert failure.value.hint
    for share in (0.6, 0.9, 0.99):
        document = read(data[: int(len(data) * share)], "a.pdf")
        assert 5 < len(document.blocks) <= 20
        assert "may be truncated" in document.warnings[-1]


def test_pypdf_may_stumble_over_its_own_assertions(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(self: pypdf.PdfReader) -> None:
        raise AssertionError

    monkeypatch.setattr(pypdf.PdfReader, "pages", property(stumble))
    with pytest.raises(MalformedFile):
        read(make_pdf([page()]).replace(b" obj", b" abj"), "a.pdf")


@pytest.mark.parametrize(
    "damage", [b"%PDF-1.7\nnothing of a PDF\n%%EOF", b"%PDF-1.7\n" + b"\xff" * 500 + b"\n%%EOF"]
)
def test_what_only_begins_like_a_pdf_is_a_typed_failure(damage: bytes) -> None:
    with pytest.raises(MalformedFile):
        parse(damage, name="a.pdf")


def test_a_pdf_with_the_wrong_extension_is_read_and_says_so(read: Read) -> None:
    assert read(make_pdf([page()]), "a.txt").format == "pdf"
    text = read("words that were never a PDF\n", "a.pdf")
    assert text.format == "text"
    assert text.metadata["named_as"] == "pdf"
    assert text.warnings == (), "nothing of it is missing"


def hostile(pages: bytes, *more: bytes, trailer: str = "/Root 1 0 R") -> bytes:
    return assemble_pdf([b"<< /Type /Catalog /Pages 2 0 R >>", pages, *more], trailer)


ONE_PAGE = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
SWOLLEN = zlib.compress(b" " * 9_000_000)
HOSTILE = {
    "a page tree that contains itself": hostile(b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 2 >>"),
    "a tree that claims a billion pages": hostile(
        b"<< /Type /Pages /Kids [3 0 R] /Count 1000000000 >>", LEAF, b"<< /Length 0 >>\nstream\n\nendstream"
    ),
    "a stream that claims to be endless": hostile(ONE_PAGE, LEAF, b"<< /Length 99999999999 >>\nstream\nBT"),
    "contents that are the page itself": hostile(ONE_PAGE, LEAF.replace(b"4 0 R", b"3 0 R")),
    "a stream that unpacks a thousandfold": hostile(
        ONE_PAGE,
        LEAF,
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(SWOLLEN), SWOLLEN),
    ),
    "a cross-reference table that points at itself": make_pdf([[]]).replace(b"/Size", b"/Prev 9 /Size"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_pdf_that_never_ends_does(what: str) -> None:
    with pytest.raises(ParseError) as failure:
        parse(HOSTILE[what], name="a.pdf", options=ParseOptions(ocr=False, soft_seconds=5))
    assert failure.value.hint


def test_reading_stops_after_the_time_limit_and_keeps_what_it_has(
    monkeypatch: pytest.MonkeyPatch, read: Read
) -> None:
    clock = iter(range(0, 10_000, 30))
    monkeypatch.setattr("indexer.parsers.pdf.time.monotonic", lambda: float(next(clock)))
    document = read(make_pdf([page() for _ in range(9)]), "a.pdf", soft_seconds=90)
    assert {block.page for block in document.blocks} == {1, 2, 3}
    assert document.warnings == ("Reading stopped before page 4 of 9: it took too long.",)


def test_pages_beyond_the_limit_are_left_out_with_a_warning(read: Read) -> None:
    document = read(make_pdf([page() for _ in range(5)]), "a.pdf", max_pages=2)
    assert {block.page for block in document.blocks} == {1, 2}
    assert "first 2 of 5 pages" in document.warnings[0]


def test_a_blank_page_is_no_loss(read: Read) -> None:
    assert read(make_pdf([page(), [], page()]), "a.pdf").warnings == ()


def scans(num_pages: int, *, with_text: int = 0) -> bytes:
    """Pages that are pictures, after some that have text."""
    writer = pypdf.PdfWriter()
    if with_text:
        writer.append(io.BytesIO(make_pdf([page() for _ in range(with_text)])))
    buffer = io.BytesIO()
    pictures = [Image.linear_gradient("L").resize((300, 400)) for _ in range(num_pages)]
    pictures[0].save(buffer, "PDF", save_all=True, append_images=pictures[1:])
    writer.append(io.BytesIO(buffer.getvalue()))
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_pages_that_ocr_did_not_look_at_are_told_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, read: Read
) -> None:
    data = scans(3, with_text=1)
    assert read(data, "a.pdf", ocr=False).warnings == ("Pages 2-4: not read by OCR, which is off.",)
    monkeypatch.setattr("indexer.parsers.pdf.picture_blocks", lambda *_, **__: [])
    document = read(data, "a.pdf", max_ocr_pages=1)
    assert document.warnings == (
        "Page 2: no text was found.",
        "Pages 3-4: not read by OCR, whose limit of 1 pages and pictures was reached.",
    )


def test_memory_of_waiting_pages_is_bounded_and_order_kept(read: Read) -> None:
    document = read(
        make_pdf([page([f"page number {i} has these many words on it"]) for i in range(60)]), "a.pdf"
    )
    assert [block.page for block in document.blocks] == list(range(1, 61))


@pytest.mark.parametrize("blank", [True, False])
def test_a_pdf_without_text_is_a_failure_with_a_remedy_and_not_an_empty_success(blank: bool) -> None:
    with pytest.raises(NoExtractableText) as failure:
        parse(scanned(blank=blank), name="a.pdf", options=ParseOptions(ocr=False))
    assert failure.value.code == "no-extractable-text"
    assert "OCR" in failure.value.hint
