"""Plain text and logs: paragraphs between blank lines."""

from __future__ import annotations

import re

from indexer.parsers.building import source_document
from indexer.parsers.options import ParseOptions
from indexer.parsers.source import SourceLines, read_source
from indexer.types import Block, BlockKind, ParsedDocument

_ITEM = re.compile(r"\s*(?:[-*+•‣◦–]|\(?\d{1,3}[.)]|\(?[a-z][.)])\s+\S")


def parse_text(data: bytes, *, name: str, options: ParseOptions, format: str) -> ParsedDocument:
    """Read text without markup."""
    text, warnings = read_source(data, name=name, options=options)
    blocks = paragraph_blocks(SourceLines(text))
    return source_document(text, blocks, name=name, format=format, parser="text", warnings=warnings)


def paragraph_blocks(source: SourceLines) -> list[Block]:
    """The stretches between blank lines; those whose lines mostly begin as items are lists."""
    blocks: list[Block] = []
    first = 0
    for number in range(len(source) + 1):
        if number < len(source) and not source.is_blank(number):
            continue
        block = source.block(_kind(source.lines[first:number]), first, number)
        if block is not None:
            blocks.append(block)
        first = number + 1
    return blocks


def _kind(lines: list[str]) -> BlockKind:
    num_items = sum(_ITEM.match(line) is not None for line in lines)
    return "list" if num_items >= 2 and num_items * 2 >= len(lines) else "text"
