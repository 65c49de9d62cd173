"""The sentences of errors that more than one format raises."""

from __future__ import annotations

from indexer.parsers.errors import (
    DocumentTooLarge,
    EmptyFile,
    MalformedFile,
    NestedTooDeep,
    NoExtractableText,
)
from indexer.parsers.formats import base_name
from indexer.parsers.normalise import normalise_text, one_line
from indexer.parsers.options import ParseOptions

_MIB = 1 << 20


def file_title(name: str) -> str:
    """The file's own name, fit to be shown."""
    return one_line(normalise_text(base_name(name.rstrip("/"))))


def no_text(name: str) -> EmptyFile:
    """A file that was read and holds nothing."""
    return EmptyFile(
        f"{file_title(name)} holds no text.",
        hint="Delete it, or leave it out with a line in .ragserveignore.",
    )


def nothing_readable(name: str) -> NoExtractableText:
    """A file that has content, none of it text."""
    return NoExtractableText(
        f"{file_title(name)} was read and there is no text in it.",
        hint="If its text is in pictures, see that OCR is on and that they are large enough to be read.",
    )


def too_large(name: str, num_bytes: int, options: ParseOptions) -> DocumentTooLarge:
    """A file over the size limit."""
    size, limit = num_bytes / _MIB, options.max_bytes / _MIB
    return DocumentTooLarge(
        f"{file_title(name)} has {size:,.0f} MiB, more than the limit of {limit:,.0f} MiB.",
        hint="Split it, raise parsing.max_bytes, or leave it out with a line in .ragserveignore.",
    )


def check_characters(length: int, name: str, options: ParseOptions) -> None:
    """Raise DocumentTooLarge when a document's text outgrows the limit."""
    if length > options.max_characters:
        raise DocumentTooLarge(
            f"{file_title(name)} holds more than {options.max_characters:,} characters of text.",
            hint="Split it, or raise parsing.max_characters.",
        )


def nested_too_deep(name: str) -> NestedTooDeep:
    """Structure that no honest document has."""
    return NestedTooDeep(
        f"{file_title(name)} is nested too deep to read.",
        hint="Flatten it.",
    )


def malformed(name: str, what: str, detail: str = "") -> MalformedFile:
    """A file that is not what its format demands."""
    suffix = f" ({detail})" if detail else ""
    return MalformedFile(
        f"{file_title(name)} cannot be read as {what}{suffix}.",
        hint="Open it in its own program and save it again.",
    )
