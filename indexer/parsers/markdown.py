"""Markdown: headings, lists, fenced and indented code, tables, quotations; code and tables are kept whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from indexer.parsers.building import source_document
from indexer.parsers.options import ParseOptions
from indexer.parsers.source import SourceLines, drop_data_uris, read_source
from indexer.types import Block, ParsedDocument

# Every pattern takes time linear in the line: what repeats is never followed by what it could match as well.
_ATX = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)")
_SETEXT = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_FENCE = re.compile(r"[ \t]*(?:>[ \t]?)*(`{3,}|~{3,})([^`]*)$")
_FENCE_IN_ITEM = re.compile(r"[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]+(`{3,}|~{3,})([^`]*)$")
_ITEM = re.compile(r"([ \t]*)(?:[-*+]|\d{1,9}[.)])(?:[ \t]+\S|[ \t]*$)")
_RULE = re.compile(r" {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$")
_TABLE_RULE = re.compile(r"\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?$")  # of a stripped line
_INDENTED = re.compile(r"(?: {4}|\t)[ \t]*\S")
_FRONT_TITLE = re.compile(r"""^title\s*[:=]\s*["']?(.*?)["']?\s*$""", re.MULTILINE)


def parse_markdown(data: bytes, *, name: str, options: ParseOptions, format: str) -> ParsedDocument:
    """Read Markdown; the document's text is the file's, and heading blocks leave the heading's marks out."""
    text, warnings = read_source(data, name=name, options=options)
    text = drop_data_uris(text)
    scanner = _Scanner(SourceLines(text))
    blocks = scanner.scan()
    return source_document(
        text, blocks, name=name, format=format, parser="markdown", title=scanner.title, warnings=warnings
    )


def markdown_blocks(text: str) -> list[Block]:
    """The blocks of a Markdown text that is part of another document."""
    return _Scanner(SourceLines(text)).scan()


class _Scanner:
    """One pass over the lines; what reads a block at a line number returns the number of the next line."""

    def __init__(self, source: SourceLines) -> None:
        self.source = source
        self.lines = source.lines
        self.blocks: list[Block] = []
        self.title = ""

    def scan(self) -> list[Block]:
        number = self._front_matter()
        while number < len(self.lines):
            number = self._next_block(number)
        return self.blocks

    def _next_block(self, number: int) -> int:
        line = self.lines[number]
        if not line.strip():
            return number + 1
        if _ATX.match(line):
            return self._atx_heading(number)
        if _FENCE.match(line):
            return self._fenced_code(number)
        if _RULE.match(line):
            return number + 1
        if self._is_table(number):
            return self._table(number)
        if _ITEM.match(line):
            return self._list(number)
        if _INDENTED.match(line):
            return self._indented_code(number)
        return self._paragraph(number)

    def _add(self, kind: str, first: int, stop: int, name: str = "") -> int:
        block = self.source.block(kind, first, stop, name=name)  # type: ignore[arg-type]
        if block is not None:
            self.blocks.append(block)
        return stop

    def _front_matter(self) -> int:
        """YAML or TOML between two marks at the top of the file."""
        mark = self.lines[0].rstrip()
        if mark not in ("---", "+++"):
            return 0
        for number in range(1, min(len(self.lines), 200)):
            if self.lines[number].rstrip() in (mark, "..." if mark == "---" else mark):
                title = _FRONT_TITLE.search("\n".join(self.lines[1:number]))
                self.title = title.group(1) if title else ""
                return self._add("text", 1, number) + 1
        return 0

    def _atx_heading(self, number: int) -> int:
        line = self.lines[number]
        mark = _ATX.match(line)
        assert mark is not None
        title = line[mark.end() :].rstrip()
        if title.endswith("#") and title.rstrip("#")[-1:] in ("", " ", "\t"):
            title = title.rstrip("#").rstrip()
        start = mark.end() + len(title) - len(title.lstrip())
        if title.strip():
            level = len(mark.group(1))
            self.blocks.append(
                self.source.part("heading", number, start, mark.end() + len(title), level=level)
            )
        return number + 1

    def _fenced_code(self, number: int, *, in_list: bool = False) -> int:
        """Code up to its closing fence; in a list, an unindented line closes it as well."""
        opening = _FENCE.match(self.lines[number]) or _FENCE_IN_ITEM.match(self.lines[number])
        assert opening is not None
        mark = opening.group(1)
        for end in range(number + 1, len(self.lines)):
            closing = _FENCE.match(self.lines[end])
            if closing and not closing.group(2).strip() and closing.group(1).startswith(mark):
                return self._add("code", number, end + 1)
            if in_list and self._is_unindented(end):
                return self._add("code", number, end)
        return self._add("code", number, len(self.lines))

    def _is_unindented(self, number: int) -> bool:
        return self.lines[number][:1].strip() != ""

    def _indented_code(self, number: int) -> int:
        end = number
        while end < len(self.lines) and (self.source.is_blank(end) or _INDENTED.match(self.lines[end])):
            end += 1
        return self._add("code", number, end)

    def _is_table(self, number: int) -> bool:
        return (
            "|" in self.lines[number]
            and number + 1 < len(self.lines)
            and "-" in self.lines[number + 1]
            and "|" in self.lines[number + 1]
            and _TABLE_RULE.match(self.lines[number + 1].strip()) is not None
        )

    def _table(self, number: int) -> int:
        end = number + 2
        while end < len(self.lines) and "|" in self.lines[end] and not self.source.is_blank(end):
            end += 1
        return self._add("table", number, end)

    def _list(self, number: int) -> int:
        """A list with what is nested in it, of which code and tables are blocks of their own.

        It ends where unindented text follows a blank line.
        """
        first = end = number
        while end < len(self.lines):
            line = self.lines[end]
            within = self._block_in_list(end)
            if within is not None:
                self._add("list", first, end)
                first = end = within(end)
                continue
            if end == number:
                end += 1
                continue
            if self.source.is_blank(end):
                follower = next((n for n in range(end, len(self.lines)) if not self.source.is_blank(n)), None)
                if follower is None or not (
                    self.lines[follower][0] in " \t" or _ITEM.match(self.lines[follower])
                ):
                    break
                end = follower
                continue
            if line[0] not in " \t" and (_ATX.match(line) or _RULE.match(line) or _FENCE.match(line)):
                break
            end += 1
        return self._add("list", first, end)

    def _block_in_list(self, number: int) -> Callable[[int], int] | None:
        """What reads the block of code or the table that begins at a line of a list."""
        line = self.lines[number]
        is_code = _FENCE.match(line) and not self._is_unindented(number)
        if is_code or _FENCE_IN_ITEM.match(line):
            return partial(self._fenced_code, in_list=True)
        is_table = self._is_table(number) and not self._is_unindented(number)
        return self._table if is_table else None

    def _paragraph(self, number: int) -> int:
        end = number + 1
        while end < len(self.lines):
            line = self.lines[end]
            underline = _SETEXT.match(line)
            if underline is not None:
                if (
                    end > number + 1
                ):  # far more often a rule below a paragraph than a heading of several lines
                    return self._add("text", number, end) + 1
                title = self.lines[number]
                start = len(title) - len(title.lstrip())
                level = 1 if underline.group(1)[0] == "=" else 2
                self.blocks.append(
                    self.source.part("heading", number, start, len(title.rstrip()), level=level)
                )
                return end + 1
            if not line.strip() or _ATX.match(line) or _FENCE.match(line) or _RULE.match(line):
                break
            if self._is_table(end) or (_ITEM.match(line) and line.strip()[0] in "-*+1"):
                break
            end += 1
        return self._add("text", number, end)
