from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parsing_samples import assert_promises, text_of

from indexer.parsers import parse
from indexer.parsers.errors import EmptyFile
from indexer.types import ParsedDocument

Read = Callable[..., ParsedDocument]


def names(document: ParsedDocument) -> list[str]:
    return [block.name for block in document.blocks]


PYTHON = '''\
"""Module."""
import os

# about f
@cache
def f(x):
    return "é"

class A(B):
    """Doc."""

    limit = 1

    def one(self): ...

    @property
    def two(self):
        return 2
    last = 3

if os:
    g = f
'''


def test_python_falls_into_functions_classes_and_methods_with_what_belongs_to_them(read: Read) -> None:
    document = read(PYTHON, "pkg/a.py")
    assert [(block.name, block.level) for block in document.blocks] == [
        ("", 0),
        ("f", 0),
        ("A", 0),
        ("A.one", 1),
        ("A.two", 1),
        ("A", 0),
        ("", 0),
    ]
    assert text_of(document, document.blocks[1]) == '# about f\n@cache\ndef f(x):\n    return "é"'
    assert text_of(document, document.blocks[2]) == 'class A(B):\n    """Doc."""\n\n    limit = 1'
    assert text_of(document, document.blocks[4]).startswith("    @property")
    assert document.title == ""  # what the file is called is not what it says
    assert document.format == "python"
    assert document.parser == "tree-sitter"


SOURCES = {
    "a.js": (
        "export class A { m() { return 1 } }\nexport const f = () => 2\nB.prototype.g = function () {}\n",
        ["A", "A.m", "f", "B.prototype.g"],
    ),
    "a.ts": (
        "interface I { a: string }\nexport enum E { X }\ntype T = number;\n"
        "namespace N { export function h() {} }\n",
        ["I", "E", "T", "N", "N.h"],
    ),
    "a.tsx": ("export function App(): JSX.Element { return <p>hi</p> }\n", ["App"]),
    "a.go": (
        "package p\n\n// S is\ntype S struct{}\n\nfunc (s *S) M() {}\nfunc F() {}\n",
        ["", "S", "S.M", "F"],
    ),
    "a.rs": (
        "/// doc\nstruct P;\nimpl P {\n    fn new() -> P { P }\n}\nmod t { fn x() {} }\n",
        ["P", "P", "P::new", "t", "t::x"],
    ),
    "a.java": (
        "package p;\nclass A {\n  A() {}\n  int m() { return 1; }\n  enum E { X }\n}\n",
        ["", "A", "A.A", "A.m", "A.E"],
    ),
    "a.c": ("#include <x.h>\nstruct s { int a; };\nstatic int *f(void) { return 0; }\n", ["", "s", "f"]),
    "a.cpp": (
        "namespace n {\nclass A {\n  int m() { return 1; }\n};\n}\n"
        "template <class T> T h(T t) { return t; }\n",
        ["n", "n::A", "n::A::m", "h"],
    ),
    "a.rb": (
        "module M\n  class C\n    def go; end\n    def self.s; end\n  end\nend\n",
        ["M", "M.C", "M.C.go", "M.C.s"],
    ),
    "a.sh": ("set -e\nf() { echo 1; }\nf\n", ["", "f", ""]),
    "a.sql": ("-- people\nCREATE TABLE people (id int);\nINSERT INTO people VALUES (1);\n", ["people", ""]),
    "a.css": ("a:hover { color: red }\n@media print { b { x: y } }\n", ["a:hover", "@media print"]),
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_language_names_its_definitions(name: str, read: Read) -> None:
    source, expected = SOURCES[name]
    assert names(read(source, name)) == expected


@pytest.mark.parametrize("name", SOURCES)
def test_the_blocks_cover_all_of_the_code(name: str, read: Read) -> None:
    source, _ = SOURCES[name]
    document = read(source, name)
    position = 0
    for block in document.blocks:
        assert not document.text[position : block.start].strip()
        position = block.end
    assert not document.text[position:].strip()


def test_a_long_function_is_split_at_the_functions_in_it_and_a_short_one_is_not(read: Read) -> None:
    inner = "    def inner():\n        return 1\n"
    assert names(read(f"def outer():\n{inner}", "a.py")) == ["outer"]
    padding = "    x = 1  # words to make it long\n" * 80
    assert names(read(f"def outer():\n{padding}{inner}", "a.py")) == ["outer", "outer.inner"]


def test_a_module_wrapped_in_a_function_is_looked_through_when_it_is_long(read: Read) -> None:
    body = "".join(f"  function f{i}(x) {{ return x + {i}; }} // some words\n" for i in range(60))
    assert names(read(f"(function () {{\n{body}}})();\n", "a.js"))[:3] == ["", "f0", "f1"]


def test_unknown_code_falls_back_to_stretches_between_blank_lines(read: Read) -> None:
    document = read("fun a() {\n\n    inside()\n}\n\nfun b() {}\n", "a.kt")
    assert [text_of(document, block) for block in document.blocks] == [
        "fun a() {\n\n    inside()\n}",
        "fun b() {}",
    ]
    assert document.parser == "lines"


def test_code_that_does_not_parse_still_covers_the_file(read: Read) -> None:
    document = read("def f(:\n  ))) class\n\ndef ok():\n    pass\n", "a.py")
    assert "ok" in names(document) or document.text in text_of(document, document.blocks[0])


@pytest.mark.parametrize("name", ["a.py", "a.js", "a.cpp", "a.sql", "a.rb"])
@given(text=st.text(alphabet="def class{}()é:;\n =f'\"#/*", min_size=1, max_size=150))
def test_no_source_breaks_the_promises_or_loses_text(name: str, text: str) -> None:
    try:
        document = parse(text.encode(), name=name)
    except EmptyFile:
        return
    assert_promises(document)
    covered = "".join(text_of(document, block) for block in document.blocks)
    assert "".join(covered.split()) == "".join(document.text.split())
