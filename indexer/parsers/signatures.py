"""What stands above a definition's body: its signature, and the first line of what documents it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node

_LONGEST = 300  # characters, of each of the two
_MOST_BYTES = 4096  # of either that are looked at
_DEEPEST = 4  # `export const f = () => {...}` has its body four nodes down
_COMMENTS = frozenset({"comment", "line_comment", "block_comment", "marginalia"})


def signature(node: Node, first: Node) -> str:
    """A definition's signature on one line and the first line of its documentation; `first` is the comment
    or decorator that belongs to it, or the definition itself.
    """
    body = _body(node, _DEEPEST)
    source = node.text or b""
    head = source[: body.start_byte - node.start_byte if body is not None else _MOST_BYTES][:_MOST_BYTES]
    text = head.decode("utf-8", errors="replace")
    if body is None:
        text = text.partition("\n")[0]
    said = " ".join(text.split()).rstrip(" {:").removesuffix("=>").rstrip(" =")[:_LONGEST]
    about = _docstring(body) or _comment(first)
    return f"{said}: {about}" if said and about else said or about


def _body(node: Node, depth: int) -> Node | None:
    """The body of a definition, which may be that of the function that it assigns."""
    body = node.child_by_field_name("body")
    if body is not None or depth == 0:
        return body
    for field in ("value", "right"):
        inner = node.child_by_field_name(field)
        if inner is not None:
            return _body(inner, depth - 1)
    declarator = next((child for child in node.named_children if child.type == "variable_declarator"), None)
    return _body(declarator, depth - 1) if declarator is not None else None


def _docstring(body: Node | None) -> str:
    """Python's: the string that a body begins with."""
    if body is None or body.type != "block" or not body.named_children:
        return ""
    string = body.named_children[0]
    if string.type == "expression_statement" and string.named_children:
        string = string.named_children[0]
    if string.type != "string":
        return ""
    content = next((child for child in string.named_children if child.type == "string_content"), None)
    return _first_line(content)


def _comment(first: Node) -> str:
    return _first_line(first) if first.type in _COMMENTS else ""


def _first_line(node: Node | None) -> str:
    """The first line that says something."""
    if node is None or node.text is None:
        return ""
    for line in node.text[:_MOST_BYTES].decode("utf-8", errors="replace").split("\n"):
        said = " ".join(line.lstrip(" \t/*#!-").rstrip(" \t\r*/").split())
        if said:
            return said[:_LONGEST]
    return ""
