from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable

import pytest
from parsing_samples import Words, make_pdf, text_of
from PIL import Image, ImageDraw, ImageFont

from indexer.parsers import ParseOptions, ocr, parse
from indexer.parsers.errors import (
    DecompressionBomb,
    MalformedFile,
    NoExtractableText,
    OcrUnavailable,
    TruncatedFile,
)
from indexer.parsers.formats import name_in_document
from indexer.parsers.image import caption
from indexer.parsers.layout import Segment
from indexer.parsers.ocr import OcrResult
from indexer.types import Box, ParsedDocument

Read = Callable[..., ParsedDocument]


def picture(*lines: str, size: tuple[int, int] = (420, 130), top: int = 20) -> Image.Image:
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(lines):
        draw.text((20, top + 36 * i), line, fill="black", font=ImageFont.load_default(26))
    return image


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Image.Image]:
    """Stands in for the models: every picture has the same two lines. The pictures that were to be read."""
    pictures: list[Image.Image] = []

    def read_picture(image: Image.Image) -> OcrResult:
        pictures.append(image)
        segments = [Segment("Ferry at nine", 20, 20, 200, 50, 26), Segment("daily", 20, 56, 90, 86, 26)]
        return OcrResult(segments, 0.99, size=(float(image.size[0]), float(image.size[1])))

    monkeypatch.setattr(ocr, "read_picture", read_picture)
    return pictures


def test_text_in_a_picture_is_read_where_it_stands(read: Read) -> None:
    document = read(encoded(picture("Ferry at nine", "from the pier"), "PNG"), "timeTable_north-pier.png")
    assert [block.kind for block in document.blocks] == ["image", "text"]
    assert text_of(document, document.blocks[0]) == "Image: time Table north pier"
    lines = text_of(document, document.blocks[1]).lower().split("\n")
    assert lines == ["ferry at nine", "from the pier"]
    first, second = document.blocks[1].boxes
    assert 10 < first.x0 < 30
    assert 15 < first.y0 < 35 < first.y1 < 60
    assert second.y0 > first.y0 + 25
    assert document.parser == "rapidocr"


def test_a_picture_on_its_head_is_turned_and_its_boxes_turned_back() -> None:
    upright = picture("Ferry at nine", "from the pier", "every morning", size=(420, 160))
    result = ocr.read_picture(upright.rotate(180))
    assert [segment.text.lower() for segment in result.segments] == [
        "ferry at nine",
        "from the pier",
        "every morning",
    ]
    assert result.quarter_turns == 2
    first = result.segments[0]
    placed = result.place(Box(1, first.x0, first.y0, first.x1, first.y1))
    assert placed.y0 > 160 / 2, "the first line is at the bottom of the picture as it came"


def test_a_small_line_on_a_large_blank_page_is_read(read: Read) -> None:
    page = Image.new("L", (3000, 4000), 255)
    page.paste(picture("Ferry at nine", size=(300, 70)).convert("L"), (2000, 3000))
    document = read(encoded(page, "PNG"), "a.png")
    assert text_of(document, document.blocks[-1]).lower() == "ferry at nine"
    (box,) = document.blocks[-1].boxes
    assert 1990 < box.x0 < 2060
    assert 3000 < box.y0 < 3060


def test_a_scanned_page_of_a_pdf_is_read_and_only_that_page(read: Read) -> None:
    import pypdf

    buffer = io.BytesIO()
    picture("Ferry at nine", size=(420, 130)).save(buffer, "PDF", resolution=72)
    digital = make_pdf(
        [[Words(72, 100, "This page has a text layer that is long enough to be read as it is.")]]
    )
    writer = pypdf.PdfWriter()
    for data in (digital, buffer.getvalue()):
        writer.append(io.BytesIO(data))
    out = io.BytesIO()
    writer.write(out)
    document = read(out.getvalue(), "a.pdf")
    assert [block.page for block in document.blocks] == [1, 2]
    assert text_of(document, document.blocks[1]).lower() == "ferry at nine"
    assert document.warnings == ("Page 2: text came from OCR.",)
    (box,) = document.blocks[1].boxes
    assert 10 < box.x0 < 30
    assert 15 < box.y0 < 35


def test_a_picture_without_text_is_a_failure_with_a_remedy() -> None:
    with pytest.raises(NoExtractableText) as failure:
        parse(encoded(Image.linear_gradient("L"), "PNG"), name="sky.png")
    assert failure.value.code == "no-extractable-text"
    assert failure.value.hint


def test_the_models_come_from_the_wheel_and_without_them_the_failure_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    assert all(path.is_file() for path in ocr.model_paths().values())
    monkeypatch.setattr(ocr, "_MODELS", {"Det": "no such model.onnx"})
    with pytest.raises(OcrUnavailable) as failure:
        ocr.model_paths()
    assert "pip install" in failure.value.hint


