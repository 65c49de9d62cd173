"""The embedded generator: reads passages together with a question and answers in their own words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generator.reader.reader import READER_FOLDER, Reader, ReaderLimits

__all__ = ["READER_FOLDER", "Reader", "ReaderLimits"]


def __getattr__(name: str) -> Any:
    """Import torch only when a reader is really asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from generator.reader import reader

    return getattr(reader, name)
