"""The words of a window of text and the running sum of their tokens, by a few passes over all of it."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping

import numpy as np

from indexer.characters import ALONE, CONTROL, LETTER, OTHER, SPACE, Characters, CharacterTable
from indexer.word_pieces import PartCounts


class Window:
    """text[start:end] and its tokens, but for those of words that its edges cut."""

    __slots__ = ("_odd", "_totals", "end", "kinds", "letters", "start", "sums")

    def __init__(self, start: int, characters: Characters, sums: np.ndarray, odd: list[int]) -> None:
        self.start = start
        self.kinds, self.letters = characters
        self.end = start + len(self.kinds)
        self.sums = sums  # (n + 1,) int32, tokens that start before each character
        self._totals = memoryview(sums)  # gives single numbers several times faster
        self._odd = odd  # offsets in the text, sorted: a word with one of these has to be counted by itself

    def tokens(self, start: int, end: int) -> int:
        """Of text[start:end], which cuts no word."""
        return self._totals[end - self.start] - self._totals[start - self.start]

    def has_odd(self, start: int, end: int) -> bool:
        """Whether the sums do not hold for text[start:end], though it cuts no word."""
        return bool(self._odd) and bool(self.odd_within(start, end))

    def odd_within(self, start: int, end: int) -> list[int]:
        """Offsets in words that the sums do not hold for, and of control characters."""
        return self._odd[bisect_left(self._odd, start) : bisect_left(self._odd, end)]

    def last_space(self, start: int, end: int) -> int:
        """Where the last blank of text[start:end] is; -1 if there is none."""
        found = (self.kinds[start - self.start : end - self.start] & SPACE).nonzero()[0]
        return start + int(found[-1]) if len(found) else -1


class WindowReader:
    """Reads windows for one tokenizer. Remembers words; not thread-safe."""

    def __init__(
        self,
        characters: CharacterTable,
        parts: PartCounts,
        words: Mapping[str, int],
        *,
        longest_unit: int,
        longest_word: int,
    ) -> None:
        self._characters = characters
        self._parts = parts
        self._words = words
        self._any_special = re.compile("|".join(map(re.escape, parts.pieces.special)) or r"(?!)")
        self.longest_unit = longest_unit  # characters of a word, or of a part of one, that is not divided
        self._longest_word = longest_word  # characters; a longer one is tokenised in slices

    def read(self, text: str, start: int, end: int) -> Window:
        """The window text[start:end]; linear in its length."""
        text = text[start:end]
        kinds, letters = self._characters.read(text)
        tokens = np.empty(len(text) + 1, np.int32)
        tokens[0] = 0
        np.not_equal(kinds & ALONE, 0, out=tokens[1:])
        self._add_parts(kinds, letters, tokens[1:])
        flags = int(np.bitwise_or.reduce(kinds))
        odd: list[int] = []
        if flags & OTHER:
            self._add_others(text, kinds, tokens[1:])
        if flags & CONTROL:
            odd += (kinds & CONTROL).nonzero()[0].tolist()
        if self._any_special.search(text):
            odd += (match.start() for match in self._any_special.finditer(text))
        if len(text) > self._longest_word:
            odd += _starts_of_endless(kinds, self._longest_word)
        np.add.accumulate(tokens, out=tokens)
        return Window(start, Characters(kinds, letters), tokens, sorted(start + position for position in odd))

    def count(self, text: str) -> int | None:
        """The tokens of a text of at most a window; None if it has to be counted word by word."""
        if len(text) > self._longest_word or not text.isascii():
            window = self.read(text, 0, len(text))
            return None if window.has_odd(0, len(text)) else window.tokens(0, len(text))
        if self._any_special.search(text):
            return None
        letters, num_alone = self._characters.read_ascii(text)
        return None if letters is None else num_alone + sum(map(self._parts.__getitem__, letters.split()))

    def divide(self, window: Window, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, ...]:
        """((n,) starts, ends, tokens) of what long words may be cut into; none of them is odd or has OTHERs.

        Every token is a part; one of unknown letters, however many, has no more than `longest_unit` of them.
        The offsets are in the window.
        """
        first, last = int(starts[0]), int(ends[-1])
        kinds = window.kinds[first:last]
        begins = np.ones(last - first, bool)
        np.greater(kinds[1:] & LETTER, kinds[:-1] & LETTER, out=begins[1:])
        begins |= (kinds & ALONE) != 0
        places = first + (begins & _inside(starts - first, ends - first, last - first)).nonzero()[0]
        word_ends = ends[starts.searchsorted(places, "right") - 1]
        tokens = window.sums[places + 1] - window.sums[places]
        stops = np.minimum(np.append(places[1:], last), word_ends)
        cuts: list[tuple[int, int, int]] = []
        further = ((tokens > 1) | (stops - places > self.longest_unit)).nonzero()[0]
        for start, stop, word_end in zip(
            *(a[further].tolist() for a in (places, stops, word_ends)), strict=True
        ):
            cuts += (
                (at, word_end, is_token) for at, is_token in self._cuts(window.letters[start:stop], start)
            )
        if cuts:
            more = np.array(cuts, np.int64).T
            places = np.concatenate((places, more[0]))
            order = np.argsort(places, kind="stable")
            places = places[order]
            word_ends = np.concatenate((word_ends, more[1]))[order]
            tokens = np.concatenate((np.ones(len(tokens), np.int64), more[2]))[order]
        return places, np.minimum(np.append(places[1:], last), word_ends), tokens

    def _cuts(self, part: str, start: int) -> Iterator[tuple[int, int]]:
        """(offset, whether a token starts there) of every cut within a part that starts at `start`."""
        at = start
        for length in self._parts.lengths(part):
            if at > start:
                yield at, 1
            for cut in range(at + self.longest_unit, at + length, self.longest_unit):
                yield cut, 0
            at += length

    def _add_parts(self, kinds: np.ndarray, letters: str, tokens: np.ndarray) -> None:
        """The tokens of every stretch of letters, where it starts."""
        parts = letters.split()
        if not parts:
            return
        counts = np.fromiter(map(self._parts.__getitem__, parts), np.int32, len(parts))
        inside = kinds & LETTER
        if inside[0]:
            tokens[0], counts = counts[0], counts[1:]
        tokens[1 + (inside[1:] > inside[:-1]).nonzero()[0]] = counts

    def _add_others(self, text: str, kinds: np.ndarray, tokens: np.ndarray) -> None:
        """The tokens of the words that only the tokenizer can count, instead of what was found of them."""
        starts, ends = word_edges(kinds)
        which = np.unique(starts.searchsorted((kinds & OTHER).nonzero()[0], "right") - 1)
        which = which[ends[which] - starts[which] <= self._longest_word]
        starts, ends = starts[which], ends[which]
        tokens[_inside(starts, ends, len(text))] = 0
        words = [text[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
        tokens[starts] = [self._words[word] for word in words]


def word_edges(kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((n,) starts, (n,) ends) of the words in characters of these kinds, int64."""
    blank = np.ones(len(kinds) + 2, np.uint8)
    np.bitwise_and(kinds, SPACE, out=blank[1:-1])
    edges = (blank[1:] != blank[:-1]).nonzero()[0]
    return edges[::2], edges[1::2]


def _inside(starts: np.ndarray, ends: np.ndarray, length: int) -> np.ndarray:
    """(length,) bool: which characters are in words that start and end there."""
    changes = np.zeros(length + 1, np.int8)
    changes[starts], changes[ends] = 1, -1
    return np.add.accumulate(changes[:-1], dtype=np.int8).view(bool)


def _starts_of_endless(kinds: np.ndarray, longest: int) -> list[int]:
    """Where words of more characters than `longest` start."""
    # Each of these has a whole one of these rows to itself.
    half = longest // 2
    rows = (kinds[: len(kinds) // half * half] & SPACE).reshape(-1, half)
    if rows.any(axis=1).all():
        return []
    starts, ends = word_edges(kinds)
    return starts[ends - starts > longest].tolist()
