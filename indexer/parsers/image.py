"""Images by OCR: every page of a TIFF, the frames of an animation that differ, upright as the camera says."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from indexer.parsers.animation import DifferentPictures
from indexer.parsers.building import DocumentBuilder
from indexer.parsers.errors import DecompressionBomb, NoExtractableText, TruncatedFile
from indexer.parsers.exif import exif_facts
from indexer.parsers.failures import file_title, malformed
from indexer.parsers.formats import extension_of, name_in_document
from indexer.parsers.layout import PlacedBlock, gather_blocks, reading_order
from indexer.parsers.options import ParseOptions
from indexer.parsers.thumbnail import make_thumbnail
from indexer.types import Box, ParsedDocument, Thumbnail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from PIL.Image import Image

_MAX_FRAMES = 500
_MOST_FRAMES_READ = 12  # of an animation: what has more is a film
_LONGEST_SIDE = 6000  # pixels; JPEGs are decoded no larger than this
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


def parse_image(
    data: bytes,
    *,
    name: str,
    options: ParseOptions,
    format: str,
    before_ocr_page: Callable[[], None] | None = None,
) -> ParsedDocument:
    """Read the text in an image; the first block is a caption from the file's name and its EXIF part.

    A page of a TIFF or a frame of an animation is a page. Of a frame, the lines count that are new in it.
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
        facts = exif_facts(image)
        metadata = {"width": str(image.size[0]), "height": str(image.size[1])} | facts
        builder.add("image", caption(name, **facts), page=1)
        shown: set[str] = set()  # lines of earlier frames
        for frame in _frames(image, name, options, builder):
            if options.thumbnails and thumbnail is None:
                thumbnail = make_thumbnail(frame.image)
            if not options.ocr:
                break
            if before_ocr_page is not None:
                before_ocr_page()
            known = shown if frame.is_animated else set()
            num_lines += add_picture(
                builder,
                frame.image,
                page=frame.page,
                scale=frame.scale,
                known=known,
                before_second_look=before_ocr_page,
            )
    if num_lines == 0 and thumbnail is None:
        raise NoExtractableText(
            f"No text was found in {file_title(name)}.",
            hint="Use a sharper or larger scan, or describe the image in a text file beside it.",
        )
    if builder.is_empty:
        builder.add("image", f"Image of {metadata['width']} x {metadata['height']} pixels", page=1)
    document = builder.build(format=format, parser="rapidocr", metadata=metadata)
    return replace(document, thumbnail=thumbnail)


