"""Hits and answers as plain text that fits the terminal."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING

from ragserve.cli.output import fill

if TYPE_CHECKING:
    from indexer.types import LineRange
    from ragserve.answers import Answer, Citation
    from retriever.types import Hit, SearchResult

_SNIPPET_LINES = 3
_MOST_COPIES = 5  # of a file that are named


def sources(answer: Answer, width: int) -> str:
    """Returns what an answer rests on: file, page or lines, score, quotes; or the nearest passages."""
    if not answer.supported:
        if not answer.hits:
            return ""
        return "\n".join(["Nearest passages:", *(_hit(hit, width) for hit in answer.hits)])
    quotes: dict[int, list[Citation]] = {}
    for citation in answer.citations:
        quotes.setdefault(citation.mark, []).append(citation)
    scores = {hit.rank: hit.score for hit in answer.hits}
    lines = ["Sources:"]
    for mark, citations in quotes.items():
        first = f"  [{mark}] "
        where = _where(citations[0].uri, citations[0].page, citations[0].lines)
        lines.append(fill(f"{where} (score {scores[mark]:.3f})", first=first, width=width))
        lines.extend(_copies(citations[0].other_uris, indent=len(first), width=width))
        lines.extend(_quote(citation.quote, indent=len(first), width=width) for citation in citations)
    return "\n".join(lines)


def hits(result: SearchResult, width: int) -> str:
    """Returns search hits, best first: file, page or lines, score, heading and the beginning of the text."""
    if not result.hits:
        return "No passage found."
    return "\n".join(_hit(hit, width) for hit in result.hits)


def explanation(result: SearchResult, width: int) -> str:
    """Returns how passages were found: the cache tier, what the retriever says of it, its timings."""
    lines = [f"Retrieval: {result.tier}"]
    for name, value in result.explanation.items():
        lines.extend(_explained(name, value, width))
    return "\n".join([*lines, *_milliseconds(result.timings)])


def timings(answer: Answer) -> str:
    """Returns what took how long in an answer."""
    return "\n".join(["Answer:", *_milliseconds(answer.timings)])


def display_path(uri: str) -> str:
    """Returns a path as the user would type it here, if that is shorter."""
    try:
        relative = os.path.relpath(uri) if os.path.isabs(uri) else uri
    except (OSError, ValueError):  # the working directory is gone, or another drive
        return uri
    return uri if relative.startswith(f"..{os.sep}..") or len(relative) > len(uri) else relative


class WrappingWriter:
    """Writes text that arrives in pieces, breaking lines between words; indents and gaps stay as they are.

    A word is held back until it is whole.
    """

    def __init__(self, stream: IO[str], width: int) -> None:
        self._stream = stream
        self._width = width
        self._column = 0
        self._gap = ""
        self._word = ""

    def write(self, text: str) -> None:
        """Takes the next piece."""
        for character in text:
            if character == "\n":
                self._end_line()
            elif character.isspace():
                self._end_word()
                self._gap += character
            else:
                self._word += character
        self._stream.flush()

    def finish(self) -> None:
        """Writes what is held back and ends the line."""
        if self._column or self._word:
            self._end_line()
        self._stream.flush()

    def _end_line(self) -> None:
        self._end_word()
        self._stream.write("\n")
        self._column, self._gap = 0, ""

    def _end_word(self) -> None:
        if not self._word:
            return
        if self._column and self._column + len(self._gap) + len(self._word) > self._width:
            self._stream.write("\n")
            self._column, self._gap = 0, ""
        self._stream.write(self._gap + self._word)
        self._column += len(self._gap) + len(self._word)
        self._gap = self._word = ""


def _hit(hit: Hit, width: int) -> str:
    first = f"{hit.rank:>3}. "
    chunk = hit.chunk
    where = _where(chunk.uri, chunk.page, chunk.lines)
    lines = [fill(f"{where} (score {hit.score:.3f})", first=first, width=width)]
    indent = " " * len(first)
    lines.extend(_copies(chunk.other_uris, indent=len(first), width=width))
    if chunk.heading_path:
        lines.append(
            textwrap.shorten(indent + " > ".join(chunk.heading_path), width=width, placeholder=" ...")
        )
        lines[-1] = indent + lines[-1].strip()
    lines.extend(_snippet(chunk.text, indent, width))
    return "\n".join(lines)


def _snippet(text: str, indent: str, width: int) -> Iterator[str]:
    wrapped = textwrap.wrap(
        " ".join(text.split()),
        width=width - len(indent),
        max_lines=_SNIPPET_LINES,
        placeholder=" ...",
        break_on_hyphens=False,
    )
    return (indent + line for line in wrapped)


def _quote(quote: str, *, indent: int, width: int) -> str:
    shown = textwrap.wrap(
        f'"{" ".join(quote.split())}"',
        width=width - indent,
        max_lines=_SNIPPET_LINES,
        placeholder=' ..."',
        break_on_hyphens=False,
    )
    return "\n".join(" " * indent + line for line in shown)


def _copies(uris: Sequence[str], *, indent: int, width: int) -> Iterator[str]:
    """A line for each of the other files with the same content; beyond a few, how many there are."""
    first = " " * indent
    for uri in uris[:_MOST_COPIES]:
        yield fill(f"also {display_path(uri)}", first=first, width=width)
    if len(uris) > _MOST_COPIES:
        yield f"{first}and {len(uris) - _MOST_COPIES:,} more copies"


def _where(uri: str, page: int | None, lines: LineRange | None) -> str:
    path = display_path(uri)
    if page is not None:
        return f"{path}, page {page}"
    if lines is None:
        return path
    first, last = lines
    return f"{path}, line {first}" if first == last else f"{path}, lines {first}-{last}"


def _explained(name: str, value: object, width: int) -> Iterator[str]:
    """A line; of a list of things that were done, a line each."""
    if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        for one in value:
            facts = ", ".join(f"{key} {fact}" for key, fact in one.items())
            yield fill(f"{name}: {facts}", first="  ", width=width)
    else:
        yield fill(f"{name}: {value}", first="  ", width=width)


def _milliseconds(seconds: Mapping[str, float]) -> list[str]:
    return [f"  {name}: {value * 1000:.1f} ms" for name, value in seconds.items()]
