"""What code has from elsewhere, and what its definitions say of themselves above their bodies."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from indexer.types import ParsedDocument
from indexer.worker_wire import decode, document_from_json, document_to_json, encode

Read = Callable[..., ParsedDocument]

SOURCES = {
    "a.py": (
        "import os, sys as system\nimport a.b\nfrom pathlib import Path as P, PurePath\nfrom . import near\n"
        "from x import *\nif True:\n    import typed\n"
        "try:\n    import fast\nexcept ImportError:\n    fast = 0\n",
        {"os": "os", "system": "sys", "a": "a.b", "P": "pathlib.Path", "PurePath": "pathlib.PurePath"}
        | {"near": ".near", "typed": "typed", "fast": "fast"},
    ),
    "a.ts": (
        'import D, {a as b, c} from "./x";\nimport * as ns from "y/z";\nconst {q, r: s} = require("fs");\n'
        'const t = require("u"), v = 1;\n',
        {"D": "./x", "b": "./x.a", "c": "./x.c", "ns": "y/z", "q": "fs.q", "s": "fs.r", "t": "u"},
    ),
    "a.go": (
        'package p\nimport "fmt"\nimport (\n\tx "a/b"\n\t"k/l/v5"\n\t"gopkg.in/yaml.v3"\n\t_ "z"\n)\n',
        {"fmt": "fmt", "x": "a/b", "l": "k/l/v5", "yaml": "gopkg.in/yaml.v3"},
    ),
    "A.java": (
        "import java.util.List;\nimport static java.util.Map.entry;\nimport java.io.*;\nclass A {}\n",
        {"List": "java.util.List", "entry": "java.util.Map.entry"},
    ),
    "a.rs": (
        "use std::collections::{HashMap, hash_map::{self, Entry as E}};\nuse std::io;\nuse crate::x::*;\n"
        "use serde::Serialize as _;\n",
        {"HashMap": "std::collections::HashMap", "hash_map": "std::collections::hash_map"}
        | {"E": "std::collections::hash_map::Entry", "io": "std::io"},
    ),
    "a.c": ("#include <stdio.h>\nint one;\n", {}),
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_names_that_imports_bind_are_known(name: str, read: Read) -> None:
    source, expected = SOURCES[name]
    document = read(source, name)
    assert {each.name: each.source for each in document.imports} == expected
    starts = [each.start for each in document.imports]
    assert starts == sorted(starts)
    assert all(document.text[start:].startswith(("import", "from", "use", "const")) for start in starts)


DEFINITIONS = {
    "a.py": (
        '@cache\ndef f(x: int,\n      y: str = "a") -> dict[str, int]:\n'
        '    """What f does.\n\n    More."""\n',
        'def f(x: int, y: str = "a") -> dict[str, int]: What f does.',
    ),
    "a.ts": (
        "/** Adds.\n * More. */\nexport const f = async (x: number): Promise<number> => { return x };\n",
        "const f = async (x: number): Promise<number>: Adds.",
    ),
    "a.go": (
        "// F does.\nfunc (s *S) F(a int) (int, error) { return a, nil }\n",
        "func (s *S) F(a int) (int, error): F does.",
    ),
    "A.java": ("/** Doc. */\nclass A<T>\n    extends B { int a; }\n", "class A<T> extends B: Doc."),
    "a.rs": (
        "/// Adds up.\npub fn add<T>(a: T) -> Vec<T> { a }\n",
        "pub fn add<T>(a: T) -> Vec<T>: Adds up.",
    ),
    "a.c": ("/* Says\n hello. */\nint hello(char *x)\n{ return 1; }\n", "int hello(char *x): Says"),
    "a.rb": ("# about\ndef f(a)\n  1\nend\n", "def f(a): about"),
    "a.sh": ("f() {\n  echo 1\n}\n", "f()"),
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_signature_is_one_line_with_the_first_of_what_documents_it(name: str, read: Read) -> None:
    source, expected = DEFINITIONS[name]
    (block,) = [block for block in read(source, name).blocks if block.name]
    assert block.signature == expected


def test_imports_and_signatures_reach_the_chunker_through_the_pipe(read: Read) -> None:
    document = read("import os\n\ndef f():\n    return os.getcwd()\n", "a.py")
    assert document.imports
    assert document.blocks[1].signature
    assert document_from_json(decode(encode(document_to_json(document)))) == document


def test_signatures_are_bounded(read: Read) -> None:
    arguments = ", ".join(f"argument_{number}" for number in range(1000))
    (block,) = read(f'def f({arguments}):\n    """{"word " * 1000}"""\n', "a.py").blocks
    assert len(block.signature) < 700


def test_lines_of_a_file_with_page_feeds_stay_where_they_are(read: Read) -> None:
    document = read('a = 1\n\x0c\ndef f():\n    return "x\u2028y"\n\x0cb = 2\n', "a.py")
    assert document.text == 'a = 1\n\ndef f():\n    return "x y"\nb = 2\n'
    assert [block.name for block in document.blocks] == ["", "f", ""]
