"""Mail: headers, the plain body (else the HTML one), and attachments: their names and the text in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import Message

from indexer.parsers.attachments import AttachmentReader
from indexer.parsers.building import DocumentBuilder
from indexer.parsers.decoding import decode_text
from indexer.parsers.errors import EncryptedFile, UndecodableText
from indexer.parsers.failures import file_title
from indexer.parsers.markup import add_html
from indexer.parsers.normalise import normalise_text, one_line
from indexer.parsers.options import ParseOptions
from indexer.parsers.source import SourceLines
from indexer.parsers.text import paragraph_blocks
from indexer.types import ParsedDocument

_HEADERS = ("From", "To", "Cc", "Bcc", "Date", "Subject")
_ENCRYPTED = ("application/pkcs7-mime", "application/x-pkcs7-mime", "multipart/encrypted")
_SIGNATURES = ("application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature")
_MAX_DEPTH = 3  # messages within messages
_MAX_PARTS = 1000
# What the header parser raises on headers that only look like their kind.
_HEADER_FAULTS = (ValueError, TypeError, AttributeError, IndexError, LookupError, OverflowError)


def parse_email(
    data: bytes,
    *,
    name: str,
    options: ParseOptions,
    format: str,
    before_ocr_page: Callable[[], None] | None = None,
) -> ParsedDocument:
    """Read an .eml file. Raises EncryptedFile when the body is encrypted."""
    builder = DocumentBuilder(name=name, options=options)
    message = add_message(builder, data, AttachmentReader(options, before_ocr_page))
    facts = {header.lower(): _header(message, header) for header in _HEADERS}
    subject = facts.pop("subject")
    return builder.build(
        format="eml",
        parser="email",
        title=subject,
        metadata={"author": facts["from"], "created": facts["date"], "to": facts["to"]},
    )


def add_message(
    builder: DocumentBuilder, data: bytes, attachments: AttachmentReader, *, untitled: str = ""
) -> Message:
    """Append a message to a document that is being built; `untitled` is what one without subject is called.

    Raises EncryptedFile.
    """
    message = message_from_bytes(data.lstrip(), policy=policy.default)
    if untitled and not _header(message, "Subject"):
        builder.heading(untitled, level=1)
    _Mail(builder, attachments).add(message, depth=0)
    return message


class _Mail:
    """Appends a message, and the messages and documents within it."""

    def __init__(self, builder: DocumentBuilder, attachments: AttachmentReader) -> None:
        self._builder = builder
        self._attachments = attachments

    def add(self, message: Message, *, depth: int) -> None:
        subject = _header(message, "Subject")
        if subject:
            self._builder.heading(subject, level=depth + 1)
        headers = ((header, _header(message, header)) for header in _HEADERS)
        self._builder.add(
            "text", "\n".join(f"{header}: {value}" for header, value in headers if value), name="headers"
        )
        if message.get_content_type() in _ENCRYPTED and message.get_param("smime-type") != "signed-data":
            raise EncryptedFile(
                f"{file_title(self._builder.name)} is encrypted mail.",
                hint="Save it decrypted from your mail program.",
            )
        bodies, attachments, is_cut = _parts(message)
        if is_cut:
            self._builder.warn(f"Only the first {_MAX_PARTS:,} parts of a message were looked at.")
        self._add_bodies(bodies)
        for part in attachments:
            self._add_attachment(part, depth)

    def _add_bodies(self, bodies: list[Message]) -> None:
        """All plain bodies; the HTML ones where there is no plain one that says anything."""
        plain = [_text(part) for part in bodies if part.get_content_type() != "text/html"]
        if any(len(text.strip()) > 1 for text in plain):
            for text in plain:
                source = SourceLines(normalise_text(text))
                for block in paragraph_blocks(source):
                    self._builder.add(block.kind, source.text[block.start : block.end])
            return
        for part in bodies:
            if part.get_content_type() == "text/html":
                add_html(self._builder, _text(part), base_level=1)

    def _add_attachment(self, part: Message, depth: int) -> None:
        if part.get_content_type() == "message/rfc822":
            inner = part.get_payload()
            if depth == _MAX_DEPTH:
                self._builder.warn("A message within messages is nested too deep to be read.")
            elif isinstance(inner, list) and inner:
                self.add(inner[0], depth=depth + 1)
            return
        self._attachments.add(self._builder, _payload(part), _file_name(part), level=depth + 1)


def _parts(message: Message) -> tuple[list[Message], list[Message], bool]:
    """Bodies and attachments, in order, and whether there are more parts than are looked at."""
    bodies: list[Message] = []
    attachments: list[Message] = []
    for count, part in enumerate(_leaves(message)):
        if count == _MAX_PARTS:
            return bodies, attachments, True
        kind, disposition = part.get_content_type(), part.get_content_disposition()
        is_body = kind in ("text/plain", "text/html") or (kind.startswith("text/") and not _has_name(part))
        if is_body and disposition != "attachment" and not (_has_name(part) and bodies):
            bodies.append(part)
        elif kind == "message/rfc822" or (
            kind not in _SIGNATURES and (_has_name(part) or disposition == "attachment")
        ):
            attachments.append(part)
    return bodies, attachments, False


def _leaves(message: Message) -> Iterator[Message]:
    """Parts that are not multipart; a message within the message is one part."""
    stack = [message]
    while stack:
        part = stack.pop()
        if part.get_content_maintype() == "multipart" and isinstance(part.get_payload(), list):
            stack.extend(reversed(part.get_payload()))
        else:
            yield part


def _header(message: Message, name: str) -> str:
    try:
        value = message.get(name)
        return one_line(str(value)) if value is not None else ""
    except _HEADER_FAULTS:
        raw = next((value for key, value in message.raw_items() if key.lower() == name.lower()), "")
        return one_line(str(raw))


def _has_name(part: Message) -> bool:
    return _file_name(part) != "unnamed"


def _file_name(part: Message) -> str:
    try:
        return one_line(normalise_text(part.get_filename() or "")) or "unnamed"
    except _HEADER_FAULTS:
        return "unnamed"


def _payload(part: Message) -> bytes:
    try:
        payload = part.get_payload(decode=True)
    except _HEADER_FAULTS:
        return b""
    return payload if isinstance(payload, bytes) else b""


def _text(part: Message) -> str:
    """A part as text: by its declared character set if that works, else by what its bytes look like."""
    try:
        charset = part.get_content_charset()
    except _HEADER_FAULTS:
        charset = None
    try:
        return decode_text(_payload(part), name="mail body", declared=charset).text
    except UndecodableText:
        return _payload(part).decode("utf-8", errors="replace")
