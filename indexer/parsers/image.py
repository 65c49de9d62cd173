"""Images by OCR: every page of a TIFF, the first frame of an animation, upright as the camera says."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from indexer.parsers.building import DocumentBuilder
from indexer.parsers.errors import DecompressionBomb, NoExtractableText, TruncatedFile
from indexer.parsers.failures import file_title, malformed
from indexer.parsers.formats import extension_of, name_in_document
from indexer.parsers.layout import PlacedBlock, gather_blocks, reading_order
from indexer.parsers.options import ParseOptions
from indexer.parsers.thumbnail import make_thumbnail
from indexer.types import Box, ParsedDocument, Thumbnail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PIL.Image import Image

_MAX_FRAMES = 500
_LONGEST_SIDE = 4000  # pixels; JPEGs are decoded no larger than this
# What Pillow's decoders raise on damaged files, besides what they should.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    EOFError,
    OverflowError,
    AssertionError,
)
_EXIF_DESCRIPTION, _EXIF_DATE, _EXIF_MAKER, _EXIF_MODEL = 0x010E, 0x0132, 0x010F, 0x0110


def parse_image(
    data: bytes,
    *,
    name: str,
    options: ParseOptions,
    format: str,
    before_ocr_page: Callable[[], None] | None = None,
) -> ParsedDocument:
    """Read the text in an image; the first block is a caption from the file's name and its EXIF description.

    Raises DecompressionBomb, TruncatedFile, MalformedFile; NoExtractableText when no page has text and no
    thumbnail is asked for.
    """
    if not options.ocr and not options.thumbnails:
        raise NoExtractableText(f"{file_title(name)} is an image and OCR is off.", hint="Switch OCR on.")
    builder = DocumentBuilder(name=name, options=options)
    num_lines = 0
    thumbnail: Thumbnail | None = None
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Pillow's about bombs and damage: ours are errors, with the caller's limit
        image = _open(data, name, options)
        metadata = _metadata(image)
        builder.add("image", caption(name, metadata.get("description", "")), page=1)
        for page, frame in enumerate(_frames(image, name, options, builder), start=1):
            if options.thumbnails and thumbnail is None:
                thumbnail = make_thumbnail(frame.image)
            if not options.ocr:
                break
            if before_ocr_page is not None:
                before_ocr_page()
            num_lines += add_picture(builder, frame.image, page=page, scale=frame.scale)
    if num_lines == 0 and thumbnail is None:
        raise NoExtractableText(
            f"No text was found in {file_title(name)}.",
            hint="Use a sharper or larger scan, or describe the image in a text file beside it.",
        )
    if builder.is_empty:
        builder.add("image", f"Image of {metadata['width']} x {metadata['height']} pixels", page=1)
    document = builder.build(format=format, parser="rapidocr", metadata=metadata)
    return replace(document, thumbnail=thumbnail)


def caption(name: str, description: str = "") -> str:
    """A line that says what the image is called, in words that a search can find, and what its EXIF says.

    The name counts only where a new name makes it be read again; else the caption would soon be wrong.
    """
    title, extension = file_title(name), extension_of(name)
    stem = title.rpartition(".")[0] if extension else title
    if name_in_document(name) == extension:
        stem = ""
    words = re.sub(r"[_\-.\s]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem)).strip()
    return ". ".join(filter(None, [f"Image: {words}" if words else "", description]))


def bounded_size(size: tuple[int, int], name: str, options: ParseOptions) -> None:
    """Raise DecompressionBomb when an image's header announces more pixels than allowed."""
    width, height = size
    if width * height > options.max_pixels:
        limit = f"{options.max_pixels:,}"
        raise DecompressionBomb(
            f"{file_title(name)} has {width:,} x {height:,} pixels, more than the limit of {limit}.",
            hint="Scale it down, or raise parsing.max_pixels.",
        )


def _open(data: bytes, name: str, options: ParseOptions) -> Image:
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise DecompressionBomb(
            f"{file_title(name)} unpacks to far too many pixels.", hint="Scale it down."
        ) from error
    except (UnidentifiedImageError, *_DAMAGE) as error:
        raise malformed(name, "an image") from error
    bounded_size(image.size, name, options)
    return image


