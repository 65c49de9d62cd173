"""What is written in the pictures of office documents is read, where it stands among the text."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import pytest
from docx import Document
from openpyxl import Workbook
from openpyxl.drawing.image import Image as SheetImage
from parsing_samples import make_zip, outline_of
from PIL import Image
from pptx import Presentation
from pptx.util import Inches

from indexer.parsers import ParseOptions, image, ocr, parse
from indexer.parsers.archives import DocumentArchive
from indexer.parsers.errors import NoExtractableText
from indexer.parsers.layout import Segment
from indexer.types import ParsedDocument

Read = Callable[..., ParsedDocument]
SAID = "Received with thanks: 40 crowns"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Stands in for the models: wide pictures hold a sentence, others two letters. The sizes that came."""
    sizes: list[tuple[int, int]] = []

    def read_picture(image: Image.Image) -> ocr.OcrResult:
        sizes.append(image.size)
        words = SAID if image.size[0] > image.size[1] else "OK"
        return ocr.OcrResult([Segment(words, 2, 2, 20, 9, 8)], 0.99)

    monkeypatch.setattr(ocr, "read_picture", read_picture)
    return sizes


def png(width: int = 300, height: int = 200, shade: int = 255) -> io.BytesIO:
    buffer = io.BytesIO()
    Image.new("L", (width, height), shade).save(buffer, "PNG")
    return io.BytesIO(buffer.getvalue())


def saved(document: object) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def word_document(*pictures: io.BytesIO) -> bytes:
    document = Document()
    document.add_paragraph("Before it.")
    for picture in pictures:
        document.add_picture(picture)
    document.add_paragraph("After it.")
    return saved(document)


