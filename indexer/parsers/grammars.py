"""What a definition looks like in each language's syntax tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

_JS_FUNCTIONS = frozenset({"arrow_function", "function_expression", "generator_function", "class"})
_SCRIPT_DEFINITIONS = frozenset(
    {
        "function_declaration",
        "generator_function_declaration",
        "class_declaration",
        "abstract_class_declaration",
        "method_definition",
        "interface_declaration",
        "enum_declaration",
        "type_alias_declaration",
        "internal_module",
        "module",
    }
)
_C_DEFINITIONS = frozenset(
    {"function_definition", "struct_specifier", "union_specifier", "enum_specifier", "type_definition"}
)


@dataclass(frozen=True, slots=True)
class Grammar:
    """A language: its wheel, the node types that define something, and those that wrap or hold them."""

    module: str
    definitions: frozenset[str]
    wrappers: frozenset[str] = frozenset()  # decorators, `export`, `template<...>`: part of what they wrap
    transparent: frozenset[str] = frozenset()  # bodies and preprocessor branches: looked through
    closures: frozenset[str] = (
        frozenset()
    )  # looked through where they are long, such as a module in a function
    attached: frozenset[str] = frozenset({"comment"})  # belongs to the definition that follows it directly
    function: str = "language"
    separator: str = "."


_SCRIPT_BODIES = frozenset({"class_body", "statement_block", "interface_body"})
_SCRIPT_CLOSURES = frozenset(
    {"call_expression", "arguments", "parenthesized_expression", "unary_expression", "function_expression"}
    | {"arrow_function"}
)
_SCRIPT_WRAPPERS = frozenset({"export_statement", "ambient_declaration", "expression_statement"})
_C_BRANCHES = frozenset(
    {
        "preproc_ifdef",
        "preproc_if",
        "preproc_else",
        "linkage_specification",
        "declaration_list",
        "compound_statement",
    }
)

GRAMMARS: Mapping[str, Grammar] = MappingProxyType(
    {
        "python": Grammar(
            "tree_sitter_python",
            frozenset({"function_definition", "class_definition"}),
            wrappers=frozenset({"decorated_definition"}),
            transparent=frozenset({"block"}),
        ),
        "javascript": Grammar(
            "tree_sitter_javascript",
            _SCRIPT_DEFINITIONS,
            wrappers=_SCRIPT_WRAPPERS,
            transparent=_SCRIPT_BODIES,
            closures=_SCRIPT_CLOSURES,
            attached=frozenset({"comment", "decorator"}),
        ),
        **{
            language: Grammar(
                "tree_sitter_typescript",
                _SCRIPT_DEFINITIONS,
                wrappers=_SCRIPT_WRAPPERS,
                transparent=_SCRIPT_BODIES,
                closures=_SCRIPT_CLOSURES,
                attached=frozenset({"comment", "decorator"}),
                function=f"language_{language}",
            )
            for language in ("typescript", "tsx")
        },
        "go": Grammar(
            "tree_sitter_go", frozenset({"function_declaration", "method_declaration", "type_declaration"})
        ),
        "rust": Grammar(
            "tree_sitter_rust",
            frozenset(
                {
                    "function_item",
                    "struct_item",
                    "enum_item",
                    "union_item",
                    "trait_item",
                    "impl_item",
                    "mod_item",
                    "macro_definition",
                }
            ),
            transparent=frozenset({"declaration_list", "block"}),
            attached=frozenset({"line_comment", "block_comment", "attribute_item"}),
            separator="::",
        ),
        "java": Grammar(
            "tree_sitter_java",
            frozenset(
                {
                    "class_declaration",
                    "interface_declaration",
                    "enum_declaration",
                    "record_declaration",
                    "annotation_type_declaration",
                    "method_declaration",
                    "constructor_declaration",
                }
            ),
            transparent=frozenset({"class_body", "interface_body", "enum_body", "enum_body_declarations"}),
            attached=frozenset({"line_comment", "block_comment"}),
        ),
        "c": Grammar("tree_sitter_c", _C_DEFINITIONS, transparent=_C_BRANCHES),
        "cpp": Grammar(
            "tree_sitter_cpp",
            _C_DEFINITIONS | {"class_specifier", "namespace_definition"},
            wrappers=frozenset({"template_declaration"}),
            transparent=_C_BRANCHES | {"field_declaration_list"},
            separator="::",
        ),
        "ruby": Grammar(
            "tree_sitter_ruby",
            frozenset({"class", "module", "method", "singleton_method"}),
            transparent=frozenset({"body_statement"}),
        ),
        "bash": Grammar("tree_sitter_bash", frozenset({"function_definition"})),
        "sql": Grammar(
            "tree_sitter_sql",
            frozenset(
                {
                    "create_table",
                    "create_view",
                    "create_materialized_view",
                    "create_index",
                    "create_function",
                    "create_trigger",
                    "create_type",
                    "create_schema",
                    "alter_table",
                }
            ),
            wrappers=frozenset({"statement"}),
            attached=frozenset({"comment", "marginalia"}),
        ),
        "css": Grammar(
            "tree_sitter_css",
            frozenset({"rule_set", "media_statement", "keyframes_statement", "supports_statement"}),
        ),
    }
)


def load_parser(grammar: Grammar) -> Parser:
    """A tree-sitter parser for the language."""
    import importlib

    from tree_sitter import Language, Parser

    module = importlib.import_module(grammar.module)
    return Parser(Language(getattr(module, grammar.function)()))


def definition_name(node: Node) -> str | None:
    """What a definition calls itself; None when the node defines nothing that has a name."""
    if node.type in _SPECIAL_NAMES:
        return _SPECIAL_NAMES[node.type](node)
    name = node.child_by_field_name("name")
    if name is not None:
        return _text(name)
    if node.child_by_field_name("declarator") is not None:
        return _declarator_name(node)
    if node.type in ("media_statement", "supports_statement", "keyframes_statement"):
        return _text(node).partition("{")[0].strip()[:80]
    reference = next(
        (child for child in node.named_children if child.type in ("object_reference", "identifier")), None
    )
    return _text(reference) if reference is not None else None


def assigned_name(node: Node) -> str | None:
    """The name to which JavaScript assigns a function: `const f = () => ...`, `exports.f = function ...`."""
    if node.type in ("lexical_declaration", "variable_declaration"):
        for declarator in node.named_children:
            value = declarator.child_by_field_name("value")
            if value is not None and value.type in _JS_FUNCTIONS:
                return _field_text(declarator, "name")
    if node.type in ("assignment_expression", "field_definition", "public_field_definition"):
        value = node.child_by_field_name("right") or node.child_by_field_name("value")
        if value is not None and value.type in _JS_FUNCTIONS:
            fields = ("left", "property", "name")
            return next((text for field in fields if (text := _field_text(node, field))), None)
    return None


def _text(node: Node) -> str:
    return node.text.decode("utf-8", errors="replace") if node.text is not None else ""


def _field_text(node: Node, field: str) -> str | None:
    child = node.child_by_field_name(field)
    return _text(child) if child is not None else None


def _declarator_name(node: Node) -> str | None:
    """C and C++ wrap a function's name in pointers, references and parameter lists."""
    inner = node
    while (declarator := inner.child_by_field_name("declarator")) is not None:
        inner = declarator
    if inner.type in ("reference_declarator", "parenthesized_declarator") and inner.named_children:
        return _declarator_name(inner.named_children[-1]) or _text(inner.named_children[-1])
    return _text(inner) or None


