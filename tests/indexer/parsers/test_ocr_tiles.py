"""Large pictures in tiles: every line is found once and read whole, only where it is too small otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from indexer.parsers import ocr
from indexer.parsers.image import picture_blocks
from indexer.parsers.layout import Segment
from indexer.parsers.ocr_tiles import TILE, needs_shrinking, read_tiles

WHITE = 255
PIERS = ("northern", "southern")


def sheet(width: int, height: int, *lines: tuple[int, int, int, int]) -> np.ndarray:
    """White pixels with a black bar in the place of each line."""
    pixels = np.full((height, width, 3), WHITE, np.uint8)
    for x0, y0, x1, y1 in lines:
        pixels[y0:y1, x0:x1] = 0
    return pixels


def detect(tile: np.ndarray) -> list[tuple[float, float, float, float]]:
    """The bounding boxes of the rows of black."""
    rows = (tile[:, :, 0] == 0).any(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], rows, [False]]).astype(int)))
    boxes = []
    for y0, y1 in edges.reshape(-1, 2):
        columns = np.flatnonzero((tile[y0:y1, :, 0] == 0).any(axis=0))
        boxes.append((float(columns[0]), float(y0), float(columns[-1] + 1), float(y1)))
    return boxes


def recognise(parts: list[np.ndarray]) -> list[tuple[str, float]]:
    return [(f"{part.shape[1]}x{part.shape[0]}", 0.9) for part in parts]


def places(pixels: np.ndarray) -> list[tuple[float, ...]]:
    return [tuple(map(float, read.line[:4])) for read in read_tiles(pixels, detect, recognise)]


def test_a_line_that_runs_through_several_tiles_is_one_line() -> None:
    lines = [(100, 50, 4900, 80), (200, 1850, 2500, 1880), (3000, 3900, 4990, 3930)]
    assert places(sheet(5000, 4000, *lines)) == [tuple(map(float, line)) for line in lines]


@pytest.mark.parametrize("y", range(TILE - 170, TILE + 10, 30))
def test_a_line_where_tiles_meet_is_found_once(y: int) -> None:
    line = (300, y, 900, y + 30)
    assert places(sheet(1200, 3000, line)) == [tuple(map(float, line))]


def test_neighbouring_lines_stay_apart() -> None:
    lines = [(100, y, 3900, y + 20) for y in range(20, 1000, 40)]
    assert places(sheet(4000, 1000, *lines)) == [tuple(map(float, line)) for line in lines]


def test_a_picture_is_shrunk_until_its_tiles_are_few_enough() -> None:
    assert needs_shrinking(1000, 1000) == needs_shrinking(6000, 2000) == 1.0
    assert 1.0 < needs_shrinking(20_000, 20_000) < 5
    assert needs_shrinking(1, 500_000) > 10


def test_upright_lines_are_laid_down_to_be_read() -> None:
    (read,) = read_tiles(sheet(100, 400, (10, 20, 40, 320)), detect, recognise)
    assert read.text == "301x31"


def small_print() -> Image.Image:
    """A wide sheet whose text is legible at its own size, and not once it is shrunk."""
    image = Image.new("RGB", (3300, 180), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    for row, pier in enumerate(PIERS):
        draw.text((1700, 40 + 60 * row), f"The ferry boat leaves the {pier} pier", "black", font)
        draw.text((40, 40 + 60 * row), f"and comes back to the {pier} quay at nine", "black", font)
        draw.text((3200, 40 + 60 * row), "daily", "black", font)
    return image


def test_small_print_on_a_large_sheet_is_read_at_its_own_size() -> None:
    sheet = small_print()
    announced: list[str] = []
    blocks = picture_blocks(sheet, page=1, scale=1.0, before_second_look=lambda: announced.append("tiles"))
    assert announced == ["tiles"]
    lines = [(text.lower(), box) for block in blocks for text, box in block.lines]
    said = " ".join(text for text, _ in lines)
    for pier in PIERS:
        assert f"the ferry boat leaves the {pier} pier" in said
        assert f"and comes back to the {pier} quay at nine" in said
    box = next(box for text, box in lines if text.startswith("and comes back to the northern"))
    assert 25 < box.x0 < 55
    assert 30 < box.y0 < box.y1 < 75


def test_print_that_is_large_enough_is_not_read_twice() -> None:
    image = Image.new("RGB", (2700, 130), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(50)
    draw.text((40, 40), "Ferry at nine", "black", font)
    draw.text((2560, 40), "daily", "black", font)
    result = ocr.read_picture(image)
    assert result.segments[0].text.lower() == "ferry at nine"
    assert result.scale > 1.3
    assert not result.is_small_print


def test_the_first_reading_counts_where_the_second_is_no_better(monkeypatch: pytest.MonkeyPatch) -> None:
    first = ocr.OcrResult([Segment("Ferry at nine", 0, 0, 90, 9, 9.0)], 0.9, size=(90.0, 9.0), scale=2.0)
    assert first.is_small_print
    for confidence, text in ((0.5, "Ferry at nine"), (0.99, "Ferry")):
        second = ocr.OcrResult([Segment(text, 0, 0, 90, 9, 9.0)], confidence)
        monkeypatch.setattr(ocr, "_recognise_tiles", lambda *_, found=second: found)
        assert ocr.read_closely(Image.new("RGB", (90, 9)), first) == first