def changed(data: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """An office document with its members changed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return make_zip({name: change(name, archive.read(name)) for name in archive.namelist()})


def test_a_picture_in_a_word_document_is_read_between_the_paragraphs(
    read: Read, seen: list[tuple[int, int]]
) -> None:
    document = read(word_document(png()), "a.docx")
    assert outline_of(document) == [("text", "Before it."), ("text", SAID), ("text", "After it.")]
    assert document.warnings == ()


def test_pictures_in_cells_and_in_text_boxes_are_read(read: Read, seen: list[tuple[int, int]]) -> None:
    document = Document()
    table = document.add_table(rows=2, cols=2)
    for cell in (cell for row in table.rows for cell in row.cells):
        cell.text = "cell"
    table.cell(1, 1).paragraphs[0].add_run().add_picture(png())
    frame = document.add_table(rows=1, cols=1)
    frame.cell(0, 0).paragraphs[0].add_run().add_picture(png(400))
    assert [kind for kind, _ in outline_of(read(saved(document), "a.docx"))] == ["table", "text", "text"]
    assert sorted(seen) == [(300, 200), (400, 200)]


def test_a_document_that_is_nothing_but_pictures_is_found_by_what_they_say(
    read: Read, seen: list[tuple[int, int]]
) -> None:
    document = Document()
    document.add_picture(png())
    data = saved(document)
    assert read(data, "a.docx").text == SAID
    with pytest.raises(NoExtractableText) as failure:
        parse(data, name="a.docx", options=ParseOptions(ocr=False))
    assert "OCR is on" in failure.value.hint


def test_a_picture_that_was_deleted_is_not_read(read: Read, seen: list[tuple[int, int]]) -> None:
    def delete(name: str, content: bytes) -> bytes:
        if name != "word/document.xml":
            return content
        return content.replace(b"<w:r><w:drawing>", b"<w:del><w:r><w:drawing>").replace(
            b"</w:drawing></w:r>", b"</w:drawing></w:r></w:del>"
        )

    data = changed(word_document(png()), delete)
    assert SAID not in read(data, "a.docx").text
    assert seen == []


def test_a_picture_on_a_slide_is_read_with_the_slide(read: Read, seen: list[tuple[int, int]]) -> None:
    show = Presentation()
    first = show.slides.add_slide(show.slide_layouts[5])
    first.shapes.title.text = "Receipts"
    first.shapes.add_picture(png(), Inches(1), Inches(2))
    first.notes_slide.notes_text_frame.text = "Say it slowly."
    alone = show.slides.add_slide(show.slide_layouts[6])
    group = alone.shapes.add_group_shape()
    group.shapes.add_picture(png(400), Inches(1), Inches(1))
    document = read(saved(show), "a.pptx")
    assert [
        (block.page, *pair) for block, pair in zip(document.blocks, outline_of(document), strict=True)
    ] == [
        (1, "heading", "Receipts"),
        (1, "text", SAID),
        (1, "text", "Say it slowly."),
        (2, "heading", "Slide 2"),
        (2, "text", SAID),
    ]


def test_pictures_on_sheets_are_read_below_their_cells_and_where_there_are_none(
    read: Read, seen: list[tuple[int, int]]
) -> None:
    book = Workbook()
    book.active.title = "Fares"
    book.active.append(["who", "crowns"])
    book.active.add_image(SheetImage(png()), "D4")
    scan = book.create_sheet("Scan")
    scan.add_image(SheetImage(png(400)), "A1")
    book.create_sheet("Empty")
    document = read(saved(book), "a.xlsx")
    assert outline_of(document) == [
        ("heading", "Fares"),
        ("table", "who | crowns\n--- | ---"),
        ("text", SAID),
        ("heading", "Scan"),
        ("text", SAID),
    ]


ODF = (
    '<office:document-content xmlns:office="o" xmlns:text="t" xmlns:table="b" xmlns:draw="d" xmlns:xlink="x">'
    "<office:body>%s</office:body></office:document-content>"
)
FRAME = '<draw:frame><draw:image xlink:href="%s"/></draw:frame>'


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (
            "text",
            f"<office:text><text:p>Before it.{FRAME}</text:p><text:p>After it.</text:p></office:text>",
            ["Before it.", SAID, "After it."],
        ),
        (
            "text",
            f"<office:text><text:list><text:list-item><text:p>An item{FRAME}</text:p></text:list-item>"
            "</text:list></office:text>",
            ["- An item", SAID],
        ),
        (
            "presentation",
            f"<office:presentation><draw:page>{FRAME}</draw:page></office:presentation>",
            ["Slide 1", SAID],
        ),
        (
            "spreadsheet",
            '<office:spreadsheet><table:table table:name="S"><table:table-row><table:table-cell>'
            f"<text:p>x</text:p></table:table-cell><table:table-cell>{FRAME}</table:table-cell>"
            "</table:table-row></table:table></office:spreadsheet>",
            ["S", "x", SAID],
        ),
    ],
)
@pytest.mark.parametrize("path", ["Pictures/1.png", "./Pictures/1.png"])
def test_pictures_in_opendocument_files_are_read(
    kind: str, body: str, expected: list[str], path: str, read: Read, seen: list[tuple[int, int]]
) -> None:
    media_type = f"application/vnd.oasis.opendocument.{kind}"
    members = {"mimetype": media_type, "content.xml": ODF % (body % path), "Pictures/1.png": png().getvalue()}
    document = read(make_zip(members), {"text": "a.odt", "presentation": "a.odp"}.get(kind, "a.ods"))
    assert [text for _, text in outline_of(document)] == expected
    assert len(seen) == 1


def test_a_picture_that_is_elsewhere_is_not_fetched(read: Read, seen: list[tuple[int, int]]) -> None:
    body = f"<office:text><text:p>Words.{FRAME}</text:p></office:text>"
    for path in (
        "https://tracker.example/1.png",
        "/etc/hostname",
        "../../etc/hostname",
        "file:///etc/hostname",
    ):
        members = {"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": ODF % (body % path)}
        assert read(make_zip(members), "a.odt").text == "Words."
    relation = b'Target="media/image1.png"'
    external = relation.replace(b"media/", b"https://tracker.example/") + b' TargetMode="External"'
    data = changed(word_document(png()), lambda name, content: content.replace(relation, external))
    assert SAID not in read(data, "a.docx").text
    assert seen == []


def test_icons_logos_and_pictures_that_were_seen_are_passed_over(
    read: Read, seen: list[tuple[int, int]]
) -> None:
    document = read(word_document(png(40, 20), png(), png(), png(200, 300)), "a.docx")
    assert seen == [(300, 200), (200, 300)]
    assert [text for _, text in outline_of(document)] == ["Before it.", SAID, "After it."]


def test_pages_of_ocr_are_announced_and_limited(seen: list[tuple[int, int]]) -> None:
    data = word_document(*(png(shade=shade) for shade in (250, 251, 252)))
    announced: list[int] = []
    document = parse(
        data,
        name="a.docx",
        options=ParseOptions(max_ocr_pages=2),
        before_ocr_page=lambda: announced.append(len(seen)),
    )
    assert announced == [0, 1]
    assert document.warnings == (
        "Some of its pictures were not read: the limit of 2 that are read by OCR was reached.",
    )
    assert parse(data, name="a.docx", options=ParseOptions(ocr=False)).warnings == ()
    assert len(seen) == 2


def test_a_picture_that_cannot_be_read_costs_a_warning(read: Read, seen: list[tuple[int, int]]) -> None:
    def damage(name: str, content: bytes) -> bytes:
        return content[:60] if name.startswith("word/media/") else content

    document = read(changed(word_document(png()), damage), "a.docx")
    assert [text for _, text in outline_of(document)] == ["Before it.", "After it."]
    (warning,) = document.warnings
    assert warning.startswith("A picture in it was not read: image1.png")


def test_what_the_pictures_of_a_document_in_an_archive_say_is_found_too(
    read: Read, seen: list[tuple[int, int]]
) -> None:
    assert SAID in read(make_zip({"in/a.docx": word_document(png())}), "a.zip").text


def test_a_picture_that_is_shown_over_and_over_is_unpacked_once(
    read: Read, seen: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked: list[str] = []
    plain = DocumentArchive.read
    monkeypatch.setattr(
        DocumentArchive, "read", lambda self, member: unpacked.append(member) or plain(self, member)
    )
    logo = png()
    read(word_document(*(io.BytesIO(logo.getvalue()) for _ in range(5))), "a.docx")
    assert [member for member in unpacked if "media" in member] == ["word/media/image1.png"]
    assert seen == [(300, 200)]


def test_what_was_not_read_of_a_picture_is_told_with_the_document(
    read: Read, seen: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "_MAX_FRAMES", 2)
    pages, scan = [Image.new("L", (300, 200), shade) for shade in (255, 250, 245)], io.BytesIO()
    pages[0].save(scan, "TIFF", save_all=True, append_images=pages[1:])
    document = read(word_document(io.BytesIO(scan.getvalue())), "a.docx")
    assert SAID in document.text
    assert document.warnings == ("A picture in it: Only the first 2 pages were read.",)
