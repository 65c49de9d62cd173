"""Pictures within documents, read by OCR: what an office document shows, and what is attached to a mail."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from indexer.parsers.allowance import Allowance
from indexer.parsers.building import DocumentBuilder
from indexer.parsers.detect import detect_format
from indexer.parsers.errors import NoExtractableText, ParseError
from indexer.parsers.formats import IMAGE_FORMATS
from indexer.types import BlockKind, ParsedDocument

_LEAST_SIDE = 100  # pixels of a picture: nothing legible has fewer
_FEW_LETTERS = 16  # a picture with fewer characters is no more than a logo


class PictureText(NamedTuple):
    """A stretch of what stands in a picture."""

    kind: BlockKind
    text: str


class PictureSieve:
    """Tells which of one file's pictures are worth reading: large enough, and not looked at before."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()  # a logo is on every page, and attached to every mail

    def passes(self, data: bytes) -> bool:
        """Whether a picture is to be read. Damaged ones are: damage is to be told."""
        from indexer.parsers.image import announced_size

        digest = hashlib.sha256(data).digest()
        if digest in self._seen:
            return False
        self._seen.add(digest)
        size = announced_size(data)
        return size is None or min(size) >= _LEAST_SIDE


def picture_text(picture: ParsedDocument) -> list[PictureText]:
    """What stands in a picture that was parsed; nothing if that is next to nothing.

    The caption that its name makes is left out: within a document it says nothing.
    """
    blocks = [block for block in picture.blocks if block.kind != "image"]
    found = [PictureText(block.kind, picture.text[block.start : block.end]) for block in blocks]
    return found if sum(len(text) for _, text in found) > _FEW_LETTERS else []


class DocumentPictures:
    """Reads the pictures that one document shows, each once, within what they may take together.

    One that cannot be read costs a warning, not the document.
    """

    def __init__(self, builder: DocumentBuilder, before_ocr_page: Callable[[], None] | None) -> None:
        self._builder = builder
        self._allowance = Allowance(builder.options, before_ocr_page)
        self._sieve = PictureSieve()
        self._members: set[str] = set()  # that were unpacked: a document may show one picture ever so often

    def read(self, load: Callable[[str], bytes], member: str) -> list[PictureText]:
        """The text in the picture that `load` gives for a member of the document's file; mostly nothing."""
        if not self._builder.options.ocr or member.lower() in self._members:
            return []
        self._members.add(member.lower())
        try:
            data = load(member)
            if not data or detect_format(data, member) not in IMAGE_FORMATS or not self._sieve.passes(data):
                return []
            limit = self._limit
            if limit:
                self._builder.warn(f"Some of its pictures were not read: {limit}.")
                return []
            picture = self._parse(data, member)
            found = picture_text(picture)
            for warning in picture.warnings if found else ():
                self._builder.warn(f"A picture in it: {warning}")
            return found
        except NoExtractableText:
            return []  # most pictures have no text
        except ParseError as error:
            self._builder.warn(f"A picture in it was not read: {error.message}")
            return []

    def add(self, load: Callable[[str], bytes], member: str, *, page: int | None = None) -> None:
        """Append the text in a picture to the document."""
        for kind, text in self.read(load, member):
            self._builder.add(kind, text, page=page)

    @property
    def _limit(self) -> str:
        """Which limit was reached, if one was."""
        if self._allowance.num_ocr_pages_left < 1:
            return f"the limit of {self._builder.options.max_ocr_pages:,} that are read by OCR was reached"
        return "it took too long" if self._allowance.is_over else ""

    def _parse(self, data: bytes, member: str) -> ParsedDocument:
        from indexer.parsers.registry import parse

        options = self._allowance.options(max_nesting=0)
        return parse(data, name=member, options=options, before_ocr_page=self._allowance.before_ocr_page)