def _go_method_name(node: Node) -> str | None:
    receiver = (_field_text(node, "receiver") or "").strip("()").split()
    name = _field_text(node, "name")
    return f"{receiver[-1].lstrip('*').partition('[')[0]}.{name}" if receiver else name


def _go_type_name(node: Node) -> str | None:
    return next(
        (_field_text(child, "name") for child in node.named_children if child.type == "type_spec"), None
    )


def _rust_impl_name(node: Node) -> str | None:
    return (_field_text(node, "type") or "").partition("<")[0] or None


def _record_name(node: Node) -> str | None:
    """A struct, union, enum or class counts where it is defined, not where it is mentioned."""
    return (_field_text(node, "name") or "") if node.child_by_field_name("body") is not None else None


def _css_selectors(node: Node) -> str | None:
    return " ".join(_text(node.named_children[0]).split())[:80] if node.named_children else None


_SPECIAL_NAMES = MappingProxyType(
    {
        "method_declaration": lambda node: (
            _go_method_name(node)
            if node.child_by_field_name("receiver") is not None
            else _field_text(node, "name")
        ),
        "type_declaration": _go_type_name,
        "impl_item": _rust_impl_name,
        "struct_specifier": _record_name,
        "union_specifier": _record_name,
        "enum_specifier": _record_name,
        "class_specifier": _record_name,
        "rule_set": _css_selectors,
    }
)
