"""JSON and its line-wise kin as outlines; YAML and TOML, which people write by hand, as their own text."""

from __future__ import annotations

import json
import re

from indexer.parsers.building import DocumentBuilder, source_document
from indexer.parsers.failures import nested_too_deep
from indexer.parsers.options import ParseOptions
from indexer.parsers.outline import Outline, add_outline
from indexer.parsers.source import SourceLines, read_source
from indexer.parsers.text import paragraph_blocks
from indexer.types import Block, ParsedDocument

_TOML_TABLE = re.compile(r"\[{1,2}\s*([^\[\]]+?)\s*\]{1,2}\s*(?:#.*)?$")
_YAML_KEY = re.compile(r"""["']?([\w./$][\w./ $-]{0,79})["']?\s*:(?:\s|$)""")
_INLINE_VALUES = 200  # characters; shorter lists of plain values stay on one line


def parse_data(data: bytes, *, name: str, options: ParseOptions, format: str) -> ParsedDocument:
    """Read JSON, newline-delimited JSON, YAML or TOML; invalid JSON is read as text, with a warning."""
    text, warnings = read_source(data, name=name, options=options)
    source = SourceLines(text)
    if format in ("yaml", "toml"):
        blocks = _section_blocks(source, _TOML_TABLE if format == "toml" else _YAML_KEY)
        return source_document(text, blocks, name=name, format=format, parser="text", warnings=warnings)
    builder = DocumentBuilder(name=name, options=options)
    for warning in warnings:
        builder.warn(warning)
    try:
        if format == "ndjson" or not _add_json(builder, text, options):
            _add_records(builder, source, options)
    except RecursionError as error:
        raise nested_too_deep(name) from error
    except ValueError as error:
        warnings.append(f"It is not valid JSON ({error}); it was read as plain text.")
        return source_document(
            text, paragraph_blocks(source), name=name, format=format, parser="text", warnings=warnings
        )
    return builder.build(format=format, parser="json")


def _add_json(builder: DocumentBuilder, text: str, options: ParseOptions) -> bool:
    """Whether the text is one JSON value; False when more lines follow the first value."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip()[:1] in "{[":
            return False
        raise
    add_outline(builder, outline_value("", value, options.max_depth, builder.name))
    return True


def _add_records(builder: DocumentBuilder, source: SourceLines, options: ParseOptions) -> None:
    """A block (or several) for each line's record."""
    for number, line in enumerate(source.lines, start=1):
        if line.strip():
            value = json.loads(line)
            add_outline(
                builder, outline_value("", value, options.max_depth, builder.name), path=f"line {number}"
            )


def outline_value(label: str, value: object, depth: int, name: str) -> Outline:
    """A JSON value as an outline. Raises NestedTooDeep."""
    if depth <= 0:
        raise nested_too_deep(name)
    if isinstance(value, dict):
        children = tuple(outline_value(str(key), item, depth - 1, name) for key, item in value.items())
        return Outline(label, "", children)
    if isinstance(value, list):
        if all(not isinstance(item, (dict, list)) for item in value):
            joined = ", ".join(map(_scalar, value))
            if len(joined) <= _INLINE_VALUES:
                return Outline(label, joined)
        numbered = any(isinstance(item, (dict, list)) for item in value)
        children = tuple(
            outline_value(str(number) if numbered else "", item, depth - 1, name)
            for number, item in enumerate(value, start=1)
        )
        return Outline(label, "", children)
    return Outline(label, _scalar(value))


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value)


def _section_blocks(source: SourceLines, opening: re.Pattern[str]) -> list[Block]:
    """A block for each stretch that an unindented `opening` line begins, comments above it included."""
    blocks: list[Block] = []
    first, name = 0, ""
    for number in range(len(source) + 1):
        match = opening.match(source.lines[number]) if number < len(source) else None
        if match is None and number < len(source):
            continue
        stop = number
        while number < len(source) and stop > first and source.lines[stop - 1].startswith("#"):
            stop -= 1
        block = source.block("code", first, stop, name=name)
        if block is not None:
            blocks.append(block)
        first, name = stop, match.group(1) if match else ""
    return blocks
