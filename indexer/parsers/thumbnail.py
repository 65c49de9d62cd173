"""A picture made small, for a model that looks at it: no decoder is needed any more to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexer.types import Thumbnail

if TYPE_CHECKING:
    from PIL.Image import Image

# Image towers read squares of 224 to 384 pixels, cut out of the middle once the shorter side fits them.
_SHORTER_SIDE = 384
_LONGER_SIDE = 1152


def make_thumbnail(image: Image) -> Thumbnail:
    """An upright RGB picture at the size that models look at; never larger than it was."""
    shorter, longer = min(image.size), max(image.size)
    scale = min(1.0, _SHORTER_SIDE / shorter, _LONGER_SIDE / longer)
    if scale < 1:
        from PIL.Image import Resampling

        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Resampling.BICUBIC, reducing_gap=3.0)
    return Thumbnail(*image.size, image.tobytes())
