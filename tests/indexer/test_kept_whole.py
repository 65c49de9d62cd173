"""From the file to its chunks: what belongs together stays together, and a chunk says where it belongs."""

from __future__ import annotations

import pytest

from indexer.chunking import ChunkDraft, chunk_document
from indexer.parsers import parse
from indexer.tokenization import ChunkTokenizer
from indexer.types import ParsedDocument

SENTENCE = "The ferry leaves the northern pier at nine and comes back in the evening of each day. "
TARGET, MOST = 192, 245  # tokens
CODE = "\n".join(f"    fare_{number} = base * {number} + toll" for number in range(23))
ROWS = [(f"pier {number}", f"{number}.50", f"{number + 9}.00") for number in range(18)]


def chunked(text: str, name: str, tokenizer: ChunkTokenizer) -> tuple[ParsedDocument, list[ChunkDraft]]:
    document = parse(text.encode(), name=name)
    return document, chunk_document(document, tokenizer, max_tokens=256)


def chunk_texts(text: str, name: str, tokenizer: ChunkTokenizer) -> list[str]:
    document, drafts = chunked(text, name, tokenizer)
    return [document.text[draft.start : draft.end] for draft in drafts]


def markdown(lead: str) -> tuple[str, list[str]]:
    code = f"```python\ndef fares():\n{CODE}\n```"
    table = "\n".join(
        ["| pier | adult | car |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in ROWS)]
    )
    return f"# Fares\n\n{lead}\n\n{code}\n\n{lead}\n\n{table}\n\n{lead}\n", [code, table]


def html(lead: str) -> tuple[str, list[str]]:
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in ROWS)
    page = (
        f"<html><body><h1>Fares</h1><p>{lead}</p><pre><code>def fares():\n{CODE}</code></pre><p>{lead}</p>"
        f"<table><tr><th>pier</th><th>adult</th><th>car</th></tr>{rows}</table><p>{lead}</p></body></html>"
    )
    table = "\n".join(["pier | adult | car", "--- | --- | ---", *(" | ".join(row) for row in ROWS)])
    return page, [f"def fares():\n{CODE}", table]


def rst(lead: str) -> tuple[str, list[str]]:
    code = f".. code-block:: python\n\n    def fares():\n{CODE.replace('    ', '        ')}"
    rule = "=========  =====  ====="
    cells = (f"{pier:<9}  {adult:<5}  {car}" for pier, adult, car in ROWS)
    table = "\n".join([rule, "pier       adult  car", rule, *cells, rule])
    return f"Fares\n=====\n\n{lead}\n\n{code}\n\n{lead}\n\n{table}\n\n{lead}\n", [code, table]


@pytest.mark.parametrize("num_sentences", [1, 4, 9, 14])
@pytest.mark.parametrize(("name", "write"), [("a.md", markdown), ("a.html", html), ("a.rst", rst)])
def test_code_blocks_and_tables_that_fit_are_never_cut(
    name: str, write, num_sentences: int, minilm_tokenizer: ChunkTokenizer
) -> None:
    """However much text stands around them, and so wherever the end of a chunk would fall."""
    text, kept_whole = write((SENTENCE * num_sentences).strip())
    chunks = chunk_texts(text, name, minilm_tokenizer)
    assert len(chunks) > 1
    for block in kept_whole:
        assert TARGET < minilm_tokenizer.count(block) < MOST, "more than chunks usually have, and it fits"
        assert sum(block in chunk for chunk in chunks) == 1, block


def method(number: int, num_lines: int) -> str:
    body = "\n".join(f"        self.fare += tolls[{line}] * {number}" for line in range(num_lines))
    return f'    def fare_{number}(self, tolls: list[int]) -> None:\n        """Add toll {number}."""\n{body}'


@pytest.mark.parametrize("num_lines", [2, 6, 11, 16])
def test_functions_and_methods_that_fit_are_never_cut(
    num_lines: int, minilm_tokenizer: ChunkTokenizer
) -> None:
    methods = [method(number, num_lines) for number in range(12)]
    source = "class Ferry:\n" + "\n\n".join(methods) + "\n"
    chunks = chunk_texts(source, "a.py", minilm_tokenizer)
    assert len(chunks) > 1
    for each in methods:
        assert sum(each.strip() in chunk for chunk in chunks) == 1


def test_a_class_that_fits_is_one_chunk(minilm_tokenizer: ChunkTokenizer) -> None:
    small = "class Ferry:\n" + "\n\n".join(method(number, 1) for number in range(3))
    large = "\n\n".join(
        f"def other_{number}():\n    return {number}\n    # {SENTENCE}" for number in range(20)
    )
    chunks = chunk_texts(f"{large}\n\n\n{small}\n", "a.py", minilm_tokenizer)
    assert len(chunks) > 2
    assert sum(small in chunk for chunk in chunks) == 1


def test_each_part_of_a_long_function_has_its_signature_its_docstring_and_its_imports(
    minilm_tokenizer: ChunkTokenizer,
) -> None:
    body = "\n".join(f"    total += np.sum(tolls[{line}]) * math.sqrt({line})" for line in range(60))
    source = (
        "import math\nimport numpy as np\nimport unused\n\n\n"
        'def fares(tolls: list, *, season: str = "high") -> float:\n    """What a year brings in."""\n'
        f"    total = 0.0\n{body}\n"
    )
    _, drafts = chunked(source, "a.py", minilm_tokenizer)
    parts = [draft for draft in drafts if draft.heading_path == ("fares",)]
    assert len(parts) > 3
    signature = 'def fares(tolls: list, *, season: str = "high") -> float: What a year brings in.'
    for part in parts[1:]:
        name, said, imports = part.context.split("\n")
        assert (name, said) == ("fares", signature)
        assert imports in ("imports numpy as np, math", "imports math, numpy as np")
