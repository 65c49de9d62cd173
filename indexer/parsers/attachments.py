"""Files within files: what is attached to a mail or a PDF."""

from __future__ import annotations

from dataclasses import replace

from indexer.parsers.building import DocumentBuilder
from indexer.parsers.detect import detect_format
from indexer.parsers.errors import ParseError
from indexer.parsers.formats import IMAGE_FORMATS, UNSUPPORTED

MAX_ATTACHMENTS = 100  # of one file


def add_attachment(builder: DocumentBuilder, data: bytes, title: str, *, level: int) -> bool:
    """Append an attachment's name and the text in it, headings below `level`; whether there was any text.

    One that cannot be read costs a warning, not the document that it is attached to.
    """
    from indexer.parsers.registry import parse

    builder.add("text", f"Attachment: {title} ({len(data):,} bytes)", name="attachment")
    format = detect_format(data[:65536], title) if data else None
    options = builder.options
    if format is None or format in IMAGE_FORMATS:
        return False
    if format in UNSUPPORTED:
        builder.warn(f"Attachment {title}: it is in {format} format, which is not read.")
        return False
    if options.max_nesting < 1:
        builder.warn(f"Attachment {title}: it is nested too deep to be read.")
        return False
    try:
        nested = replace(options, max_nesting=options.max_nesting - 1)
        document = parse(data, name=title, options=nested)
    except ParseError as error:
        builder.warn(f"Attachment {title}: {error.message}")
        return False
    builder.add_document(document, name=title, level=level)
    return True
