"""Jupyter notebooks by cell: Markdown with its headings, code, and what code printed."""

from __future__ import annotations

import json
from collections.abc import Iterable

from indexer.parsers.building import DocumentBuilder
from indexer.parsers.decoding import decode_text
from indexer.parsers.failures import malformed
from indexer.parsers.markdown import markdown_blocks
from indexer.parsers.normalise import normalise_text
from indexer.parsers.options import ParseOptions
from indexer.parsers.source import drop_data_uris
from indexer.types import ParsedDocument

_LONGEST_OUTPUT = 4000  # characters of what one cell printed


def parse_notebook(data: bytes, *, name: str, options: ParseOptions, format: str) -> ParsedDocument:
    """Read a notebook of format version 3 or 4; blocks of code are named after their cell."""
    try:
        notebook = json.loads(decode_text(data, name=name).text)
    except json.JSONDecodeError as error:
        raise malformed(name, "a notebook", error.msg) from error
    cells = _cells(notebook)
    if cells is None:
        raise malformed(name, "a notebook", "it has no cells")
    builder = DocumentBuilder(name=name, options=options)
    num_cut = 0
    for number, cell in enumerate(cells, start=1):
        source = normalise_text(_joined(cell.get("source", cell.get("input"))))
        if cell.get("cell_type") == "code":
            builder.add("code", source, name=f"cell {number}")
            for output in _printed(cell.get("outputs")):
                builder.add("text", output[:_LONGEST_OUTPUT], name=f"output of cell {number}")
                num_cut += len(output) > _LONGEST_OUTPUT
        elif cell.get("cell_type") == "heading":
            builder.heading(source, level=int(cell.get("level") or 1))
        else:
            text = drop_data_uris(source)
            for block in markdown_blocks(text):
                builder.add(block.kind, text[block.start : block.end], level=block.level)
    if num_cut:
        builder.warn(f"{num_cut:,} outputs of cells were cut after {_LONGEST_OUTPUT:,} characters.")
    language = _dig(notebook, "metadata", "kernelspec", "language") or _dig(
        notebook, "metadata", "language_info", "name"
    )
    return builder.build(format=format, parser="json", metadata={"language": str(language or "")})


def _cells(notebook: object) -> list[dict] | None:
    if not isinstance(notebook, dict):
        return None
    cells = notebook.get("cells")
    if cells is None:  # version 3
        sheets = notebook.get("worksheets")
        cells = (
            sheets[0].get("cells")
            if isinstance(sheets, list) and sheets and isinstance(sheets[0], dict)
            else None
        )
    return [cell for cell in cells if isinstance(cell, dict)] if isinstance(cells, list) else None


def _printed(outputs: object) -> Iterable[str]:
    """The text of a cell's outputs; pictures, widgets and HTML repeat it or are none."""
    for output in outputs if isinstance(outputs, list) else []:
        if isinstance(output, dict):
            text = output.get("text") or _dig(output, "data", "text/plain")
            if output.get("output_type") == "error":
                text = f"{output.get('ename', '')}: {output.get('evalue', '')}"
            yield _joined(text)


def _joined(source: object) -> str:
    """Notebooks keep text as a string or as a list of lines."""
    if isinstance(source, list):
        return "".join(map(str, source))
    return source if isinstance(source, str) else ""


def _dig(value: object, *keys: str) -> object:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
