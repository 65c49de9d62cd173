"""What reviewers wrote into workbooks and presentations. OOXML keeps it in parts beside what it is about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from indexer.parsers.archives import DocumentArchive
from indexer.parsers.normalise import one_line
from indexer.parsers.ooxml import attribute, child, descendants
from indexer.parsers.xml import local_name

if TYPE_CHECKING:
    from lxml import etree

_THREADED = "tc="  # how the authors of comments are called that are repeated in another part, with replies


class Comment(NamedTuple):
    """One comment, or a reply to one."""

    author: str
    text: str
    place: str = ""  # the cell of a sheet

    @property
    def line(self) -> str:
        """The comment as a line of text."""
        place = f"{self.place}: " if self.place else ""
        return f"{place}Comment by {self.author}: {self.text}" if self.author else f"{place}{self.text}"


def sheet_comments(archive: DocumentArchive, sheet: str, people: dict[str, str]) -> Iterator[Comment]:
    """The comments on the cells of a sheet, given its member; `people` is what `people_of` says."""
    relations = archive.relations(sheet).values()
    is_threaded = any(kind == "threadedComment" for kind, _ in relations)
    for kind, target in relations:
        root = archive.xml(target) if kind in ("comments", "threadedComment") else None
        if root is None:
            continue
        authors = [element.text or "" for element in descendants(root, "author")]
        for element in descendants(root, "threadedComment" if kind == "threadedComment" else "comment"):
            number = attribute(element, "authorId") or ""
            author = authors[int(number)] if number.isdecimal() and int(number) < len(authors) else ""
            author = people.get(attribute(element, "personId") or "", author)
            comment = Comment(author, _text_of(element), attribute(element, "ref") or "")
            if comment.text and not (is_threaded and author.startswith(_THREADED)):
                yield comment


def slide_comments(archive: DocumentArchive, slide: str, people: dict[str, str]) -> Iterator[Comment]:
    """The comments on a slide and the replies to them, given its member."""
    for kind, target in archive.relations(slide).values():
        root = archive.xml(target) if kind == "comments" else None
        for element in root.iter("{*}cm", "{*}reply") if root is not None else ():
            body = child(element, "txBody")
            text = _text_of(element if body is None else body)
            if text:
                yield Comment(people.get(attribute(element, "authorId") or "", ""), text)


def people_of(archive: DocumentArchive, part: str) -> dict[str, str]:
    """The names of those who wrote comments, by the ids that the comments have, given the main part."""
    names: dict[str, str] = {}
    for kind, target in archive.relations(part).values():
        root = archive.xml(target) if kind in ("person", "commentAuthors", "authors") else None
        for element in root if root is not None else ():
            name = attribute(element, "displayName") or attribute(element, "name") or ""
            names[attribute(element, "id") or ""] = one_line(name)
    return names


def _text_of(element: etree._Element) -> str:
    """The text below an element, paragraphs parted by spaces."""
    pieces = []
    for inner in element.iter("{*}p", "{*}t", "{*}text"):
        pieces.append(" " if local_name(inner) == "p" or len(inner) else inner.text or "")
    return one_line("".join(pieces))
