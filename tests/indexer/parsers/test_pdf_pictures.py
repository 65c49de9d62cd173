from __future__ import annotations

from collections.abc import Callable

import pytest
from parsing_samples import assemble_pdf, outline_of
from PIL import Image

from indexer.parsers import ocr
from indexer.parsers.layout import Segment
from indexer.parsers.ocr import OcrResult
from indexer.types import ParsedDocument

Read = Callable[..., ParsedDocument]
PROSE = "The ferry leaves the northern pier at nine and comes back in the evening of the same day."


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Image.Image]:
    """Stands in for the models: every picture says the same, in its upper left quarter."""
    pictures: list[Image.Image] = []

    def read_picture(image: Image.Image) -> OcrResult:
        pictures.append(image)
        width, height = image.size
        segment = Segment("Depth below the keel", 0, 0, width / 2, height / 2, 20)
        return OcrResult([segment], 0.99, size=(float(width), float(height)))

    monkeypatch.setattr(ocr, "read_picture", read_picture)
    return pictures


def pdf(*contents: str, pictures: int = 1, rotate: int = 0, form: str = "") -> bytes:
    """Pages of these contents; /P0, /P1 ... are pictures of 150 x 100 pixels that differ.

    /Form is one with that content, doubled and then moved by (10, 20); /Forms is /Form, moved by (100, 50).
    """
    objects = [b"", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    names = ""
    for number in range(pictures):
        pixels = bytes([40 + number]) * 15_000
        header = b"<< /Type /XObject /Subtype /Image /Width 150 /Height 100 /ColorSpace /DeviceGray"
        objects.append(b"%s /BitsPerComponent 8 /Length 15000 >>\nstream\n%s\nendstream" % (header, pixels))
        names += f" /P{number} {len(objects)} 0 R"
    for matrix, content in (("2 0 0 2 10 20", form), ("1 0 0 1 100 50", "/Form Do" if form else "")):
        header = f"<< /Type /XObject /Subtype /Form /BBox [0 0 900 900] /Matrix [{matrix}]"
        header += f" /Length {len(content)} /Resources << /XObject <<{names} >> >> >>"
        objects.append(f"{header}\nstream\n{content}\nendstream".encode())
        names += f" /{'Forms' if '/Form ' in names else 'Form'} {len(objects)} 0 R"
    kids = []
    for content in contents:
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream".encode())
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Rotate {rotate}"
            f" /Contents {len(objects)} 0 R"
            f" /Resources << /Font << /F1 3 0 R >> /XObject <<{names} >> >> >>".encode()
        )
        kids.append(f"{len(objects)} 0 R")
    objects[0] = b"<< /Type /Catalog /Pages 2 0 R >>"
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>".encode()
    return assemble_pdf(objects, "/Root 1 0 R")


def text(words: str, *, y: int = 700) -> str:
    return f"BT /F1 10 Tf 50 {y} Td ({words}) Tj ET\n"


def picture(name: str, x: int, y: int, width: int, height: int) -> str:
    return f"q {width} 0 0 {height} {x} {y} cm /{name} Do Q\n"


def test_the_text_in_a_picture_beside_text_is_read_where_it_stands(
    read: Read, seen: list[Image.Image]
) -> None:
    document = read(pdf(text(PROSE) + picture("P0", 100, 300, 300, 200)), "a.pdf")
    assert outline_of(document) == [("text", PROSE), ("text", "Depth below the keel")]
    (box,) = document.blocks[1].boxes
    assert box == pytest.approx((1, 100, 300, 250, 400), abs=1)
    assert document.metadata["ocr_picture_pages"] == "1"
    assert document.warnings == ()
    assert len(seen) == 1
    assert seen[0].getextrema()[0][1] < 60  # it alone was seen, without the page around it


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_on_turned_pages_as_well(turn: int, read: Read, seen: list[Image.Image]) -> None:
    document = read(pdf(text(PROSE) + picture("P0", 100, 300, 300, 200), rotate=turn), "a.pdf")
    (box,) = document.blocks[1].boxes
    left, top = {90: (300, 100), 180: (200, 300), 270: (300, 200)}[turn]
    assert (box.x0, box.y0) == pytest.approx((left, top), abs=1)
    assert seen[0].getextrema()[0][1] < 60


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("q 1 0 0 1 20 30 cm /Form Do Q\n", (130, 300, 330, 450)),
        ("/Forms Do\n", (210, 280, 410, 430)),
    ],
)
def test_pictures_within_forms_are_read_where_the_page_shows_them(
    content: str, place: tuple[int, ...], read: Read, seen: list[Image.Image]
) -> None:
    inner = picture("P0", 50, 150, 100, 75)
    document = read(pdf(text(PROSE) + content, form=inner), "a.pdf")
    (box,) = document.blocks[1].boxes
    x0, y0, x1, y1 = place  # the upper left quarter of which is said to have text
    assert box == pytest.approx((1, x0, y0, (x0 + x1) / 2, (y0 + y1) / 2), abs=1)
    assert seen[0].getextrema()[0][1] < 60


def test_small_pictures_and_those_with_text_on_them_and_repeated_ones_are_not_read(
    read: Read, seen: list[Image.Image]
) -> None:
    small = picture("P0", 100, 300, 60, 60)
    ground = picture("P1", 0, 0, 600, 800)  # under the text: a scan with its text layer, or a background
    again = picture("P2", 100, 300, 200, 200)
    read(pdf(ground + text(PROSE) + small, text(PROSE) + again, text(PROSE) + again, pictures=3), "a.pdf")
    assert len(seen) == 1


def test_a_scan_with_a_long_stamp_at_its_foot_is_read_as_a_scan(read: Read, seen: list[Image.Image]) -> None:
    stamp = text("Downloaded from an archive on a day that nobody remembers any more", y=30)
    document = read(pdf(picture("P0", 0, 60, 600, 740) + stamp), "a.pdf")
    assert [image.size[1] > image.size[0] for image in seen] == [True]  # the whole page
    assert document.blocks


def test_no_picture_is_read_with_ocr_switched_off_or_beyond_its_limit(
    read: Read, seen: list[Image.Image]
) -> None:
    page = text(PROSE) + picture("P0", 100, 300, 300, 200) + picture("P1", 100, 50, 300, 200)
    read(pdf(page, pictures=2), "a.pdf", ocr=False)
    assert seen == []
    read(pdf(page, pictures=2), "a.pdf", max_ocr_pages=1)
    assert len(seen) == 1
