"""Why a file gave no document: one class a cause, each with a stable code and a remedy."""

from __future__ import annotations

from collections.abc import Iterator

from indexer.errors import IndexerError


class ParseError(IndexerError):
    """A file could not be turned into a document."""

    code = "parse-error"


class EmptyFile(ParseError):
    """The file has no bytes, or nothing but white space."""

    code = "empty-file"


class UnsupportedFormat(ParseError):
    """The format is known and deliberately not read."""

    code = "unsupported-format"


class MalformedFile(ParseError):
    """The file is not what its format demands."""

    code = "malformed-file"


class TruncatedFile(ParseError):
    """The file ends before its content does."""

    code = "truncated-file"


class EncryptedFile(ParseError):
    """The file needs a password that was not given."""

    code = "encrypted-file"


class EncryptedPdf(EncryptedFile):
    """The PDF needs a password that was not given."""

    code = "encrypted-pdf"


class UndecodableText(ParseError):
    """The bytes are text in no encoding that could be recognised."""

    code = "undecodable-text"


class NoExtractableText(ParseError):
    """The file was read and holds no text, not even after OCR."""

    code = "no-extractable-text"


class DocumentTooLarge(ParseError):
    """The file, or the text in it, is larger than the limits allow."""

    code = "document-too-large"


class DecompressionBomb(ParseError):
    """The file unpacks to far more than it could honestly hold."""

    code = "decompression-bomb"


class NestedTooDeep(ParseError):
    """The structure is nested deeper than any honest document."""

    code = "nested-too-deep"


class ForbiddenEntities(ParseError):
    """The XML declares entities that expand to other content."""

    code = "forbidden-entities"


class OcrUnavailable(ParseError):
    """The text is in pictures and the OCR models are not installed."""

    code = "ocr-unavailable"


class NotARegularFile(ParseError):
    """The path is a folder, device, pipe or socket."""

    code = "not-a-regular-file"


class UnreadableFile(ParseError):
    """The operating system would not hand out the file's bytes."""

    code = "unreadable-file"


class ParserCrashed(ParseError):
    """The process that parsed the file died."""

    code = "parser-crashed"


class ParserTimedOut(ParseError):
    """Parsing took longer than the time limit."""

    code = "parser-timed-out"


class ParserOutOfMemory(ParseError):
    """Parsing took more memory than the limit."""

    code = "parser-out-of-memory"


def error_from_code(code: str, message: str, hint: str) -> ParseError:
    """The typed error for a code that crossed a process boundary; a plain `ParseError` if it is unknown."""
    kind = next((kind for kind in _descendants(ParseError) if kind.code == code), ParseError)
    return kind(message, hint=hint)


def _descendants(kind: type[ParseError]) -> Iterator[type[ParseError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _descendants(child)
