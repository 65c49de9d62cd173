"""Trees of labelled values (JSON, XML) as indented `label: value` lines, cut into blocks with their path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from indexer.parsers.building import DocumentBuilder
from indexer.parsers.normalise import normalise_text

_BLOCK_CHARACTERS = 800  # about one chunk of a 256-token embedder
_LONGEST_NAME = 100  # characters of a label in a path
_INDENT = "  "


class Outline(NamedTuple):
    """A node: its label ("" for a bare value), its text, and the nodes below it."""

    label: str
    text: str = ""
    children: tuple[Outline, ...] = ()


class _Part(NamedTuple):
    """A node with what rendering it takes."""

    node: Outline
    lines: list[str]
    size: int


def add_outline(builder: DocumentBuilder, root: Outline, *, path: str = "") -> None:
    """Append a tree as blocks of about a chunk each; a block's name is the path of what it holds."""
    for name, lines in _blocks(root, path):
        builder.add("text", "\n".join(lines), name=name)


def _blocks(node: Outline, path: str) -> Iterator[tuple[str, list[str]]]:
    """Cut a tree at the deepest level whose pieces still fill a block; small neighbours share one."""
    whole = _render(node)
    if not node.children or whole.size <= _BLOCK_CHARACTERS:
        yield path, whole.lines
        return
    # A long label is a sentence rather than a name: cut in the path, so it is told in full as well.
    gathered = [node.label] if len(node.label) > _LONGEST_NAME else []
    label = node.label[:_LONGEST_NAME]
    path = f"{path}.{label}" if path and label else path or label
    size = sum(map(len, gathered))
    for child in node.children:
        part = _render(child)
        if gathered and size + part.size > _BLOCK_CHARACTERS:
            yield path, gathered
            gathered, size = [], 0
        if part.size > _BLOCK_CHARACTERS and child.children:
            yield from _blocks(child, path)
        else:
            gathered.extend(part.lines)
            size += part.size
    if gathered:
        yield path, gathered


def _render(node: Outline) -> _Part:
    lines = list(_lines(node, ""))
    return _Part(node, lines, sum(map(len, lines)) + len(lines))


def _lines(node: Outline, indent: str) -> Iterator[str]:
    label = f"{node.label}: " if node.label else ""
    text = normalise_text(node.text).strip()
    if not node.children:
        if text or label:
            yield from _text_lines(f"{indent}{label}", text, indent)
        return
    if label:
        yield f"{indent}{label}{text}".rstrip()
        indent += _INDENT
    for child in node.children:
        yield from _lines(child, indent)


def _text_lines(head: str, text: str, indent: str) -> Iterator[str]:
    first, *rest = text.split("\n")
    yield f"{head}{first}".rstrip()
    for line in rest:
        yield f"{indent}{_INDENT}{line.strip()}".rstrip()
