"""Mailboxes: the messages of an mbox file, each read as a mail is, one below the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

from indexer.parsers.attachments import AttachmentReader
from indexer.parsers.building import DocumentBuilder
from indexer.parsers.email import add_message
from indexer.parsers.errors import NoExtractableText, ParseError
from indexer.parsers.failures import file_title, no_text
from indexer.parsers.options import ParseOptions
from indexer.types import ParsedDocument

MAX_MESSAGES = 20_000
_MAX_ATTACHMENTS = 10_000  # of all messages
_MOST_WARNINGS = 50
# Message texts have "From " at the beginning of lines as well: only some programs write ">From " for it.
_SEPARATOR = re.compile(rb"(?:\A|(?<=\n\n)|(?<=\n\r\n))From [^\r\n]{0,300}\d\d:\d\d[^\r\n]{0,100}\r?\n")
_QUOTED = re.compile(rb"^>(?=>{0,20}From )", re.MULTILINE)


def parse_mbox(
    data: bytes,
    *,
    name: str,
    options: ParseOptions,
    format: str,
    before_ocr_page: Callable[[], None] | None = None,
) -> ParsedDocument:
    """Read an mbox file; a message that cannot be read costs a warning.

    Raises EmptyFile; NoExtractableText when no message could be read.
    """
    if not data.strip():
        raise no_text(name)
    builder = DocumentBuilder(name=name, options=options)
    attachments = AttachmentReader(options, before_ocr_page, max_attachments=_MAX_ATTACHMENTS)
    reading = _Reading(builder, attachments)
    for number, message in enumerate(_messages(data), start=1):
        reason = reading.add(message, number)
        if reason:
            builder.warn(f"Message {number} and what follows was not read: {reason}.")
            break
    if builder.is_empty and reading.problems:
        raise NoExtractableText(
            f"{file_title(name)} holds no message that could be read ({reading.problems[0].rstrip('.')}).",
            hint="Save the messages that matter as .eml.",
        )
    reading.warn_of_problems()
    return builder.build(format="mbox", parser="email", metadata={"messages": str(reading.num_read)})


class _Reading:
    """One pass over the messages. What they may take, they take together."""

    def __init__(self, builder: DocumentBuilder, attachments: AttachmentReader) -> None:
        self._builder = builder
        self._attachments = attachments
        self.problems: list[str] = []  # with single messages
        self.num_read = 0

    def add(self, message: bytes, number: int) -> str:
        """Append a message. Why it and those after it are not read; "" to go on."""
        if number > MAX_MESSAGES:
            return "there are too many"
        if self._attachments.is_over:
            return "it took too long"
        options = self._builder.options
        own = DocumentBuilder(name=self._builder.name, options=options)
        try:
            add_message(own, message, self._attachments, untitled=f"Message {number}")
            document = own.build(format="eml", parser="email")
        except ParseError as error:
            self.problems.append(f"Message {number}: {error.message}")
            return ""
        if self._builder.length + len(document.text) + 2 * len(document.blocks) > options.max_characters:
            return "it holds too much text"
        self.problems += [f"Message {number}: {warning}" for warning in document.warnings]
        self._builder.add_document(replace(document, warnings=()), name="", level=0)
        self.num_read += 1
        return ""

    def warn_of_problems(self) -> None:
        """By the message while they are few."""
        for problem in self.problems[:_MOST_WARNINGS]:
            self._builder.warn(problem)
        if len(self.problems) > _MOST_WARNINGS:
            self._builder.warn(f"{len(self.problems) - _MOST_WARNINGS:,} more problems with messages.")


def _messages(data: bytes) -> Iterator[bytes]:
    """The messages that are not blank, without the lines that part them; the last one beyond what is read."""
    separators = list(islice(_SEPARATOR.finditer(data), MAX_MESSAGES + 1))
    starts = [separator.end() for separator in separators] or [0]
    ends = [separator.start() for separator in separators[1:]] + [len(data)]
    for start, end in zip(starts, ends, strict=True):
        message = _QUOTED.sub(b"", data[start:end])
        if message.strip():
            yield message
