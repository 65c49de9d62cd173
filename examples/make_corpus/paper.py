"""What a scanner and a camera do to a clean page: grain, shade, tilt, blur."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter


def grain(image: Image.Image, *, seed: int, sigma: float) -> Image.Image:
    """Add the noise of a sensor: independent, normal, `sigma` grey levels."""
    pixels = np.asarray(image, dtype=np.float32)
    noise = np.random.default_rng(seed).normal(0, sigma, pixels.shape[:2])
    return _to_image(pixels + (noise[..., None] if pixels.ndim == 3 else noise))


def shade(image: Image.Image, *, seed: int, depth: float) -> Image.Image:
    """Darken by a slow random surface: `depth` is the largest share of the light that is lost."""
    field = np.random.default_rng(seed).random((4, 4)).astype(np.float32)
    surface = Image.fromarray((field * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC)
    light = 1 - depth * np.asarray(surface, dtype=np.float32) / 255
    pixels = np.asarray(image, dtype=np.float32)
    return _to_image(pixels * (light[..., None] if pixels.ndim == 3 else light))


def specks(image: Image.Image, *, seed: int, count: int, grey: int) -> Image.Image:
    """Add dust: dots of one to three pixels on a grey page."""
    rng = np.random.default_rng(seed)
    pixels = np.array(image)
    for x, y, size in zip(
        rng.integers(0, image.width - 3, count),
        rng.integers(0, image.height - 3, count),
        rng.integers(1, 4, count),
        strict=True,
    ):
        pixels[y : y + size, x : x + size] = grey
    return Image.fromarray(pixels)


def worn_ink(ink: Image.Image, *, seed: int, loss: float) -> Image.Image:
    """Thin out an ink mask (255 is ink) unevenly, as a worn typewriter ribbon does."""
    rng = np.random.default_rng(seed)
    patches = Image.fromarray(rng.integers(0, 256, (ink.height // 9, ink.width // 9), dtype=np.uint8))
    strength = np.asarray(patches.resize(ink.size, Image.Resampling.BILINEAR), dtype=np.float32) / 255
    return _to_image(np.asarray(ink, dtype=np.float32) * (1 - loss * strength))


def tilt(image: Image.Image, degrees: float, *, paper: int | tuple[int, int, int]) -> Image.Image:
    """Turn the page a little, as a hand lays it on the glass."""
    return image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=paper)


def soften(image: Image.Image, radius: float) -> Image.Image:
    """Blur as a lens does."""
    return image.filter(ImageFilter.GaussianBlur(radius))


def warp(image: Image.Image, corners: list[tuple[float, float]], *, size: tuple[int, int]) -> Image.Image:
    """Draw an RGBA image into a picture of `size`; `corners` are given clockwise from the top left."""
    source = [(0, 0), (image.width, 0), (image.width, image.height), (0, image.height)]
    rows, values = [], []
    for (x, y), (u, v) in zip(
        corners, source, strict=True
    ):  # Pillow wants the map from the picture to the source
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    coefficients = np.linalg.solve(np.array(rows, dtype=float), np.array(values, dtype=float))
    return image.transform(size, Image.Transform.PERSPECTIVE, coefficients.tolist(), Image.Resampling.BICUBIC)


def _to_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
