"""Sets of whole numbers in few bytes: the steps from each to the next."""

from __future__ import annotations

from typing import Self

import numpy as np

_WIDTHS = (np.uint8, np.uint16, np.int64)


class PackedNumbers:
    """Different whole numbers of at least 0, without their order. Immutable.

    A step takes one byte or two, as suits most of them; a larger one is a run of the largest number that
    there is, which stands for no end, and what is left of it. A thousand numbers out of a hundred thousand
    take some 1,100 bytes in place of 8,000.
    """

    __slots__ = ("_count", "_steps")

    def __init__(self, numbers: np.ndarray) -> None:
        """`numbers`: (n,), in any order. Raises ValueError for one that is negative or comes twice."""
        rising = np.sort(numbers.astype(np.int64))
        steps = np.diff(rising, prepend=np.int64(-1))  # all positive: 0 is a step of 1
        if len(steps) and int(steps.min()) <= 0:
            raise ValueError("chunk numbers are negative or come twice")
        self._count = len(rising)
        self._steps = _packed(steps, min(_WIDTHS, key=lambda width: _num_bytes(steps, width)))

    @classmethod
    def from_bytes(cls, data: bytes, width: int) -> Self:
        """What `to_bytes` gave. Raises ValueError for what it cannot have given."""
        widths = {np.dtype(one).itemsize: np.dtype(one) for one in _WIDTHS}
        if width not in widths:
            raise ValueError(f"numbers {width} bytes wide are none of ours")
        steps = np.frombuffer(data, widths[width].newbyteorder("<"))
        if len(steps) and steps[-1] == np.iinfo(widths[width]).max:
            raise ValueError("the last number has no end")
        return cls(_unpacked(steps))

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Of the steps."""
        return self._steps.nbytes

    def unpacked(self) -> np.ndarray:
        """(n,) int64, rising."""
        return _unpacked(self._steps)

    def to_bytes(self) -> tuple[bytes, int]:
        """To be kept, and how many bytes wide the steps in it are."""
        return self._steps.astype(self._steps.dtype.newbyteorder("<")).tobytes(), self._steps.itemsize


def _unpacked(steps: np.ndarray) -> np.ndarray:
    return np.cumsum(steps, dtype=np.int64)[steps != np.iinfo(steps.dtype).max] - 1


def _num_bytes(steps: np.ndarray, width: type) -> int:
    return np.dtype(width).itemsize * (len(steps) + int((steps // np.iinfo(width).max).sum()))


def _packed(steps: np.ndarray, width: type) -> np.ndarray:
    unfinished = np.iinfo(width).max
    runs, rests = np.divmod(steps, unfinished)
    ends = np.cumsum(runs + 1) - 1
    packed = np.full(int(ends[-1]) + 1 if len(ends) else 0, unfinished, width)
    packed[ends] = rests
    return packed
