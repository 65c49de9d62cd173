"""lxml with everything switched off by which a document could read files, reach the network or blow up."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from indexer.parsers.errors import ForbiddenEntities
from indexer.parsers.failures import file_title, malformed

if TYPE_CHECKING:
    from lxml import etree

_ENTITY = re.compile(rb"<!ENTITY\s+[^%\s]")
_PROLOG = 1 << 16  # bytes in which a document type stands
_TAG = re.compile(r"<[^<>]*>")
_XML_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


def parse_xml(data: bytes, *, name: str) -> etree._Element:
    """The root element of well-formed XML.

    Raises ForbiddenEntities when the document declares entities, MalformedFile when it is not XML.
    """
    from lxml import etree

    prolog = data[:_PROLOG]
    if b"\x00" in prolog:  # UTF-16 or -32
        prolog = prolog.replace(b"\x00", b"")
    if _ENTITY.search(prolog):
        raise ForbiddenEntities(
            f"{file_title(name)} declares XML entities, which can expand without limit.",
            hint="Save it with its entities expanded and without a DOCTYPE.",
        )
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        return etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise malformed(name, "XML", error.msg or "") from error


def parse_html(text: str) -> etree._Element | None:
    """The root element of HTML in whatever state it is; None when nothing is left of it."""
    from lxml import etree

    parser = etree.HTMLParser(
        encoding="utf-8", no_network=True, huge_tree=True, remove_comments=True, remove_pis=True
    )
    body = _XML_DECLARATION.sub("", text, count=1)
    try:
        root = etree.fromstring(body.encode("utf-8"), parser)
    except etree.LxmlError:  # nothing but comments
        return None
    if any("depth" in entry.message for entry in parser.error_log):
        # libxml2 stops where markup is nested beyond reason; the text does not.
        root = etree.Element("body")
        root.text = html.unescape(_TAG.sub(" ", body))
    return root


def local_name(element: etree._Element) -> str:
    """The element's name without its namespace; "" for comments and processing instructions."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""
