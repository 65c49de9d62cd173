from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from parsing_samples import outline_of

from indexer.parsers import parse
from indexer.parsers.errors import (
    EmptyFile,
    ForbiddenEntities,
    MalformedFile,
    NestedTooDeep,
    NoExtractableText,
)
from indexer.parsers.html import table_rows
from indexer.parsers.xml import parse_html
from indexer.types import ParsedDocument

Read = Callable[..., ParsedDocument]

PAGE = """\
<!doctype html><html><head><title>The Ferry</title><meta name="author" content="A. Writer">
<style>p { color: red }</style><script>var x = "not text";</script></head>
<body><nav><a href="/">Home</a></nav>
<h1>Timetable</h1>
<p>Leaves at <b>nine</b>,
   daily.<br>Not on Sundays.</p>
<div style="display: none">hidden</div>
<ul><li>Cars<ul><li>small</li></ul></li><li>Bicycles</li></ul>
<ol><li>first</li><li>second</li></ol>
<pre><code>if x:
    leave()</code></pre>
<table><caption>Prices</caption><tr><th>Who</th><th>Crowns</th></tr><tr><td>Adult</td><td>5</td></tr></table>
<dl><dt>Port</dt><dd>left</dd></dl>
<img alt="A ferry" src="x.png">
</body></html>
"""


def test_html_becomes_what_a_reader_sees(read: Read) -> None:
    document = read(PAGE, "a.html")
    assert outline_of(document) == [
        ("heading", "Timetable"),
        ("text", "Leaves at nine, daily.\nNot on Sundays."),
        ("list", "- Cars\n  - small\n- Bicycles"),
        ("list", "1. first\n2. second"),
        ("code", "if x:\n    leave()"),
        ("text", "Prices"),
        ("table", "Who | Crowns\n--- | ---\nAdult | 5"),
        ("list", "- Port: left"),
        ("text", "A ferry"),
    ]
    assert document.title == "The Ferry"
    assert document.metadata["author"] == "A. Writer"
    assert document.blocks[6].name == "Prices"


def test_table_cells_over_several_rows_are_repeated_and_layout_tables_are_text(read: Read) -> None:
    spans = "<table><tr><th>a<th>b</tr><tr><td rowspan=2>x<td>1</tr><tr><td>2</tr></table>"
    assert outline_of(read(spans, "a.html")) == [("table", "a | b\n--- | ---\nx | 1\nx | 2")]
    layout = "<table><tr><td><h2>Heading</h2><p>Words.</p></td><td><p>More.</p></td></tr></table>"
    assert outline_of(read(layout, "a.html")) == [
        ("heading", "Heading"),
        ("text", "Words."),
        ("text", "More."),
    ]


def test_lists_of_definitions_may_hold_lists_and_say_everything_once(read: Read) -> None:
    page = (
        "<dl><div><dt>Tide</dt><dd>High water</dd><dd>Low water</dd></div><dt>Boats</dt>"
        "<dd><dl><dt>Ferry</dt><dd>large</dd></dl></dd><dt>Fares</dt><dd>Two:<ul><li>adult</li><li>child"
        "<dl><dt>infant</dt><dd>free</dd></dl></li></ul></dd><dt>Last</dt></dl>"
    )
    assert read(page, "a.html").text.split("\n") == [
        "- Tide: High water",
        "  Low water",
        "- Boats",
        "  - Ferry: large",
        "- Fares: Two:",
        "  - adult",
        "  - child",
        "    - infant: free",
        "- Last",
    ]


def test_lines_of_code_end_where_the_page_breaks_them(read: Read) -> None:
    page = "<pre><code>import tide<br>from <b>pier</b> import ferry<br/></code></pre>"
    assert outline_of(read(page, "a.html")) == [("code", "import tide\nfrom pier import ferry")]


def test_a_page_without_text_is_a_failure() -> None:
    with pytest.raises(NoExtractableText):
        parse(b"<html><body><script>let x</script></body></html>", name="a.html")


def test_html_nested_beyond_reason_still_gives_its_text(read: Read) -> None:
    deep = "<div>" * 5000 + "at the bottom" + "</div>" * 5000
    assert "at the bottom" in read(f"<html><body>{deep}</body></html>", "a.html").text


def test_a_cell_that_claims_to_span_a_billion_columns_is_bounded(read: Read) -> None:
    for span in ("99999", "999999999"):
        page = f"<table><tr><td colspan={span}>a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr></table>"
        root = parse_html(page)
        assert root is not None
        assert max(len(row) for row in table_rows(next(root.iter("table")))) < 100
        assert len(read(page, "a.html").text) < 1000


