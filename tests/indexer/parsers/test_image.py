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
from indexer.parsers.exif import exif_facts
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
    assert document.metadata["ocr_pages"] == "2"
    assert document.warnings == ()
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


def test_all_pages_of_a_tiff_are_read(seen: list[Image.Image], read: Read) -> None:
    pages = [picture(str(i)) for i in range(3)]
    tiff = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert [block.page for block in read(tiff, "a.tif").blocks] == [1, 1, 2, 3]
    assert len(seen) == 3


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_frames_of_an_animation_that_differ_are_read_once(
    format: str, seen: list[Image.Image], read: Read
) -> None:
    one, two = picture("Step 1"), picture("Step 2")
    frames = [one, two, one, two, two]
    options = {"duration": 100, "lossless": True} if format == "WEBP" else {"duration": 100}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    document = read(data, f"a.{format.lower()}")
    assert len(seen) == 2
    assert [block.page for block in document.blocks] == [1, 1], "the second shows no line that is new"


def test_lines_that_stay_in_an_animation_are_kept_once_and_new_ones_know_their_frame(
    monkeypatch: pytest.MonkeyPatch, read: Read
) -> None:
    said = iter([["Harbour map", "Pier one"], ["Harbour map", "Pier two"]])

    def read_picture(image: Image.Image) -> OcrResult:
        segments = [Segment(text, 20, 20 + 36 * i, 200, 50 + 36 * i, 26) for i, text in enumerate(next(said))]
        return OcrResult(segments, 0.99, size=(float(image.size[0]), float(image.size[1])))

    monkeypatch.setattr(ocr, "read_picture", read_picture)
    frames = [picture("one"), picture("two")]
    document = read(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "a.gif")
    assert [(text_of(document, block), block.page) for block in document.blocks[1:]] == [
        ("Harbour map\nPier one", 1),
        ("Pier two", 2),
    ]


def test_of_a_film_a_dozen_frames_are_read_from_the_first_to_the_last(
    seen: list[Image.Image], read: Read
) -> None:
    def frame(number: int) -> Image.Image:
        image = Image.new("L", (90, 90), 255)
        image.paste(0, (number * 2, 0, number * 2 + 20, 90))
        return image

    frames = [frame(number) for number in range(30)]
    document = read(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "a.gif")
    assert len(seen) == 12
    assert seen[0].getpixel((5, 5)) == (0, 0, 0)
    assert seen[-1].getpixel((70, 5)) == (0, 0, 0)
    assert document.warnings == ("Of 30 frames that differ, 12 were read.",)


def test_an_animation_is_looked_at_for_as_many_pixels_as_a_picture_may_have(
    seen: list[Image.Image], read: Read
) -> None:
    frames = [picture(str(number)) for number in range(9)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    document = read(data, "a.gif", max_pixels=2 * 420 * 130)
    assert len(seen) == 4
    assert document.warnings == ("Only the first 4 frames were looked at.",)


def test_pictures_are_turned_upright_as_the_camera_says(seen: list[Image.Image], read: Read) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    exif[0x010E] = "The pier at dawn"
    document = read(encoded(picture("x"), "JPEG", exif=exif), "a.jpg")
    assert seen[0].size == (130, 420)
    assert text_of(document, document.blocks[0]) == "Image: a. The pier at dawn"
    assert document.metadata["description"] == "The pier at dawn"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_of_all_ways_to_hold_a_camera_the_upper_left_corner_ends_where_it_belongs(
    orientation: int, format: str, seen: list[Image.Image], read: Read
) -> None:
    upright = Image.new("L", (90, 60), 255)
    upright.paste(0, (0, 0, 30, 20))
    turned = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)  # what undoes the turn of a viewer
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if turned is None else upright.transpose(Image.Transpose(turned))
    assert stored.size == ((60, 90) if orientation > 4 else (90, 60))
    read(encoded(stored, format, exif=exif), f"a.{format.lower()}")
    assert seen[0].size == (90, 60)
    corners = [seen[0].getpixel(place)[0] < 60 for place in ((9, 9), (80, 9), (9, 50), (80, 50))]
    assert corners == [True, False, False, False]


def test_a_caption_says_when_and_with_what_a_picture_was_taken(seen: list[Image.Image], read: Read) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "Canon EOS 5D"
    exif[0x0132] = "2025:01:02 03:04:05"  # when it was changed
    exif.get_ifd(0x8769)[0x9003] = "2024:05:01 12:30:00"
    document = read(encoded(picture("x"), "JPEG", exif=exif), "north_pier.jpg")
    assert (
        text_of(document, document.blocks[0]) == "Image: north pier. Taken 2024-05-01 12:30 with Canon EOS 5D"
    )
    assert (document.metadata["created"], document.metadata["camera"]) == ("2024-05-01 12:30", "Canon EOS 5D")


def test_what_exif_says_is_cut_and_cleaned(seen: list[Image.Image], read: Read) -> None:
    exif = Image.Exif()
    exif[0x010E] = "A pier\x1b[31m red\r\n" + "and on " * 1000
    exif[0x0110] = "\x07" * 50 + "Camera " * 500
    exif[0x0132] = "yesterday; rm -rf"
    document = read(encoded(picture("x"), "JPEG", exif=exif), "a.jpg")
    said = text_of(document, document.blocks[0])
    assert said.startswith("Image: a. A pier[31m red and on and on")
    assert len(said) < 450
    assert not set("\x1b\x07") & set(said)
    assert "created" not in document.metadata


def test_marks_that_turn_text_around_are_no_part_of_a_caption() -> None:
    class Picture:
        def getexif(self) -> Image.Exif:
            exif = Image.Exif()
            exif[0x010E] = "The \u202epier\u2066 at\u200b dawn"
            exif[0x0110] = b"B\xc3\xb6x\x00 hidden"
            return exif

    assert exif_facts(Picture()) == {"description": "The pier at dawn", "camera": "Böx"}


def test_a_damaged_exif_part_costs_nothing_but_itself(seen: list[Image.Image], read: Read) -> None:
    data = encoded(picture("x"), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff" + bytes(range(64)))
    document = read(data, "a.jpg")
    assert text_of(document, document.blocks[0]) == "Image: a"


def test_transparent_pictures_are_put_on_white(seen: list[Image.Image], read: Read) -> None:
    image = Image.new("RGBA", (100, 50), (0, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((40, 10, 60, 40), fill=(0, 0, 0, 255))
    read(encoded(image, "PNG"), "a.png")
    assert seen[0].getpixel((5, 5)) == (255, 255, 255)
    assert seen[0].getpixel((50, 25)) == (0, 0, 0)


def test_boxes_of_a_very_large_scan_are_in_its_own_pixels(seen: list[Image.Image], read: Read) -> None:
    document = read(encoded(Image.new("1", (8000, 6000), 1), "PNG"), "a.png")
    assert seen[0].size == (6000, 4500)
    assert document.blocks[1].boxes[0][1:] == (26.7, 26.7, 266.7, 66.7)


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
    assert caption("a.png", "A dog.", "2024-05-01") == "Image: a. A dog. Taken 2024-05-01"
    assert caption("a.txt", camera="Box") == "Taken with Box"


def test_a_caption_does_not_name_a_file_that_could_be_renamed_unnoticed() -> None:
    for name in ("one.png", "photo", "one.txt", "x.y.bin"):
        renamed = name.replace("one", "two").replace("x.", "z.").replace("photo", "shot")
        says_the_same = caption(name, "A dog.") == caption(renamed, "A dog.")
        assert says_the_same == (name_in_document(name) == name_in_document(renamed))
    assert caption("one.txt") == ""
