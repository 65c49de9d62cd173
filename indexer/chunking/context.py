"""The short header that is embedded with a chunk: where in the document it stands, and what it continues."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile

from indexer.chunking.values import Piece
from indexer.tokenization import ChunkTokenizer
from indexer.types import Block, Import, ParsedDocument

_LONGEST_HEADING = 160
_LONGEST_HEADING_SOURCE = 1024  # characters of a heading that are looked at for its title
_LONGEST_FIRST_LINE = 4096
_MOST_IMPORTS = 50  # that are tried
_IDENTIFIER = re.compile(r"[^\W\d][\w$]*|\$[\w$]*")
_QUALIFIER = re.compile(r"\.|::|#|/")
_MARKUP = (
    "#="
    + "".join(map(chr, (*range(9, 14), *range(28, 33), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B))))
    + (
        "\u2028\u2029\u202f\u205f\u3000"  # and all that is a blank
    )
)


def block_title(text: str, block: Block) -> str:
    """The title that a heading is; damaged files have headings of a megabyte, of which the beginning does."""
    return heading_title(text[block.start : min(block.end, block.start + _LONGEST_HEADING_SOURCE)])


def heading_title(text: str) -> str:
    """A heading as one line without its markup, cut to a sane length."""
    return " ".join(text.strip(_MARKUP).split())[:_LONGEST_HEADING].strip()


class ContextWriter:
    """Writes the contexts of one document's chunks, each bounded in tokens."""

    def __init__(self, document: ParsedDocument, tokenizer: ChunkTokenizer, *, max_tokens: int) -> None:
        self._document = document
        self._tokenizer = tokenizer
        self._title = heading_title(document.title)
        self._path_tokens = max_tokens // 6
        self._continuation_tokens = max_tokens // 5
        self._most_tokens = max_tokens // 4  # of a whole context
        self._imports: dict[str, list[Import]] = {}
        for each in document.imports:
            self._imports.setdefault(each.name, []).append(each)
        self._continued: dict[int, str] = {}  # block.start -> continuation
        self._last_path: tuple[list[str], str, int] = ([], "", 0)  # names, their line, its tokens
        self._tokens: dict[str, int] = {}  # of what contexts are put together from

    def section_tokens(self, path: tuple[str, ...]) -> int:
        """How many tokens the heading path may take in a context."""
        self._bounded(self._names(path))
        return self._last_path[2]

    def continuation(self, piece: Piece) -> str:
        """What a piece that starts inside its block has lost: a table's header row, the code's signature.

        A table that goes on from the page before has lost its header at its start.
        """
        block = piece.block
        if block.kind not in ("table", "code"):
            return ""
        goes_on = block.kind == "table" and block.signature != ""
        if piece.start <= block.start and not goes_on:
            return ""
        if block.start not in self._continued:
            self._continued = {block.start: self._first_line(piece)}
        return self._continued[block.start]

    def write(self, path: tuple[str, ...], pieces: Sequence[Piece]) -> str:
        """The context of a chunk of these pieces: what its own text does not say already."""
        text = self._document.text
        names = self._names(path)
        if own := [block_title(text, piece.block) for piece in pieces if piece.block.kind == "heading"]:
            names = [name for name in names if name not in own]
        scope = code_scope(pieces) if pieces[0].block.kind == "code" else pieces[0].block.name
        if scope and scope not in names:
            names.append(heading_title(scope))
        line, continuation = self._bounded(names), self.continuation(pieces[0])
        return f"{line}\n{continuation}" if line and continuation else line or continuation

    def with_imports(self, context: str, start: int, end: int, *, room: int) -> str:
        """The context with the imports that the text [start:end) uses and does not show, as far as they fit.

        "imports numpy as np, pathlib.Path": the names alone do not say where things come from. `room` is for
        how many tokens there is room.
        """
        if not self._imports or room < 1 or not self._may_use(start, end):
            return context
        tokens = self._tokenizer.count(context)
        most_tokens = min(self._most_tokens, tokens + room)
        longest, line = context, ""
        for shown in self._used(start, end):
            before = ", " if line else "imports "
            line += before + shown
            longer = f"{context}\n{line}" if context else line
            if self._tokenizer.words_add_up:  # and so do words and commas
                tokens += self._tokens_of(before) + self._tokens_of(shown)
            else:
                tokens = self._tokenizer.count(longer)
            if tokens > most_tokens:
                break
            longest = longer
        return longest

    def _may_use(self, start: int, end: int) -> bool:
        """False where none of the imports' names occurs; quicker than to see which names there are."""
        return any(self._document.text.find(name, start, end) >= 0 for name in self._imports)

    def _used(self, start: int, end: int) -> Iterator[str]:
        """The imports whose names occur in the text, in order of occurrence, each as people write it."""
        names = dict.fromkeys(_IDENTIFIER.findall(self._document.text, start, end))
        found = (each for name in names if name in self._imports for each in self._imports[name])
        elsewhere = (each for each in found if not start <= each.start < end)
        return islice(dict.fromkeys(map(_as_written, elsewhere)), _MOST_IMPORTS)

    def _names(self, path: tuple[str, ...]) -> list[str]:
        title = [] if not self._title or (path and path[0] == self._title) else [self._title]
        return [*title, *path]

    def _bounded(self, names: list[str]) -> str:
        """The last names that fit, joined; they say more about the chunk than the first ones."""
        if names != self._last_path[0]:
            self._last_path = (names, *self._joined(names))
        return self._last_path[1]

    def _joined(self, names: Sequence[str]) -> tuple[str, int]:
        joined, tokens = "", 0
        for name in reversed(names):
            longer = f"{name} > {joined}" if joined else name
            if self._tokenizer.words_add_up:
                more = tokens + self._tokens_of(name) + (self._tokens_of(">") if joined else 0)
            else:
                more = self._tokenizer.count(longer)
            if more > self._path_tokens:
                if joined:
                    break
                joined = self._tokenizer.truncate(name, self._path_tokens)
                return joined, self._tokenizer.count(joined)
            joined, tokens = longer, more
        return joined, tokens

    def _tokens_of(self, part: str) -> int:
        tokens = self._tokens.get(part)
        if tokens is None:
            tokens = self._tokens[part] = self._tokenizer.count(part)
        return tokens

    def _first_line(self, piece: Piece) -> str:
        """A table's header row, a signature, the first line of other code; cut so that it leaves room."""
        text, block = self._document.text, piece.block
        if block.signature:
            return self._tokenizer.truncate(block.signature, self._continuation_tokens)
        first_line = text[block.start : min(block.end, block.start + _LONGEST_FIRST_LINE)].split("\n", 1)[0]
        return self._tokenizer.truncate(first_line, self._continuation_tokens)


def _as_written(imported: Import) -> str:
    """ "numpy as np", or "pathlib.Path" where the name is what a dotted one or a path ends or begins with."""
    parts = _QUALIFIER.split(imported.source)
    if imported.name in (parts[0], parts[-1]):
        return imported.source
    return f"{imported.source} as {imported.name}"


def code_scope(pieces: Sequence[Piece]) -> str:
    """The innermost qualified name that holds all the pieces of a chunk of code; "" if there is none."""
    if any(piece.block.kind != "code" for piece in pieces):
        return ""
    names = [piece.block.name for piece in pieces]
    if len(set(names)) == 1:
        return names[0]
    levels = zip(*(_QUALIFIER.split(name) for name in names), strict=False)
    shared = takewhile(lambda parts: len(set(parts)) == 1, levels)
    return ".".join(parts[0] for parts in shared)