def test_xml_is_an_outline_of_its_elements(read: Read) -> None:
    xml = '<?xml version="1.0"?><book id="7"><title>Ferries</title><ch>One <b>two</b> three</ch></book>'
    assert (
        read(xml, "a.xml").text == "book:\n  id: 7\n  title: Ferries\n  ch:\n    One\n    b: two\n    three"
    )


def test_broken_xml_is_read_as_tag_soup_with_a_warning(read: Read) -> None:
    document = read("<a><b>words</a>", "a.xml")
    assert "words" in document.text
    assert "not be read" not in document.text
    assert document.warnings


def test_billion_laughs_are_refused() -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><l>&b;</l>'
    with pytest.raises(ForbiddenEntities) as failure:
        parse(bomb.encode(), name="a.xml")
    assert failure.value.code == "forbidden-entities"


def test_an_entity_never_reads_another_file(tmp_path: object) -> None:
    with pytest.raises(ForbiddenEntities):
        parse(b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', name="a.xml")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("[" * 100_000 + "]" * 100_000, "a.json"),
        ("{" + '"a":{' * 400 + "}" * 401, "a.json"),
        ("<a>" * 100_000 + "</a>" * 100_000, "a.xml"),
    ],
)
def test_structure_nested_beyond_reason_is_a_typed_failure(data: str, name: str) -> None:
    with pytest.raises(NestedTooDeep) as failure:
        parse(data.encode(), name=name)
    assert failure.value.hint


def test_structure_nested_just_within_reason_is_read(read: Read) -> None:
    assert "x" in read("<a>" * 250 + "x" + "</a>" * 250, "a.xml").text


def test_json_is_an_outline_whose_blocks_know_their_path(read: Read) -> None:
    value = {
        "name": "Ferry",
        "stops": [{"at": f"Pier {i}", "note": "x" * 300} for i in range(6)],
        "tags": ["a", "b"],
    }
    document = read(json.dumps(value), "a.json")
    assert document.text.startswith("name: Ferry")
    assert "tags: a, b" in document.text
    assert "at: Pier 5" in document.text
    assert {block.name for block in document.blocks} >= {"", "stops"}
    assert all(block.end - block.start < 1000 for block in document.blocks)


def test_lines_of_json_are_records_and_broken_json_is_text(read: Read) -> None:
    records = read('{"a": 1}\n{"a": 2}\n', "a.ndjson")
    assert [block.name for block in records.blocks] == ["line 1", "line 2"]
    assert read('{"a": 1}\n{"a": 2}\n', "a.json").text == records.text
    broken = read('{"a": 1,\n', "a.json")
    assert broken.text.startswith('{"a": 1,')
    assert broken.warnings


def test_yaml_and_toml_keep_their_own_text_in_sections(read: Read) -> None:
    yaml = read("# top\nname: x\n\nsteps:\n  - run: y\n", "a.yaml")
    assert [(block.name, block.kind) for block in yaml.blocks] == [("name", "code"), ("steps", "code")]
    toml = read("[tool.x]\na = 1\n\n[[y]]\nb = 2\n", "a.toml")
    assert [block.name for block in toml.blocks] == ["tool.x", "y"]


def test_notebooks_are_read_by_cell(read: Read) -> None:
    notebook = {
        "cells": [
            {"cell_type": "markdown", "source": ["# Analysis\n", "\n", "Words."]},
            {
                "cell_type": "code",
                "source": "print(6 * 7)",
                "outputs": [{"output_type": "stream", "text": ["42\n"]}, {"data": {"image/png": "AAAA"}}],
            },
        ],
        "metadata": {"language_info": {"name": "python"}},
        "nbformat": 4,
    }
    document = read(json.dumps(notebook), "a.ipynb")
    assert outline_of(document) == [
        ("heading", "Analysis"),
        ("text", "Words."),
        ("code", "print(6 * 7)"),
        ("text", "42"),
    ]
    assert [block.name for block in document.blocks] == ["", "", "cell 2", "output of cell 2"]
    with pytest.raises(MalformedFile):
        parse(b"{}", name="a.ipynb")


def test_a_long_pre_without_code_is_a_text_file_and_not_code(read: Read) -> None:
    law = "\n\n".join(f"Section {i}. Whoever takes the ferry shall pay the toll." for i in range(300))
    document = read(f"<html><pre>{law}</pre></html>", "a.html")
    assert {block.kind for block in document.blocks} == {"text"}
    assert len(document.blocks) == 300


def test_an_empty_json_file_is_empty() -> None:
    with pytest.raises(EmptyFile):
        parse(b"", name="a.json")
