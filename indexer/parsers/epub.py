"""Books: the chapters of an EPUB in the order of its spine."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING
from urllib.parse import unquote

from indexer.parsers.archives import DocumentArchive
from indexer.parsers.building import DocumentBuilder
from indexer.parsers.decoding import decode_text
from indexer.parsers.errors import EncryptedFile
from indexer.parsers.failures import file_title, malformed
from indexer.parsers.markup import add_html
from indexer.parsers.ooxml import attribute, child, descendants
from indexer.parsers.options import ParseOptions
from indexer.parsers.xml import local_name
from indexer.types import ParsedDocument

if TYPE_CHECKING:
    from lxml import etree

_CHAPTERS = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")


def parse_epub(data: bytes, *, name: str, options: ParseOptions, format: str) -> ParsedDocument:
    """Read an EPUB. Raises EncryptedFile for books with DRM."""
    archive = DocumentArchive(data, name=name, options=options)
    if "META-INF/rights.xml" in archive or "META-INF/license.lcpl" in archive:
        raise EncryptedFile(f"{file_title(name)} is protected by DRM.", hint="Use a copy without DRM.")
    container = archive.xml("META-INF/container.xml")
    roots = descendants(container, "rootfile") if container is not None else iter(())
    package_path = next((attribute(element, "full-path") or "" for element in roots), "")
    package = archive.xml(package_path) if package_path else None
    if package is None:
        raise malformed(name, "an EPUB", "its package file is missing")
    builder = DocumentBuilder(name=name, options=options)
    for chapter in _chapters(package, posixpath.dirname(package_path)):
        text = archive.read(chapter)
        if text:
            add_html(builder, decode_text(text, name=chapter).text)
        else:
            builder.warn(f"The chapter {chapter} is missing.")
    metadata = _metadata(package)
    return builder.build(format="epub", parser="lxml", title=metadata.pop("title", ""), metadata=metadata)


def _chapters(package: etree._Element, folder: str) -> list[str]:
    """Members that hold chapters, in reading order; the table of contents is left out."""
    manifest = {
        attribute(item, "id") or "": item
        for item in descendants(package, "item")
        if attribute(item, "media-type") in _CHAPTERS
        and "nav" not in (attribute(item, "properties") or "").split()
    }
    spine = (attribute(reference, "idref") or "" for reference in descendants(package, "itemref"))
    items = [manifest[key] for key in spine if key in manifest] or list(manifest.values())
    return [
        posixpath.normpath(posixpath.join(folder, unquote(attribute(item, "href") or ""))) for item in items
    ]


def _metadata(package: etree._Element) -> dict[str, str]:
    section = child(package, "metadata")
    names = {
        "title": "title",
        "creator": "author",
        "date": "created",
        "language": "language",
        "publisher": "publisher",
    }
    found: dict[str, str] = {}
    for element in section if section is not None else ():
        if local_name(element) in names and element.text:
            found.setdefault(names[local_name(element)], element.text.strip())
    return found
