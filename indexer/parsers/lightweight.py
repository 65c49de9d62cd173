"""The other plain-text markups: reStructuredText, AsciiDoc and Org. Code and tables are kept whole."""

from __future__ import annotations

import re
from collections.abc import Callable

from indexer.parsers.building import source_document
from indexer.parsers.options import ParseOptions
from indexer.parsers.source import SourceLines, drop_data_uris, read_source
from indexer.types import Block, BlockKind, ParsedDocument

_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1{1,}\s*$")
_ITEM = re.compile(r"\s*(?:[-*+•]{1,5}|\(?(?:\d{1,3}|[a-zA-Z]|#)[.)]|\.{1,5})\s+\S")
_RST_ITEM_MARK = re.compile(r"\s*(?:[-*+•]|\(?(?:\d{1,3}|[a-zA-Z]|#)[.)])\s+(?=\.\.\s)")
_RST_DIRECTIVE = re.compile(r"\.\.\s+([\w:-]+)::\s*(.*)$")
_RST_CODE = frozenset(
    {"code", "code-block", "sourcecode", "parsed-literal", "literalinclude", "prompt", "math"}
)
_RST_TABLE_DIRECTIVES = frozenset({"list-table", "csv-table"})
_RST_GRID = re.compile(r"\s*\+(?:[-=]+\+)+\s*$")
_RST_SIMPLE = re.compile(r"\s*={2,}(?:\s+={2,})+\s*$")
_ASCIIDOC_HEADING = re.compile(r"(={1,6}|#{1,6})\s+(?=\S)")
_ASCIIDOC_DELIMITERS = {"----": "code", "....": "code", "|===": "table", "```": "code", ",===": "table"}
_ORG_HEADING = re.compile(r"(\*{1,8})\s+(?:(?:TODO|DONE)\s+)?(?=\S)")
_ORG_TAGS = re.compile(r" :[\w@:]+:$")
_ORG_BEGIN = re.compile(r"\s*#\+begin_(\w+)", re.IGNORECASE)
_ORG_TITLE = re.compile(r"#\+title:\s*(.*)$", re.IGNORECASE | re.MULTILINE)


def parse_lightweight(data: bytes, *, name: str, options: ParseOptions, format: str) -> ParsedDocument:
    """Read one of the formats `rst`, `asciidoc`, `org`; the document's text is the file's."""
    text, warnings = read_source(data, name=name, options=options)
    source = SourceLines(drop_data_uris(text))
    scan = {"rst": _RstScanner, "asciidoc": _AsciiDocScanner, "org": _OrgScanner}[format]
    title = _ORG_TITLE.search(text) if format == "org" else None
    return source_document(
        source.text,
        scan(source).scan(),
        name=name,
        format=format,
        parser=format,
        title=title.group(1) if title else "",
        warnings=warnings,
    )


class _LineScanner:
    """One pass over lines: a markup's `rules` are tried in turn, then a paragraph is read.

    A rule takes a line number and returns the number of the line after what it read, or None.
    """

    def __init__(self, source: SourceLines) -> None:
        self.source = source
        self.lines = source.lines
        self.blocks: list[Block] = []

    def rules(self) -> tuple[Callable[[int], int | None], ...]:
        raise NotImplementedError

    def scan(self) -> list[Block]:
        number = 0
        while number < len(self.lines):
            number = number + 1 if self.source.is_blank(number) else self._apply_rules(number)
        return self.blocks

    def _apply_rules(self, number: int) -> int:
        for rule in self.rules():
            stop = rule(number)
            if stop is not None:
                return stop
        return self._paragraph(number)

    def _add(self, kind: BlockKind, first: int, stop: int, name: str = "") -> int:
        block = self.source.block(kind, first, stop, name=name)
        if block is not None:
            self.blocks.append(block)
        return stop

    def _heading(self, number: int, level: int, start: int, end: int) -> None:
        self.blocks.append(self.source.part("heading", number, start, end, level=level))

    def _paragraph(self, number: int) -> int:
        """Lines up to a blank one or to where another rule begins."""
        kind: BlockKind = "list" if _ITEM.match(self.lines[number]) else "text"
        end = number + 1
        while end < len(self.lines) and not self.source.is_blank(end) and not self._interrupts(end):
            end += 1
        return self._add(kind, number, end)

    def _interrupts(self, number: int) -> bool:
        return False

    def _indented_body(self, number: int, indentation: int) -> int:
        """The line after the lines that are blank or indented more than `indentation`."""
        end = number
        while end < len(self.lines) and (self.source.is_blank(end) or self._indentation(end) > indentation):
            end += 1
        return end

    def _indentation(self, number: int) -> int:
        line = self.lines[number].expandtabs(8)
        return len(line) - len(line.lstrip())

    def _delimited(self, number: int, closes: Callable[[str], bool]) -> int:
        """The line after the closing delimiter; the end of the file when there is none."""
        for end in range(number + 1, len(self.lines)):
            if closes(self.lines[end].strip()):
                return end + 1
        return len(self.lines)


