"""Large pictures in tiles: every line is found once and read whole, only where it is too small otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from indexer.parsers import ocr
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


def test_small_print_on_a_large_sheet_is_read_at_its_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_closer: list[tuple[int, ...]] = []

    def watched(pixels: np.ndarray, *how: object) -> object:
        looked_closer.append(pixels.shape)
        return read_tiles(pixels, *how)

    monkeypatch.setattr(ocr, "read_tiles", watched)
    result = ocr.read_picture(small_print())
    assert len(looked_closer) == 1
    said = {segment.text.lower() for segment in result.segments}
    assert {f"the ferry boat leaves the {pier} pier" for pier in PIERS} <= said
    assert {f"and comes back to the {pier} quay at nine" for pier in PIERS} <= said
    first = min(result.segments, key=lambda segment: (segment.x0, segment.y0))
    place = result.place(ocr.Box(1, first.x0, first.y0, first.x1, first.y1))
    assert 25 < place.x0 < 55
    assert 30 < place.y0 < place.y1 < 75


def test_print_that_is_large_enough_is_not_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "read_tiles", lambda *_: pytest.fail("it was legible"))
    image = Image.new("RGB", (2700, 130), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(50)
    draw.text((40, 40), "Ferry at nine", "black", font)
    draw.text((2450, 40), "daily", "black", font)
    assert ocr.read_picture(image).segments[0].text.lower() == "ferry at nine"
