"""What a file of code has from elsewhere: the names that its imports bind, and what they stand for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tree_sitter import Node

_MAX_IMPORTS = 2000  # of a file; what has more is generated
_LONGEST_SOURCE = 100  # characters
_DEEPEST = 20  # braces within braces of Rust


class BoundName(NamedTuple):
    """A name, what it stands for, and the byte at which its statement begins."""

    name: str
    source: str
    start: int


def imported_names(root: Node, format: str) -> list[BoundName]:
    """The names that the import statements of a file bind, in order. None for languages that bind none.

    C includes whole files, Ruby requires them: which names come from where, their statements do not say.
    """
    language = _LANGUAGES.get(format)
    found: list[BoundName] = []
    for statement in _statements(root, language) if language is not None else ():
        for name, source in language.names(statement):
            source = " ".join(source.split())
            if name and len(found) < _MAX_IMPORTS and len(source) <= _LONGEST_SOURCE:
                found.append(BoundName(name, source, statement.start_byte))
    return sorted(found, key=lambda bound: bound.start)


class _Language(NamedTuple):
    """Which statements import, which others are looked through for them, and what they bind."""

    statements: frozenset[str]
    transparent: frozenset[str]
    names: Callable[[Node], Iterator[tuple[str, str]]]


def _statements(root: Node, language: _Language) -> Iterator[Node]:
    stack = [root]
    while stack:
        for child in stack.pop().named_children:
            if child.type in language.statements:
                yield child
            elif child.type in language.transparent:
                stack.append(child)


def _text(node: Node | None) -> str:
    return node.text.decode("utf-8", errors="replace") if node is not None and node.text is not None else ""


def _python(statement: Node) -> Iterator[tuple[str, str]]:
    module = statement.child_by_field_name("module_name")
    prefix = _text(module)
    if prefix and not prefix.endswith("."):
        prefix += "."
    for name in statement.children_by_field_name("name"):
        if name.type == "aliased_import":
            yield _text(name.child_by_field_name("alias")), prefix + _text(name.child_by_field_name("name"))
        elif module is None:  # `import a.b` binds a
            yield _text(name).partition(".")[0], _text(name)
        else:
            yield _text(name), prefix + _text(name)


def _script(statement: Node) -> Iterator[tuple[str, str]]:
    if statement.type == "import_statement":
        source = _unquoted(statement.child_by_field_name("source"))
        for clause in statement.named_children:
            if clause.type == "import_clause":
                for part in clause.named_children:
                    yield from _script_names(part, source)
        return
    for declarator in statement.named_children:  # const a = require("b")
        call = declarator.child_by_field_name("value")
        if call is None or _text(call.child_by_field_name("function")) != "require":
            continue
        arguments = call.child_by_field_name("arguments")
        name = declarator.child_by_field_name("name")
        if arguments is not None and arguments.named_children and name is not None:
            yield from _script_names(name, _unquoted(arguments.named_children[0]))


def _script_names(part: Node, source: str) -> Iterator[tuple[str, str]]:
    match part.type:
        case "identifier" | "shorthand_property_identifier_pattern":
            yield _text(part), source if part.type == "identifier" else f"{source}.{_text(part)}"
        case "namespace_import":
            yield _text(part.named_children[0] if part.named_children else None), source
        case "named_imports" | "object_pattern":
            for inner in part.named_children:
                yield from _script_names(inner, source)
        case "import_specifier":
            name = _text(part.child_by_field_name("name"))
            yield _text(part.child_by_field_name("alias")) or name, f"{source}.{name}"
        case "pair_pattern":
            name = _text(part.child_by_field_name("key"))
            yield _text(part.child_by_field_name("value")), f"{source}.{name}"


def _go(statement: Node) -> Iterator[tuple[str, str]]:
    specs = [child for child in statement.named_children if child.type == "import_spec"]
    for child in statement.named_children:
        if child.type == "import_spec_list":
            specs += [inner for inner in child.named_children if inner.type == "import_spec"]
    for spec in specs:
        path = _unquoted(spec.child_by_field_name("path"))
        alias = _text(spec.child_by_field_name("name"))
        if alias not in ("_", "."):
            yield alias or _go_package(path), path


def _go_package(path: str) -> str:
    """What a package is likely called: example.org/bar/v2 is bar."""
    *_, before, last = ["", *path.split("/")]
    name = before if before and re.fullmatch(r"v\d+", last) else last
    return re.sub(r"\.v\d+$", "", name)


def _java(statement: Node) -> Iterator[tuple[str, str]]:
    if any(child.type == "asterisk" for child in statement.named_children):
        return
    for child in statement.named_children:
        if child.type in ("scoped_identifier", "identifier"):
            yield _text(child).rpartition(".")[2], _text(child)


def _rust(statement: Node) -> Iterator[tuple[str, str]]:
    yield from _rust_names(statement.child_by_field_name("argument"), "", _DEEPEST)


def _rust_names(node: Node | None, prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    if node is None or depth == 0:
        return
    match node.type:
        case "use_list":
            for child in node.named_children:
                yield from _rust_names(child, prefix, depth - 1)
        case "scoped_use_list":
            path = _text(node.child_by_field_name("path"))
            inner = node.child_by_field_name("list")
            yield from _rust_names(inner, f"{prefix}{path}::" if path else prefix, depth - 1)
        case "use_as_clause":
            alias = _text(node.child_by_field_name("alias"))
            if alias != "_":
                yield alias, prefix + _text(node.child_by_field_name("path"))
        case "scoped_identifier" | "identifier":
            path = prefix + _text(node)
            yield path.rpartition("::")[2], path
        case "self":
            path = prefix.removesuffix("::")
            yield path.rpartition("::")[2], path


def _unquoted(node: Node | None) -> str:
    return _text(node).strip("\"'`")


_SCRIPT = _Language(
    frozenset({"import_statement", "lexical_declaration", "variable_declaration"}), frozenset(), _script
)
_LANGUAGES: Mapping[str, _Language] = MappingProxyType(
    {
        "python": _Language(
            frozenset({"import_statement", "import_from_statement"}),
            # `if TYPE_CHECKING:` and `try: import ...`
            frozenset(
                {"if_statement", "elif_clause", "else_clause", "try_statement", "except_clause", "block"}
            ),
            _python,
        ),
        "javascript": _SCRIPT,
        "typescript": _SCRIPT,
        "tsx": _SCRIPT,
        "go": _Language(frozenset({"import_declaration"}), frozenset(), _go),
        "java": _Language(frozenset({"import_declaration"}), frozenset(), _java),
        "rust": _Language(frozenset({"use_declaration"}), frozenset(), _rust),
    }
)
