from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parsing_samples import assert_promises, outline_of, text_of

from indexer.parsers import parse
from indexer.parsers.errors import EmptyFile
from indexer.types import ParsedDocument

Read = Callable[..., ParsedDocument]


def test_plain_text_falls_into_paragraphs_and_lists(read: Read) -> None:
    document = read("First\nparagraph.\n\n\n  - one\n  - two\n\nLast.\n", "a.txt")
    assert outline_of(document) == [
        ("text", "First\nparagraph."),
        ("list", "  - one\n  - two"),
        ("text", "Last."),
    ]
    assert document.text == "First\nparagraph.\n\n\n  - one\n  - two\n\nLast.\n", "the text is the file's own"


@pytest.mark.parametrize("data", [b"", b"  \n\t\n ", b"\xef\xbb\xbf"])
def test_a_file_with_nothing_in_it_is_a_failure_with_a_remedy(data: bytes) -> None:
    with pytest.raises(EmptyFile) as failure:
        parse(data, name="folder/a.txt")
    assert failure.value.message == "a.txt holds no text."
    assert failure.value.hint


MARKDOWN = """\
---
title: The Ferry
---
# Ferry #

Intro with a [link](https://example.org).
Second line.

Setext
------

* one
  continued

  still one
* two

```python
def f():

    return "# not a heading"
```

| a | b |
|---|---|
| 1 | 2 |

    indented code

#hashtag is text
"""


def test_markdown_keeps_headings_lists_code_and_tables_whole(read: Read) -> None:
    document = read(MARKDOWN, "a.md")
    assert outline_of(document) == [
        ("text", "title: The Ferry"),
        ("heading", "Ferry"),
        ("text", "Intro with a [link](https://example.org).\nSecond line."),
        ("heading", "Setext"),
        ("list", "* one\n  continued\n\n  still one\n* two"),
        ("code", '```python\ndef f():\n\n    return "# not a heading"\n```'),
        ("table", "| a | b |\n|---|---|\n| 1 | 2 |"),
        ("code", "    indented code"),
        ("text", "#hashtag is text"),
    ]
    assert [block.level for block in document.blocks if block.kind == "heading"] == [1, 2]
    assert document.title == "The Ferry"
    assert document.text == MARKDOWN


def test_an_unclosed_fence_runs_to_the_end(read: Read) -> None:
    assert outline_of(read("text\n\n```\ncode\n\n# code\n", "a.md"))[-1] == ("code", "```\ncode\n\n# code")


def test_code_and_tables_within_markdown_lists_are_blocks_of_their_own(read: Read) -> None:
    text = (
        "1. Install:\n\n   ```sh\n   pip install ferry\n\n   # no heading\n   ```\n\n   It takes a while.\n"
        "2. ~~~\n   make\n   ~~~\n3. Fares:\n\n   | who | crowns |\n   |-----|--------|\n   | dog | 1 |\n"
        "4. ```\n   never closed\n- another\n\nAfter it.\n"
    )
    assert outline_of(read(text, "a.md")) == [
        ("list", "1. Install:"),
        ("code", "   ```sh\n   pip install ferry\n\n   # no heading\n   ```"),
        ("list", "   It takes a while."),
        ("code", "2. ~~~\n   make\n   ~~~"),
        ("list", "3. Fares:"),
        ("table", "   | who | crowns |\n   |-----|--------|\n   | dog | 1 |"),
        ("code", "4. ```\n   never closed"),
        ("list", "- another"),
        ("text", "After it."),
    ]


def test_pictures_pasted_into_markdown_are_emptied(read: Read) -> None:
    document = read(f"before ![x](data:image/png;base64,{'A' * 50_000}) after\n", "a.md")
    assert document.text == "before ![x](data:image/png;base64,) after\n"


RST = """\
.. _start:

=====
Title
=====

Section
-------

A paragraph::

    literal code

.. code-block:: python

    print("x")

+---+---+
| a | b |
+---+---+

===  ===
c    d
===  ===
1    2
===  ===

- item
"""


def test_restructured_text_keeps_sections_code_and_tables(read: Read) -> None:
    document = read(RST, "a.rst")
    kinds = outline_of(document)
    assert ("heading", "Title") in kinds
    assert ("heading", "Section") in kinds
    assert ("code", "    literal code") in kinds
    assert ("code", '.. code-block:: python\n\n    print("x")') in kinds
    assert ("table", "+---+---+\n| a | b |\n+---+---+") in kinds
    assert ("table", "===  ===\nc    d\n===  ===\n1    2\n===  ===") in kinds
    assert ("list", "- item") in kinds
    assert [block.level for block in document.blocks if block.kind == "heading"] == [1, 2]
    assert document.title == "Title"


def test_an_item_of_a_restructured_text_list_may_begin_with_code(read: Read) -> None:
    code = "- .. code-block:: python\n     :linenos:\n\n     def f():\n         return 1"
    assert outline_of(read(f"{code}\n\n  It returns.\n- next\n", "a.rst")) == [
        ("code", code),
        ("text", "  It returns.\n- next"),
    ]


def test_asciidoc_and_org_keep_sections_code_and_tables(read: Read) -> None:
    asciidoc = read("= Title\n\n== Part\n\nText.\n\n----\ncode\n----\n\n|===\n|a |b\n|===\n", "a.adoc")
    assert [kind for kind, _ in outline_of(asciidoc)] == ["heading", "heading", "text", "code", "table"]
    org = read("#+title: Notes\n* Part :tag:\nText.\n#+begin_src sh\nls\n#+end_src\n| a | b |\n", "a.org")
    assert [kind for kind, _ in outline_of(org)] == ["text", "heading", "text", "code", "table"]
    assert text_of(org, org.blocks[1]) == "Part"
    assert org.title == "Notes"


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.rst", "a.adoc", "a.org", "a.yaml", "a.toml", "a.kt"])
@given(text=st.text(alphabet="a#=-*|`~:.+ \n\t>1", min_size=1, max_size=120))
def test_no_text_breaks_the_promises(name: str, text: str) -> None:
    with contextlib.suppress(EmptyFile):
        assert_promises(parse(text.encode(), name=name))


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.rst", "a.adoc", "a.org"])
@pytest.mark.parametrize("filler", ["# ", "=", " \t", "| - ", "``` ", "a-", "> ", ":: "])
def test_long_lines_take_linear_time(name: str, filler: str) -> None:
    def seconds(count: int) -> float:
        """Of this thread alone, whatever else this process has to do."""
        data = ("x" + filler * count + "x\n" + "text\n").encode()
        gc.disable()
        try:
            started = time.thread_time()
            parse(data, name=name)
            return time.thread_time() - started
        finally:
            gc.enable()

    short = max(0.01, min(seconds(12_500) for _ in range(2)))
    # Eight times the text: not 64 times as long. What disturbs a measurement does not disturb three.
    assert any(seconds(100_000) < 30 * short for _ in range(3))
