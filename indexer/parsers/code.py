"""Source code as blocks: functions, classes and methods with qualified names, and what lies between them.

The blocks cover the file. A class with methods becomes its head, its methods and the code between them, so
that no block contains another. Languages without a grammar fall back to stretches between blank lines.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from indexer.parsers.building import source_document
from indexer.parsers.grammars import GRAMMARS, Grammar, assigned_name, definition_name, load_parser
from indexer.parsers.imports import imported_names
from indexer.parsers.options import ParseOptions
from indexer.parsers.signatures import signature
from indexer.parsers.source import SourceLines, read_source
from indexer.types import Block, Import, ParsedDocument

if TYPE_CHECKING:
    from tree_sitter import Node

_LARGEST_PARSED = 8_000_000  # characters; what is larger is generated, and read by lines
_LONG_FUNCTION = 2000  # characters; a longer function is split at the functions within it
_DEEPEST = 40  # definitions within definitions
_CLOSING = re.compile(r"[\s})\];,]*(?:end\s*)?")
_STATEMENT_END = re.compile(r"(?:[ \t]*[;,])?")
_LONGEST_NAME = 200
_FUNCTIONS = re.compile(r"function|method|constructor|rule_set|create_|lexical|assignment|variable")


def parse_code(data: bytes, *, name: str, options: ParseOptions, format: str) -> ParsedDocument:
    """Read source code; the document's text is the file's."""
    text, warnings = read_source(data, name=name, options=options)
    grammar = GRAMMARS.get(format)
    imports: list[Import] = []
    if grammar is None or len(text) > _LARGEST_PARSED:
        blocks, parser = line_blocks(SourceLines(text)), "lines"
    else:
        outliner = _Outliner(text, grammar)
        blocks, imports, parser = outliner.blocks(), outliner.imports(format), "tree-sitter"
    return source_document(
        text, blocks, name=name, format=format, parser=parser, warnings=warnings, imports=imports
    )


def line_blocks(source: SourceLines) -> list[Block]:
    """Stretches that begin at an unindented line after a blank one."""
    blocks: list[Block | None] = []
    first = 0
    for number in range(1, len(source)):
        line = source.lines[number]
        if line[:1].strip() and source.is_blank(number - 1) and not _CLOSING.fullmatch(line):
            blocks.append(source.block("code", first, number))
            first = number
    blocks.append(source.block("code", first, len(source)))
    return [block for block in blocks if block is not None]


class _Definition(NamedTuple):
    """A definition in the tree: what it is called, and the characters that it covers with its comments."""

    name: str
    start: int
    end: int
    node: Node
    is_function: bool
    signature: str


class _Outliner:
    """Walks one syntax tree and lays its definitions out as blocks."""

    def __init__(self, text: str, grammar: Grammar) -> None:
        self._text = text
        self._grammar = grammar
        self._encoded = text.encode("utf-8")
        self._offsets = _CharacterOffsets(text, self._encoded)
        self._blocks: list[Block] = []
        self._root = load_parser(self._grammar).parse(self._encoded).root_node

    def blocks(self) -> list[Block]:
        self._lay_out(self._root, 0, len(self._text), name="", signature="", level=0)
        return self._blocks

    def imports(self, format: str) -> list[Import]:
        return [
            Import(bound.name, bound.source, self._offsets.at(bound.start))
            for bound in imported_names(self._root, format)
        ]

    def _lay_out(self, node: Node, start: int, end: int, *, name: str, signature: str, level: int) -> None:
        """Cover text[start:end] by the definitions below `node` and the code between them."""
        position = start
        for definition in self._definitions(node, _DEEPEST):
            if definition.start < position or definition.end > end:
                continue  # two definitions on one line: the second belongs to the first
            self._add(position, definition.start, name=name, signature=signature, level=max(0, level - 1))
            qualified = self._qualified(name, definition.name)
            if level < _DEEPEST and self._is_split(definition):
                self._lay_out(
                    definition.node,
                    definition.start,
                    definition.end,
                    name=qualified,
                    signature=definition.signature,
                    level=level + 1,
                )
            else:
                self._add(
                    definition.start,
                    definition.end,
                    name=qualified,
                    signature=definition.signature,
                    level=level,
                )
            position = definition.end
        self._add(position, end, name=name, signature=signature, level=max(0, level - 1))

    def _is_split(self, definition: _Definition) -> bool:
        if definition.is_function and definition.end - definition.start <= _LONG_FUNCTION:
            return False
        if (
            definition.node.type == "type_definition"
        ):  # C's typedef: its struct is not worth a block of its own
            return False
        return next(self._definitions(definition.node, _DEEPEST), None) is not None

    def _qualified(self, scope: str, name: str) -> str:
        joined = f"{scope}{self._grammar.separator}{name}" if scope and name else scope or name
        return " ".join(joined.split())[:_LONGEST_NAME]

    def _add(self, start: int, end: int, *, name: str, signature: str, level: int) -> None:
        """Append text[start:end] as a block; closing brackets on their own join what they close."""
        stripped = self._text[start:end].strip()
        if not stripped:
            return
        if self._blocks and _CLOSING.fullmatch(stripped):
            end = start + len(self._text[start:end].rstrip())
            self._blocks[-1] = replace(self._blocks[-1], end=end)
            return
        while self._text[start] == "\n" or self._rest_of_line_is_blank(start):
            start = self._text.index("\n", start) + 1
        end = start + len(self._text[start:end].rstrip())
        self._blocks.append(Block("code", start, end, level=level, name=name, signature=signature))

    def _rest_of_line_is_blank(self, start: int) -> bool:
        stop = self._text.find("\n", start)
        return stop >= 0 and not self._text[start:stop].strip()

    def _definitions(self, node: Node, depth: int) -> Iterator[_Definition]:
        """The outermost definitions below a node, in order."""
        attached: Node | None = None  # the first of the comments directly above
        previous: Node | None = None
        for child in node.children:
            if child.type in self._grammar.attached:
                follows = previous is not None and child.start_point.row <= previous.end_point.row + 1
                attached = attached if attached is not None and follows else child
                previous = child
                continue
            if previous is None or child.start_point.row > previous.end_point.row + 1:
                attached = None
            definition = self._definition(child, attached or child)
            if definition is not None:
                yield definition
            elif depth > 0 and self._is_looked_through(child):
                yield from self._definitions(child, depth - 1)
            attached = previous = None

    def _is_looked_through(self, node: Node) -> bool:
        if node.type in self._grammar.closures:
            return node.end_byte - node.start_byte > _LONG_FUNCTION
        return node.type in self._grammar.transparent or node.type in self._grammar.wrappers or node.is_error

    def _definition(self, node: Node, first: Node) -> _Definition | None:
        inner: Node | None = node
        while inner is not None:
            name = definition_name(inner) if inner.type in self._grammar.definitions else assigned_name(inner)
            if name is not None:
                start = self._line_start(self._offsets.at(first.start_byte))
                end = _STATEMENT_END.match(self._text, self._offsets.at(node.end_byte)).end()
                is_function = _FUNCTIONS.match(inner.type) is not None
                return _Definition(name, start, end, inner, is_function, signature(inner, first))
            if inner.type not in self._grammar.wrappers:
                return None
            candidates = (
                child for child in inner.named_children if child.type not in ("decorator", "comment")
            )
            inner = next((child for child in candidates if self._may_define(child)), None)
        return None

    def _may_define(self, node: Node) -> bool:
        return (
            node.type in self._grammar.definitions
            or node.type in self._grammar.wrappers
            or assigned_name(node) is not None
        )

    def _line_start(self, position: int) -> int:
        """The start of the line when only indentation precedes the position."""
        start = self._text.rfind("\n", 0, position) + 1
        return start if not self._text[start:position].strip() else position


class _CharacterOffsets:
    """Byte offsets of UTF-8 to character offsets, a line at a time."""

    def __init__(self, text: str, encoded: bytes) -> None:
        self._encoded = encoded
        self._is_ascii = len(text) == len(encoded)
        self._byte_starts, self._character_starts = [0], [0]
        if not self._is_ascii:
            for line in text.split("\n"):
                self._byte_starts.append(self._byte_starts[-1] + len(line.encode("utf-8")) + 1)
                self._character_starts.append(self._character_starts[-1] + len(line) + 1)

    def at(self, byte: int) -> int:
        """The character that begins at a byte offset."""
        if self._is_ascii:
            return byte
        line = bisect_right(self._byte_starts, byte) - 1
        prefix = self._encoded[self._byte_starts[line] : byte]
        return self._character_starts[line] + len(prefix.decode("utf-8", errors="ignore"))