def test_reading_pictures_does_not_import_torch() -> None:
    import subprocess

    code = (
        "import sys; from PIL import Image; from indexer.parsers import ocr;"
        "ocr.read_picture(Image.effect_noise((64, 64), 50));"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP"])
def test_every_format_of_pictures_is_decoded(format: str, seen: list[Image.Image], read: Read) -> None:
    document = read(encoded(picture("x"), format), "a.png")
    assert "Ferry at nine\ndaily" in document.text
    assert seen[0].mode == "RGB"
    assert seen[0].size == (420, 130)


def test_all_pages_of_a_tiff_are_read_and_the_first_frame_of_an_animation(
    seen: list[Image.Image], read: Read
) -> None:
    pages = [picture(str(i)) for i in range(3)]
    tiff = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert [block.page for block in read(tiff, "a.tif").blocks] == [1, 1, 2, 3]
    gif = encoded(pages[0], "GIF", save_all=True, append_images=pages[1:])
    assert {block.page for block in read(gif, "a.gif").blocks} == {1}
    assert len(seen) == 4


def test_pictures_are_turned_upright_as_the_camera_says(seen: list[Image.Image], read: Read) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    exif[0x010E] = "The pier at dawn"
    document = read(encoded(picture("x"), "JPEG", exif=exif), "a.jpg")
    assert seen[0].size == (130, 420)
    assert text_of(document, document.blocks[0]) == "Image: a. The pier at dawn"
    assert document.metadata["description"] == "The pier at dawn"


def test_transparent_pictures_are_put_on_white(seen: list[Image.Image], read: Read) -> None:
    image = Image.new("RGBA", (100, 50), (0, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((40, 10, 60, 40), fill=(0, 0, 0, 255))
    read(encoded(image, "PNG"), "a.png")
    assert seen[0].getpixel((5, 5)) == (255, 255, 255)
    assert seen[0].getpixel((50, 25)) == (0, 0, 0)


def test_boxes_of_a_very_large_scan_are_in_its_own_pixels(seen: list[Image.Image], read: Read) -> None:
    document = read(encoded(Image.new("1", (8000, 6000), 1), "PNG"), "a.png")
    assert seen[0].size == (4000, 3000)
    assert document.blocks[1].boxes[0][1:] == (40.0, 40.0, 400.0, 100.0)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(50_000, 50_000), (16_000, 10_000)])
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(size: tuple[int, int]) -> None:
    with pytest.raises(DecompressionBomb) as failure:
        parse(png_header(*size), name="a.png")
    assert failure.value.code == "decompression-bomb"
    assert failure.value.hint


def test_damaged_pictures_are_typed_failures(seen: list[Image.Image], read: Read) -> None:
    data = encoded(Image.effect_noise((300, 300), 90), "PNG")
    with pytest.raises(TruncatedFile):
        parse(data[: len(data) // 2], name="a.png")
    with pytest.raises(MalformedFile):
        parse(b"\x89PNG\r\n\x1a\n" + b"\x00" * 50, name="a.png")
    assert not seen


def test_a_damaged_later_page_costs_that_page(seen: list[Image.Image], read: Read) -> None:
    pages = [Image.effect_noise((200, 200), 90 + i) for i in range(3)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    document = read(data[: len(data) - 45_000], "a.tif")
    assert document.warnings
    assert {block.page for block in document.blocks} < {1, 2, 3}


def test_with_ocr_switched_off_a_picture_is_a_failure_that_says_so(seen: list[Image.Image]) -> None:
    with pytest.raises(NoExtractableText, match="Switch OCR on"):
        parse(encoded(picture("x"), "PNG"), name="a.png", options=ParseOptions(ocr=False))
    assert not seen


def test_every_page_of_ocr_is_announced(seen: list[Image.Image]) -> None:
    announced: list[int] = []
    pages = [picture(str(i)) for i in range(3)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    parse(data, name="a.tif", before_ocr_page=lambda: announced.append(len(seen)))
    assert announced == [0, 1, 2]


def test_captions_are_made_of_words() -> None:
    assert caption("/x/IMG_2024-05-01 northPier.jpeg") == "Image: IMG 2024 05 01 north Pier"
    assert caption("photo", "A dog.") == "Image: photo. A dog."
    assert caption("a.picture.with.dots.PNG") == "Image: a picture with dots"


def test_a_caption_does_not_name_a_file_that_could_be_renamed_unnoticed() -> None:
    for name in ("one.png", "photo", "one.txt", "x.y.bin"):
        renamed = name.replace("one", "two").replace("x.", "z.").replace("photo", "shot")
        says_the_same = caption(name, "A dog.") == caption(renamed, "A dog.")
        assert says_the_same == (name_in_document(name) == name_in_document(renamed))
    assert caption("one.txt") == ""
