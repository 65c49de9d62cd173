"""Which frames of an animation show something else than those before: most repeat, or fade over."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

_SIDE = 480  # pixels to which pictures are shrunk to be compared
_STEP = 48  # of 255, by which a pixel differs
_SHARE = 0.0005  # of the pixels that differ: a digit of a caption does
_MOST = 100  # pictures; a film has more, and is not worth comparing


class DifferentPictures:
    """Keeps the numbers of the pictures of one size that look like none before them."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._kept: list[np.ndarray] = []  # (height, width) int16

    def add(self, number: int, picture: Image) -> None:
        """Take the next picture, in shades of grey."""
        import numpy as np

        if len(self._kept) == _MOST:
            return
        small = picture.copy()
        small.thumbnail((_SIDE, _SIDE))
        pixels = np.asarray(small, dtype=np.int16)
        if not any(_are_alike(pixels, other) for other in reversed(self._kept)):
            self._kept.append(pixels)
            self.numbers.append(number)


def _are_alike(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool((abs(one - other) > _STEP).mean() <= _SHARE)