class _RstScanner(_LineScanner):
    """reStructuredText; heading levels are counted in the order in which their adornments appear."""

    def __init__(self, source: SourceLines) -> None:
        super().__init__(source)
        self._styles: list[str] = []

    def rules(self) -> tuple[Callable[[int], int | None], ...]:
        return (self._section, self._directive, self._grid_table, self._simple_table, self._literal_paragraph)

    def _section(self, number: int) -> int | None:
        overline = _ADORNMENT.match(self.lines[number])
        title_at = number + 1 if overline else number
        if overline and (title_at == len(self.lines) or self.source.is_blank(title_at)):
            return title_at  # a line across the page
        if title_at + 1 >= len(self.lines):
            return None
        underline = _ADORNMENT.match(self.lines[title_at + 1])
        title = self.lines[title_at].rstrip()
        if (
            underline is None
            or _ADORNMENT.match(title)
            or len(underline.group().rstrip()) < min(len(title.strip()), 4)
        ):
            return None
        if (overline and overline.group(1) != underline.group(1)) or (
            not overline and title != title.lstrip()
        ):
            return None
        style = underline.group(1) * (2 if overline else 1)
        if style not in self._styles:
            self._styles.append(style)
        level = self._styles.index(style) + 1
        self._heading(title_at, level, len(title) - len(title.lstrip()), len(title))
        return title_at + 2

    def _directive(self, number: int) -> int | None:
        line = self.lines[number]
        item = _RST_ITEM_MARK.match(line)  # which may begin with a directive
        match = _RST_DIRECTIVE.match((line[item.end() :] if item else line).strip())
        if match is None:
            return None
        indentation = len(item.group().expandtabs(8)) if item else self._indentation(number)
        stop = self._indented_body(number + 1, indentation)
        if match.group(1) in _RST_CODE:
            return self._add("code", number, stop)
        if match.group(1) in _RST_TABLE_DIRECTIVES:
            return self._add("table", number, stop, name=match.group(2))
        return self._add("text", number, number + 1)  # its body is read as prose

    def _grid_table(self, number: int) -> int | None:
        if not _RST_GRID.match(self.lines[number]):
            return None
        end = number
        while end < len(self.lines) and self.lines[end].lstrip().startswith(("+", "|")):
            end += 1
        return self._add("table", number, end)

    def _simple_table(self, number: int) -> int | None:
        if not _RST_SIMPLE.match(self.lines[number]):
            return None
        num_borders = 0
        for end in range(number, len(self.lines)):
            if _RST_SIMPLE.match(self.lines[end]):
                num_borders += 1
                if num_borders > 1 and (end + 1 == len(self.lines) or self.source.is_blank(end + 1)):
                    return self._add("table", number, end + 1)
        return None

    def _literal_paragraph(self, number: int) -> int | None:
        """A paragraph that ends with `::` introduces indented code."""
        end = number
        while end < len(self.lines) and not self.source.is_blank(end):
            end += 1
        if not self.lines[end - 1].rstrip().endswith("::") or self.lines[number].lstrip().startswith(".."):
            return None
        stop = self._indented_body(end, self._indentation(number))
        self._add("text", number, end)
        return self._add("code", end, stop)


class _AsciiDocScanner(_LineScanner):
    """AsciiDoc: `=` headings and delimited blocks."""

    def rules(self) -> tuple[Callable[[int], int | None], ...]:
        return (self._section, self._delimited_block)

    def _section(self, number: int) -> int | None:
        match = _ASCIIDOC_HEADING.match(self.lines[number])
        if match is None:
            return None
        self._heading(number, len(match.group(1)), match.end(), len(self.lines[number].rstrip()))
        return number + 1

    def _delimited_block(self, number: int) -> int | None:
        mark = self.lines[number].strip()
        kind = _ASCIIDOC_DELIMITERS.get(mark[:4] if mark[:4] in _ASCIIDOC_DELIMITERS else mark[:3])
        if kind is None or (mark[0] in "-." and len(set(mark)) > 1):
            return None
        stop = self._delimited(number, lambda line: line == mark)
        return self._add("code" if kind == "code" else "table", number, stop)

    def _interrupts(self, number: int) -> bool:
        line = self.lines[number].strip()
        return line[:4] in _ASCIIDOC_DELIMITERS and (line[0] not in "-." or len(set(line)) == 1)


class _OrgScanner(_LineScanner):
    """Org: `*` headings, #+begin_ blocks, tables of bars."""

    def rules(self) -> tuple[Callable[[int], int | None], ...]:
        return (self._section, self._begin_block, self._table)

    def _section(self, number: int) -> int | None:
        match = _ORG_HEADING.match(self.lines[number])
        if match is None:
            return None
        title = self.lines[number].rstrip()
        tags = _ORG_TAGS.search(title)
        end = len(title[: tags.start()].rstrip()) if tags and tags.start() > match.end() else len(title)
        self._heading(number, len(match.group(1)), match.end(), end)
        return number + 1

    def _begin_block(self, number: int) -> int | None:
        match = _ORG_BEGIN.match(self.lines[number])
        if match is None:
            return None
        closing = f"#+end_{match.group(1)}".lower()
        stop = self._delimited(number, lambda line: line.lower().startswith(closing))
        return self._add("code" if match.group(1).lower() in ("src", "example") else "text", number, stop)

    def _table(self, number: int) -> int | None:
        end = number
        while end < len(self.lines) and self.lines[end].lstrip().startswith("|"):
            end += 1
        return self._add("table", number, end) if end > number else None

    def _interrupts(self, number: int) -> bool:
        line = self.lines[number]
        return bool(_ORG_HEADING.match(line) or _ORG_BEGIN.match(line) or line.lstrip().startswith("|"))
