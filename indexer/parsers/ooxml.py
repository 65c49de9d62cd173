"""What the office formats of OOXML share. Names go without namespaces: strict files have others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from indexer.parsers.archives import DocumentArchive
from indexer.parsers.failures import malformed
from indexer.parsers.xml import local_name

if TYPE_CHECKING:
    from lxml import etree


_DELETED = ("del", "moveFrom")


def main_part(archive: DocumentArchive, default: str) -> str:
    """The member that holds the document itself."""
    for kind, target in archive.relations("").values():
        if kind == "officeDocument" and target in archive:
            return target
    if default not in archive:
        raise malformed(archive.name, "an office document", "its main part is missing")
    return default


def core_properties(archive: DocumentArchive) -> dict[str, str]:
    """Title, author, creation date and the like."""
    root = archive.xml("docProps/core.xml")
    names = {
        "title": "title",
        "creator": "author",
        "subject": "subject",
        "created": "created",
        "keywords": "keywords",
    }
    return {
        names[local_name(element)]: (element.text or "").strip()
        for element in (root if root is not None else ())
        if local_name(element) in names
    }


def picture_relations(element: etree._Element) -> Iterator[str]:
    """The ids of the relations that lead to the pictures below an element, of DrawingML and of the older VML.

    Those that were deleted while changes were tracked are left out.
    """
    for picture in element.iter("{*}blip", "{*}imagedata"):
        relation = attribute(picture, "embed") if local_name(picture) == "blip" else attribute(picture, "id")
        if relation and not any(local_name(ancestor) in _DELETED for ancestor in picture.iterancestors()):
            yield relation


def attribute(element: etree._Element | None, name: str) -> str | None:
    """An attribute by its name without namespace."""
    if element is None:
        return None
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return value
    return None


def child(element: etree._Element | None, *path: str) -> etree._Element | None:
    """The first descendant along a path of names."""
    for name in path:
        if element is None:
            break
        element = next(element.iterchildren(f"{{*}}{name}"), None)
    return element


def descendants(element: etree._Element, name: str) -> Iterator[etree._Element]:
    """All descendants of a name, in document order."""
    return element.iter(f"{{*}}{name}")
