"""Single files that are compressed (.gz, .bz2, .xz): the document is that of the file within."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from indexer.parsers.archives import MAX_RATIO, truncated
from indexer.parsers.building import clean_metadata
from indexer.parsers.errors import DecompressionBomb
from indexer.parsers.failures import file_title, nested_too_deep, too_large
from indexer.parsers.formats import compression_of, without_compression
from indexer.parsers.options import ParseOptions
from indexer.parsers.unpacking import DAMAGE, TooMuch, unpacked
from indexer.types import ParsedDocument

_PIECE = 1 << 20  # bytes that are unpacked at a time


def parse_compressed(
    data: bytes,
    *,
    name: str,
    options: ParseOptions,
    format: str,
    before_ocr_page: Callable[[], None] | None = None,
) -> ParsedDocument:
    """Read a compressed file as what it unpacks to; of one that is cut short, what is left, with a warning.

    Raises DecompressionBomb, DocumentTooLarge, NestedTooDeep, TruncatedFile, and what the file within raises.
    """
    from indexer.parsers.registry import parse

    if options.max_nesting < 1:
        raise nested_too_deep(name)
    content, is_whole = _unpack(data, name, options)
    document = parse(
        content,
        name=without_compression(name),
        options=replace(options, max_nesting=options.max_nesting - 1),
        before_ocr_page=before_ocr_page,
    )
    warnings = () if is_whole else ("The file is cut short or damaged: what comes after that is missing.",)
    return replace(
        document,
        metadata=clean_metadata({**document.metadata, "compression": compression_of(data) or ""}),
        warnings=warnings + document.warnings,
    )


def _unpack(data: bytes, name: str, options: ParseOptions) -> tuple[bytes, bool]:
    """The bytes within, and whether they are all."""
    stream, pieces, num_bytes, is_whole = unpacked(data), [], 0, True
    limit = min(options.max_bytes, options.max_unpacked_bytes)
    while True:
        try:
            piece = stream.read(_PIECE)
        except TooMuch:
            raise DecompressionBomb(
                f"{file_title(name)} unpacks to more than {MAX_RATIO} times its size.",
                hint="If it is honest, unpack it.",
            ) from None
        except DAMAGE as error:
            if not pieces:
                raise truncated(name) from error
            is_whole = False
            break
        if not piece:
            break
        num_bytes += len(piece)
        if num_bytes > limit:
            raise too_large(name, num_bytes, replace(options, max_bytes=limit))
        pieces.append(piece)
    return b"".join(pieces), is_whole
