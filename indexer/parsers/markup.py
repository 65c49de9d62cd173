"""HTML becomes headings, paragraphs, lists, tables and code; XML becomes an outline of its elements."""

from __future__ import annotations

from indexer.parsers.building import DocumentBuilder
from indexer.parsers.decoding import decode_text
from indexer.parsers.errors import ForbiddenEntities, MalformedFile
from indexer.parsers.failures import nested_too_deep
from indexer.parsers.html import HtmlWalker, html_metadata
from indexer.parsers.normalise import normalise_text
from indexer.parsers.options import ParseOptions
from indexer.parsers.outline import Outline, add_outline
from indexer.parsers.source import SourceLines
from indexer.parsers.text import paragraph_blocks
from indexer.parsers.xml import local_name, parse_html, parse_xml
from indexer.types import ParsedDocument

_XHTML = "http://www.w3.org/1999/xhtml"


def parse_markup(data: bytes, *, name: str, options: ParseOptions, format: str) -> ParsedDocument:
    """Read HTML in any state, and well-formed XML; XML that is not well-formed is read as tag soup."""
    builder = DocumentBuilder(name=name, options=options)
    if format == "html":
        return _parse_html(data, builder)
    try:
        root = parse_xml(data, name=name)
    except ForbiddenEntities:
        raise
    except MalformedFile as error:
        if "depth" in error.message:
            raise nested_too_deep(name) from error
        builder.warn(f"{error.message} Its text was read without its structure.")
        return _parse_html(data, builder, format="xml")
    if root.tag == f"{{{_XHTML}}}html":
        return _parse_html(data, builder)
    add_outline(builder, _outline_element(root, options.max_depth, name))
    return builder.build(format="xml", parser="lxml")


def add_html(builder: DocumentBuilder, text: str, *, base_level: int = 0) -> str:
    """Append the blocks of an HTML text to a document that is being built; returns the HTML's title."""
    root = parse_html(normalise_text(text))
    if root is None:
        return ""
    HtmlWalker(builder, base_level=base_level).walk(root)
    return html_metadata(root)[0]


def _parse_html(data: bytes, builder: DocumentBuilder, format: str = "html") -> ParsedDocument:
    decoded = decode_text(data, name=builder.name)
    if decoded.num_replaced:
        builder.warn(f"{decoded.num_replaced} characters could not be decoded as {decoded.encoding}.")
    root = parse_html(normalise_text(decoded.text))
    title, metadata = "", {}
    if root is not None:
        HtmlWalker(builder).walk(root)
        title, metadata = html_metadata(root)
    if builder.is_empty:
        # Pages that are all script or frames, and text that is no markup at all.
        source = SourceLines(title)
        for block in paragraph_blocks(source):
            builder.add("text", source.text[block.start : block.end])
    return builder.build(format=format, parser="lxml", title=title, metadata=metadata)


def _outline_element(element: object, depth: int, name: str) -> Outline:
    """An element as a labelled outline: attributes, text, children, and the text between them, in order."""
    if depth <= 0:
        raise nested_too_deep(name)
    children = [Outline(key.rpartition("}")[2], value) for key, value in element.attrib.items()]
    text = (element.text or "").strip()
    if text and (len(element) or children):
        children.append(Outline("", text))
    for child in element:
        label = local_name(child)
        if label:
            children.append(_outline_element(child, depth - 1, name))
        if (child.tail or "").strip():
            children.append(Outline("", child.tail.strip()))
    return Outline(local_name(element), "" if children else text, tuple(children))
