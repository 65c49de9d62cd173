"""Archives as documents: a heading for each file in them, and below it what is in the file."""

from __future__ import annotations

from collections.abc import Callable

from indexer.parsers.allowance import Allowance
from indexer.parsers.building import DocumentBuilder
from indexer.parsers.detect import detect_format
from indexer.parsers.errors import NestedTooDeep, NoExtractableText, ParseError
from indexer.parsers.failures import file_title
from indexer.parsers.formats import ARCHIVE_FORMATS, IMAGE_FORMATS
from indexer.parsers.members import Member, Stopped, members
from indexer.parsers.options import ParseOptions
from indexer.types import ParsedDocument

_DEEPEST = 2  # archives in archives
_MOST_WARNINGS = 50  # about single files


def parse_archive(
    data: bytes,
    *,
    name: str,
    options: ParseOptions,
    format: str,
    before_ocr_page: Callable[[], None] | None = None,
) -> ParsedDocument:
    """Read a zip or tar archive. Files of no known kind are left out; one that fails costs a warning.

    Raises DecompressionBomb, TruncatedFile, MalformedFile; NoExtractableText when no file has text.
    """
    builder = DocumentBuilder(name=name, options=options)
    reading = _Reading(builder, before_ocr_page)
    for member in members(data, format, name=name, options=options):
        if isinstance(member, Stopped):
            reading.stop(member.reason)
        elif not reading.add(member):
            break
    reading.finish()
    if builder.is_empty:
        raise NoExtractableText(
            f"{file_title(name)} holds no file that could be read{reading.why}.",
            hint="Unpack it, or leave it out with a line in .ragserveignore.",
        )
    counts = {"files": str(reading.num_read), "other_files": str(reading.num_other)}
    return builder.build(format=format, parser="archive", metadata=counts)


class _Reading:
    """One pass over the files of an archive. What they may take, they take together."""

    def __init__(self, builder: DocumentBuilder, before_ocr_page: Callable[[], None] | None) -> None:
        self._builder = builder
        self._allowance = Allowance(builder.options, before_ocr_page)
        self._nesting = min(builder.options.max_nesting, _DEEPEST) - 1
        self._problems: list[str] = []  # with single files
        self._stopped = ""
        self.num_read = 0
        self.num_other = 0  # of no known kind

    @property
    def why(self) -> str:
        """What to say where nothing could be read: about the first file that failed, or the early end."""
        reasons = [*self._problems[:1], self._stopped]
        return next((f" ({reason.rstrip('.')})" for reason in reasons if reason), "")

    def stop(self, reason: str) -> bool:
        """Note why the rest of the archive is not read; returns False."""
        self._stopped = reason
        return False

    def add(self, member: Member) -> bool:
        """Append a file; False where the rest of the archive is not to be read any more."""
        if self._allowance.is_over:
            return self.stop(f"{member.path} and what follows was not read: it took too long.")
        if member.problem:
            self._note(member.path, member.problem)
            return True
        format = detect_format(member.data, member.path)
        if format is None:
            self.num_other += 1
            return True
        try:
            document = self._parse(member, format)
        except ParseError as error:
            self._note(member.path, error.message)
            return True
        longest = len(document.text) + 2 * len(document.blocks) + len(member.path) + 8  # separators too
        if self._builder.length + longest > self._builder.options.max_characters:
            return self.stop(f"{member.path} and what follows was not read: it holds too much text.")
        self.num_read += 1
        self._builder.heading(member.path, level=1)
        self._builder.add_document(document, name=member.path, level=1)
        return True

    def finish(self) -> None:
        """Warn of the files that were not read, by name while they are few."""
        for problem in self._problems[:_MOST_WARNINGS]:
            self._builder.warn(problem)
        if len(self._problems) > _MOST_WARNINGS:
            self._builder.warn(f"{len(self._problems) - _MOST_WARNINGS:,} more files were not read.")
        if self._stopped:
            self._builder.warn(self._stopped)

    def _parse(self, member: Member, format: str) -> ParsedDocument:
        from indexer.parsers.registry import parse

        if format in ARCHIVE_FORMATS and self._nesting < 1:
            raise NestedTooDeep("it is an archive, nested too deep to be read.")
        if format in IMAGE_FORMATS and not self._allowance.num_ocr_pages_left:
            raise NoExtractableText("the limit of pages that are read by OCR was reached.")
        options = self._allowance.options(max_nesting=self._nesting)
        before_ocr_page = self._allowance.before_ocr_page
        return parse(member.data, name=member.path, options=options, before_ocr_page=before_ocr_page)

    def _note(self, path: str, problem: str) -> None:
        self._problems.append(f"{path}: {problem}")
