"""archive/inspection-1931.pdf: a typed report of two pages, scanned, with no text layer."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from reportlab.lib.pagesizes import A5
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from . import paper
from .common import font_path
from .markup import TEXT_FOLDER

PAGE_PIXELS = (1240, 1754)  # A5 at 210 dots an inch
PAPER_GREY = 236
MARGIN = 128


def _typed(text: str, *, top: int, seed: int) -> Image.Image:
    """An ink mask of typed text; each character is struck a little off its place."""
    ink = Image.new("L", PAGE_PIXELS, 0)
    draw = ImageDraw.Draw(ink)
    font = ImageFont.truetype(font_path("cmtt10"), 31)
    advance = font.getlength("m")
    offsets = np.random.default_rng(seed).normal(0, 0.7, (len(text), 2))
    x, y = float(MARGIN), float(top)
    for character, (dx, dy) in zip(text, offsets, strict=True):
        if character == "\n":
            x, y = float(MARGIN), y + 45
            continue
        draw.text((x + dx, y + dy), character, font=font, fill=235)
        x += advance
    return paper.worn_ink(ink, seed=seed, loss=0.38)


def _letterhead(draw: ImageDraw.ImageDraw) -> None:
    centre = PAGE_PIXELS[0] // 2
    title = ImageFont.truetype(font_path("STIXGeneralBol"), 58)
    line = ImageFont.truetype(font_path("STIXGeneralItalic"), 33)
    draw.text((centre, 120), "THE BOARD OF RIVER WORKS", font=title, fill=40, anchor="mm")
    draw.text((centre, 178), "Office of the Inspector of Ferries and Locks", font=line, fill=50, anchor="mm")
    draw.line((MARGIN, 214, PAGE_PIXELS[0] - MARGIN, 214), fill=60, width=3)
    draw.line((MARGIN, 221, PAGE_PIXELS[0] - MARGIN, 221), fill=60, width=1)


def _stamp() -> Image.Image:
    """The ink mask of the round stamp that the company's office put on the letter."""
    mask = Image.new("L", (260, 260), 0)
    draw = ImageDraw.Draw(mask)
    draw.ellipse((8, 8, 252, 252), outline=200, width=6)
    draw.ellipse((26, 26, 234, 234), outline=200, width=2)
    bold = ImageFont.truetype(font_path("DejaVuSans-Bold"), 29)
    for row, text in enumerate(("RECEIVED", "19 MAY", "1931")):
        draw.text((130, 86 + 44 * row), text, font=bold, fill=200, anchor="mm")
    return paper.worn_ink(mask.rotate(11, Image.Resampling.BICUBIC), seed=19, loss=0.6)


def _signature(draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    script = ImageFont.truetype(font_path("STIXGeneralItalic"), 64)
    draw.text((x, y), "E. Farrow", font=script, fill=45)
    draw.line((x - 8, y + 76, x + 120, y + 67, x + 262, y + 74), fill=70, width=2, joint="curve")


def _scan(page: Image.Image, *, degrees: float, seed: int) -> bytes:
    """The page as a scanner sees it, as JPEG."""
    page = paper.tilt(page, degrees, paper=PAPER_GREY)
    page = paper.specks(page, seed=seed, count=80, grey=120)
    page = paper.shade(paper.soften(page, 0.7), seed=seed, depth=0.16)
    page = paper.grain(page, seed=seed, sigma=4.0)
    file = io.BytesIO()
    page.save(file, "JPEG", quality=50, optimize=True, dpi=(210, 210))
    return file.getvalue()


def write(path: Path) -> None:
    """Write the scan; a form feed separates the pages of the text."""
    front, back = (TEXT_FOLDER / "inspection-1931.txt").read_text(encoding="utf-8").split("\f")
    first = Image.new("L", PAGE_PIXELS, PAPER_GREY)
    _letterhead(ImageDraw.Draw(first))
    first.paste(30, mask=_typed(front, top=290, seed=14))
    first.paste(90, (905, 1450), _stamp())
    second = Image.new("L", PAGE_PIXELS, PAPER_GREY)
    second.paste(30, mask=_typed(back, top=150, seed=15))
    _signature(ImageDraw.Draw(second), MARGIN + 50, 1168)

    canvas = Canvas(str(path), pagesize=A5, invariant=1)
    canvas.setTitle("Inspection of the chain ferry Heron, 1931")
    canvas.setAuthor("Edmund Farrow")
    canvas.setSubject("Scanned for the archive of the Senn Ferry Company")
    for page, degrees, seed in ((first, 0.7, 31), (second, -0.5, 32)):
        jpeg = ImageReader(io.BytesIO(_scan(page, degrees=degrees, seed=seed)))
        canvas.drawImage(jpeg, 0, 0, *A5)
        canvas.showPage()
    canvas.save()
