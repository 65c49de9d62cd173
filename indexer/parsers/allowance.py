"""What the files within one file may take together: time, pages of OCR, and how deep they are nested."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from indexer.parsers.options import ParseOptions

_SECONDS_PER_OCR_PAGE = 20.0  # that are added to the time; the process that reads gets more


class Allowance:
    """The bounds of one file, shared by all files within it."""

    def __init__(self, options: ParseOptions, before_ocr_page: Callable[[], None] | None) -> None:
        self._options = options
        self._announce = before_ocr_page
        self._deadline = time.monotonic() + options.soft_seconds
        self.num_ocr_pages_left = options.max_ocr_pages

    @property
    def is_over(self) -> bool:
        """Whether the time is used up."""
        return time.monotonic() > self._deadline

    def options(self, *, max_nesting: int) -> ParseOptions:
        """What the next file may take."""
        return replace(
            self._options,
            max_nesting=max(0, max_nesting),
            max_ocr_pages=self.num_ocr_pages_left,
            soft_seconds=max(0.0, self._deadline - time.monotonic()),
            thumbnails=False,  # only files of their own are embedded by what they show
        )

    def before_ocr_page(self) -> None:
        """To be called before each page of OCR, which takes seconds."""
        self.num_ocr_pages_left = max(0, self.num_ocr_pages_left - 1)
        self._deadline += _SECONDS_PER_OCR_PAGE
        if self._announce is not None:
            self._announce()