def caption(name: str, description: str = "", created: str = "", camera: str = "") -> str:
    """A line that says what the image is called, in words that a search can find, and what its EXIF says.

    The name counts only where a new name makes it be read again; else the caption would soon be wrong.
    """
    title, extension = file_title(name), extension_of(name)
    stem = title.rpartition(".")[0] if extension else title
    if name_in_document(name) == extension:
        stem = ""
    words = re.sub(r"[_\-.\s]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem)).strip()
    taken = " ".join(filter(None, [created, f"with {camera}" if camera else ""]))
    parts = [f"Image: {words}" if words else "", description, f"Taken {taken}" if taken else ""]
    *first, last = list(filter(None, parts)) or [""]
    return ". ".join([*(part.rstrip(".") for part in first), last])


def bounded_size(size: tuple[int, int], name: str, options: ParseOptions) -> None:
    """Raise DecompressionBomb when an image's header announces more pixels than allowed."""
    width, height = size
    if width * height > options.max_pixels:
        limit = f"{options.max_pixels:,}"
        raise DecompressionBomb(
            f"{file_title(name)} has {width:,} x {height:,} pixels, more than the limit of {limit}.",
            hint="Scale it down, or raise parsing.max_pixels.",
        )


def announced_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels as a picture's header has them; None where it cannot be read."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size
    except (Image.DecompressionBombError, UnidentifiedImageError, *_DAMAGE):
        return None


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

    page: int  # from 1
    image: Image
    scale: float
    is_animated: bool


def _frames(image: Image, name: str, options: ParseOptions, builder: DocumentBuilder) -> Iterator[_Frame]:
    """The pages of a TIFF, the frames of an animation that differ, else the picture.

    A damaged later page ends them with a warning.
    """
    is_animated = image.format != "TIFF" and getattr(image, "is_animated", False)
    most = _MAX_FRAMES if image.format == "TIFF" else 1
    numbers = _different_frames(image, name, options, builder) if is_animated else range(most)
    for number in numbers:
        try:
            if number:
                if not _go_to(image, number):
                    return
                bounded_size(image.size, name, options)
            decoded, scale = _decode(image)
            yield _Frame(number + 1, decoded, scale, is_animated)
        except _DAMAGE as error:
            if number == 0:
                raise _truncated(name) from error
            builder.warn(f"Page {number + 1} and what follows could not be decoded.")
            return
    if image.format == "TIFF" and _go_to(image, _MAX_FRAMES):
        builder.warn(f"Only the first {_MAX_FRAMES} pages were read.")


def _different_frames(
    image: Image, name: str, options: ParseOptions, builder: DocumentBuilder
) -> Sequence[int]:
    """Numbers of frames, from 0, of which no two look alike; spread over the whole where they are many.

    No more frames are looked at than an honest animation has pixels for.
    """
    different = DifferentPictures()
    num_pixels = max(1, image.size[0] * image.size[1])
    limit = max(1, min(_MAX_FRAMES, 2 * options.max_pixels // num_pixels))
    for number in range(limit):
        try:
            if number and not _go_to(image, number):
                break
            different.add(number, image.convert("L"))
        except _DAMAGE as error:
            if number == 0:
                raise _truncated(name) from error
            builder.warn(f"Frame {number + 1} and what follows could not be decoded.")
            break
    else:
        if _go_to(image, limit):
            builder.warn(f"Only the first {limit} frames were looked at.")
    found = different.numbers
    if len(found) > _MOST_FRAMES_READ:
        builder.warn(f"Of {len(found)} frames that differ, {_MOST_FRAMES_READ} were read.")
        step = (len(found) - 1) / (_MOST_FRAMES_READ - 1)
        found = [found[round(step * count)] for count in range(_MOST_FRAMES_READ)]
    _go_to(image, 0)
    return found


def _truncated(name: str) -> TruncatedFile:
    return TruncatedFile(
        f"{file_title(name)} ends before its picture does, or is damaged.",
        hint="Copy it again from its source.",
    )


def _go_to(image: Image, number: int) -> bool:
    """Whether there is such a page, from 0."""
    try:
        image.seek(number)
    except EOFError:
        return False
    return True


def _decode(image: Image) -> tuple[Image, float]:
    """The present page as it is shown, and the scale that leads from its pixels to the file's."""
    from PIL import ImageOps

    longest = max(image.size)
    image.draft("RGB", (_LONGEST_SIDE, _LONGEST_SIDE))  # JPEG alone can leave detail out while decoding
    image.load()
    frame = image.convert("L") if image.mode == "1" else image.copy()
    frame.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    return flatten(ImageOps.exif_transpose(frame)), longest / max(frame.size)


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


def add_picture(
    builder: DocumentBuilder, image: Image, *, page: int, scale: float, known: set[str], **reading: Any
) -> int:
    """Append the lines of a picture that are not `known`, which they are then; returns how many these are.

    `scale` leads from the picture's pixels to the units of boxes. The rest is for `picture_blocks`.
    """
    num_lines = 0
    before = frozenset(known)
    for block in picture_blocks(image, page=page, scale=scale, **reading):
        lines = [(text, box) for text, box in block.lines if text not in before]
        known.update(text for text, _ in lines)
        builder.add_lines(block.kind, lines)
        num_lines += len(lines)
    return num_lines


def picture_blocks(
    image: Image,
    *,
    page: int,
    scale: float,
    origin: tuple[float, float] = (0.0, 0.0),
    more_than: int = 0,
    before_second_look: Callable[[], None] | None = None,
) -> list[PlacedBlock]:
    """The text of a picture, if it has more than `more_than` characters. Raises OcrUnavailable.

    `scale` leads from the picture's pixels to the units of boxes, in which it stands at `origin`. What is in
    small print takes a second look, which takes as long again.
    """
    from indexer.parsers.ocr import read_closely, read_picture

    result = read_picture(image)
    if result.is_small_print:
        if before_second_look is not None:
            before_second_look()
        result = read_closely(image, result)
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
