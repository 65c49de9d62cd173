"""A picture made small, for a model that looks at it: no decoder is needed any more to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexer.types import Thumbnail

if TYPE_CHECKING:
    from PIL.Image import Image

# Image towers read squares of 224 to 384 pixels, cut out of the middle once the shorter side fits them. So
# nothing is lost with the ends of a strip; and one of a single pixel's width would be blown up to gigabytes.
_SHORTER_SIDE = 384
_MOST_LENGTHS = 3  # of the shorter side that the longer one may have


def make_thumbnail(image: Image) -> Thumbnail:
    """An upright RGB picture at the size that models look at, or its middle; never larger than it was."""
    shorter = min(image.size)
    width, height = (min(side, _MOST_LENGTHS * shorter) for side in image.size)
    if (width, height) != image.size:
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    if shorter > _SHORTER_SIDE:
        from PIL.Image import Resampling

        scale = _SHORTER_SIDE / shorter
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = image.resize(size, Resampling.BICUBIC, reducing_gap=3.0)
    return Thumbnail(*image.size, image.tobytes())
