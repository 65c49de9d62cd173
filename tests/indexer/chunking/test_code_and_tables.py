"""Parts of long tables and functions say what they are parts of."""

from __future__ import annotations

from dataclasses import replace

import pytest
from chunked_documents import document, texts

from indexer.types import Import, ParsedDocument


def test_a_long_table_repeats_its_header_row_in_the_context(chunk) -> None:
    rows = "\n".join(f"| fox {number} | {number * 7} | red |" for number in range(80))
    parsed = document(("table", f"| name | weight | colour |\n|---|---|---|\n{rows}"))
    drafts = chunk(parsed)
    assert len(drafts) > 2
    assert drafts[0].context == ""
    assert {draft.context for draft in drafts[1:]} == {"| name | weight | colour |"}
    assert all(text.startswith("|") and text.endswith("|") for text in texts(parsed, drafts))
    assert {draft.kind for draft in drafts} == {"table"}


def test_a_table_from_the_page_before_has_that_pages_header_in_the_context_of_all_its_parts(chunk) -> None:
    rows = "\n".join(f"fox {number} | {number * 7} | red" for number in range(80))
    parsed = document(("table", rows, {"signature": "name | weight | colour"}))
    drafts = chunk(parsed)
    assert len(drafts) > 2
    assert {draft.context for draft in drafts} == {"name | weight | colour"}


def test_a_header_row_too_long_to_repeat_is_shortened(chunk) -> None:
    header = " | ".join(f"column {number}" for number in range(200))
    rows = "\n".join(f"| {number} | 2 |" for number in range(200))
    parsed = document(("table", f"{header}\n{rows}"))
    last = chunk(parsed)[-1]
    assert header.startswith(last.context)
    assert 0 < len(last.context) < 300


def test_long_code_is_cut_at_its_least_indented_lines(chunk) -> None:
    functions = "\n\n".join(
        f"    def method_{number}(self):\n        value = {number}\n\n"
        f"        if value:\n            return value"
        for number in range(30)
    )
    parsed = document(("code", f"class Fox:\n{functions}", {"name": "Fox"}))
    drafts = chunk(parsed)
    assert len(drafts) > 2
    assert all(text.startswith("def method_") for text in texts(parsed, drafts)[1:])
    assert {draft.context for draft in drafts[1:]} == {"Fox\nclass Fox:"}
    assert {draft.heading_path for draft in drafts} == {("Fox",)}


def test_further_parts_of_a_function_say_its_signature_and_what_it_is_for(chunk) -> None:
    body = "\n".join(f"    call_number_{number}()" for number in range(120))
    code = f"@cached\ndef load(path):\n{body}"
    parsed = document(("code", code, {"name": "load", "signature": "def load(path): Reads the tide table."}))
    first, *others = chunk(parsed)
    assert first.context == "load"
    assert {draft.context for draft in others} == {"load\ndef load(path): Reads the tide table."}


def code_with_imports(*sources: str, body: str) -> ParsedDocument:
    head = "\n".join(f"import {source}" for source in sources)
    imports = tuple(
        Import(source.rpartition(" ")[2].rpartition(".")[2], source.partition(" as ")[0], head.index(source))
        for source in sources
    )
    filler = "\n".join(f"line_{number} = {number}" for number in range(60))
    return document(("code", f"{head}\n{filler}"), ("code", body, {"name": "f"}), imports=imports)


def test_code_has_the_imports_that_it_uses_and_does_not_show_in_its_context(chunk) -> None:
    body = "def f(x):\n    return np.zeros(x) + tide.table(x) + os_like\n" + "    # more\n" * 30
    parsed = code_with_imports("os", "numpy as np", "harbour.tide", body=body)
    head, *others = chunk(parsed)
    assert head.context == "", "it shows them"
    assert others[-1].context == "f\nimports numpy as np, harbour.tide"


def test_as_many_imports_are_named_as_there_is_room_left_for(chunk, minilm_tokenizer) -> None:
    sources = [f"harbour.part_{number}" for number in range(12)]
    used = "\n".join(f"    part_{number}()" for number in range(12))
    for num_lines in range(20, 60, 4):
        body = f"def f():\n{used}\n" + "    wait()\n" * num_lines
        drafts = chunk(code_with_imports(*sources, body=body), target_tokens=250)
        whole = [draft for draft in drafts if draft.heading_path == ("f",)]
        if len(whole) == 1 and 0 < whole[0].context.count("harbour.part_") < 12:
            return
    pytest.fail("no function left room for some of them")


def test_imports_never_change_where_code_is_cut_nor_take_more_than_a_quarter(chunk, minilm_tokenizer) -> None:
    sources = [f"package_number_{number}.module_{number}" for number in range(60)]
    body = "def f():\n" + "\n".join(f"    module_{number}.call({number})" for number in range(60))
    parsed = code_with_imports(*sources, body=body)
    with_imports, without = chunk(parsed), chunk(replace(parsed, imports=()))
    assert [(d.start, d.end, d.heading_path) for d in with_imports] == [
        (d.start, d.end, d.heading_path) for d in without
    ]
    assert any("imports package_number_" in draft.context for draft in with_imports)
    for draft, plain in zip(with_imports, without, strict=True):
        assert draft.context.startswith(plain.context)
        assert minilm_tokenizer.count(draft.context) <= 256 // 4


def test_small_functions_are_merged_under_the_name_they_share(chunk) -> None:
    parsed = document(
        ("code", "class Fox:", {"name": "Fox"}),
        ("code", "    def run(self): ...", {"name": "Fox.run", "level": 1}),
        ("code", "    def eat(self): ...", {"name": "Fox.eat", "level": 1}),
        title="fox.py",
    )
    (draft,) = chunk(parsed)
    assert (draft.heading_path, draft.context, draft.kind) == (("Fox",), "fox.py > Fox", "code")


def test_unrelated_functions_share_no_name(chunk) -> None:
    parsed = document(
        ("code", "def run(): ...", {"name": "run"}), ("code", "def runner(): ...", {"name": "runner"})
    )
    (draft,) = chunk(parsed)
    assert (draft.heading_path, draft.context) == ((), "")


def test_two_even_parts_are_none_where_they_would_break_a_line_of_code(chunk) -> None:
    """The middle is within the long line; three parts break none."""
    long = f"values = [{', '.join('7' * 22)}]"
    lines = [*["alpha = 1"] * 13, long, *["omega = 2"] * 10]
    parsed = document(("code", "\n".join(lines)))
    parts = texts(parsed, chunk(parsed, max_tokens=64, target_tokens=64))
    assert len(parts) == 3
    assert [line for part in parts for line in part.splitlines()] == lines