class _Frame(NamedTuple):
    """One page: upright, in RGB, no larger than needed; `scale` leads from its pixels to the file's."""

    image: Image
    scale: float


def _frames(image: Image, name: str, options: ParseOptions, builder: DocumentBuilder) -> Iterator[_Frame]:
    """The pages of a TIFF, else the first frame. A damaged later page ends them with a warning."""
    for number in range(_MAX_FRAMES if image.format == "TIFF" else 1):
        try:
            if number:
                if not _go_to(image, number):
                    return
                bounded_size(image.size, name, options)
            yield _decode(image)
        except _DAMAGE as error:
            if number == 0:
                raise TruncatedFile(
                    f"{file_title(name)} ends before its picture does, or is damaged.",
                    hint="Copy it again from its source.",
                ) from error
            builder.warn(f"Page {number + 1} and what follows could not be decoded.")
            return
    if image.format == "TIFF" and _go_to(image, _MAX_FRAMES):
        builder.warn(f"Only the first {_MAX_FRAMES} pages were read.")


def _go_to(image: Image, number: int) -> bool:
    """Whether there is such a page, from 0."""
    try:
        image.seek(number)
    except EOFError:
        return False
    return True


def _decode(image: Image) -> _Frame:
    from PIL import ImageOps

    longest = max(image.size)
    image.draft("RGB", (_LONGEST_SIDE, _LONGEST_SIDE))  # JPEG alone can leave detail out while decoding
    image.load()
    frame = image.convert("L") if image.mode == "1" else image.copy()
    frame.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    return _Frame(flatten(ImageOps.exif_transpose(frame)), longest / max(frame.size))


def flatten(image: Image) -> Image:
    """The image as RGB on white: transparent text is black on nothing."""
    from PIL import Image as pillow

    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = pillow.new("RGB", layer.size, "white")
        ground.paste(layer, mask=layer.getchannel("A"))
        return ground
    if image.mode.startswith(("I", "F")):  # 16 and 32 bits a pixel: stretch what is used of them
        low, high = image.getextrema()
        scale = 255.0 / (high - low) if high > low else 1.0
        return image.convert("F").point(lambda value: value * scale - low * scale).convert("L").convert("RGB")
    return image.convert("RGB")


def add_picture(builder: DocumentBuilder, image: Image, *, page: int, scale: float) -> int:
    """Append the text of a picture; returns the number of lines.

    `scale` leads from the picture's pixels to the units of boxes.
    """
    blocks = picture_blocks(image, page=page, scale=scale)
    for block in blocks:
        builder.add_lines(block.kind, block.lines)
    return sum(len(block.lines) for block in blocks)


def picture_blocks(
    image: Image,
    *,
    page: int,
    scale: float,
    origin: tuple[float, float] = (0.0, 0.0),
    more_than: int = 0,
) -> list[PlacedBlock]:
    """The text of a picture, if it has more than `more_than` characters. Raises OcrUnavailable.

    `scale` leads from the picture's pixels to the units of boxes, in which it stands at `origin`.
    """
    from indexer.parsers.ocr import read_picture

    result = read_picture(image)
    if sum(len(segment.text) for segment in result.segments) <= more_than:
        return []

    def placed(box: Box) -> Box:
        _, x0, y0, x1, y1 = result.place(box)
        left, top = origin
        edges = (x0 * scale + left, y0 * scale + top, x1 * scale + left, y1 * scale + top)
        return Box(page, *(round(edge, 1) for edge in edges))

    blocks = gather_blocks(reading_order(result.segments))
    return [
        PlacedBlock(block.kind, tuple((text, placed(box)) for text, box in block.lines(page)))
        for block in blocks
    ]


def _metadata(image: Image) -> dict[str, str]:
    """Size and EXIF facts that are worth finding."""
    metadata = {"width": str(image.size[0]), "height": str(image.size[1])}
    try:
        exif = image.getexif()
    except _DAMAGE:
        return metadata  # a damaged EXIF part does not make the picture unreadable
    camera = f"{exif.get(_EXIF_MAKER, '')} {exif.get(_EXIF_MODEL, '')}"
    facts = {"description": exif.get(_EXIF_DESCRIPTION), "created": exif.get(_EXIF_DATE), "camera": camera}
    return metadata | {key: str(value).replace("\x00", "").strip() for key, value in facts.items() if value}
