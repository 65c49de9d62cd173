"""Text to the terms that lexical search counts: words, stems, and the parts of identifiers, in any script."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain

from indexer.stemming import stem

# Changes whenever the same text would yield other terms: an index built by another version is rebuilt.
TERMS_VERSION = "terms-1"

# Longer words are data (base64, minified code), not something a person types. SHA-512 in hex still fits.
MAX_TERM_CHARS = 128

_ASCII_WORD = re.compile(r"[A-Za-z0-9_]+(?:'[A-Za-z]+)*")
_COMBINING_LATIN = re.compile(r"[\u0300-\u036f]+")
_IDENTIFIER_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\x00-\x7f]+")
_MIXED_CASE = re.compile(r"[a-z0-9][A-Z]|[A-Z]{2}[a-z]")

# Scripts that are written without spaces: indexed as overlapping pairs of characters, as search engines do.
# (Korean has spaces, but its particles stick to the words.)
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3040-\u30ff\uac00-\ud7af"  # Japanese syllables, Korean
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)
_UNSPACED_RUN = re.compile(f"[{_UNSPACED}]+")

# Words that carry no topic in a question. They are indexed all the same, and used when a query has nothing
# else.
_STOP_WORDS = """ a about am an and any are as at be been being but by can could did do does for from had
has have having he her his how i if in into is it its may me might must my no not of on or our shall she
should so such than that the their them then there these they this those to us was we were what when where
which who whom whose why will with would you your
"""


def term_counts(text: str) -> Counter[str]:
    """How often each term occurs in a text; the text's length in terms is the sum."""
    counts: Counter[str] = Counter()
    for word, count in Counter(_words(text)).items():
        for term in _terms_of_word(word):
            counts[term] += count
    return counts


class TermNumbers(dict[str, tuple[int, ...]]):
    """Numbers terms as they come, and knows by word those of the terms that it stands for."""

    def __init__(self) -> None:
        super().__init__()
        self.terms: dict[str, int] = {}  # in the order of their numbers

    def of_text(self, text: str) -> Iterator[int]:
        """Of each term of a text, as often as it occurs."""
        return chain.from_iterable(map(self.__getitem__, _words(text)))

    def __missing__(self, word: str) -> tuple[int, ...]:
        numbers = tuple(self.terms.setdefault(term, len(self.terms)) for term in _terms_of_word(word))
        self[word] = numbers
        return numbers


def query_terms(text: str) -> Counter[str]:
    """The terms of a query: those of a text, without stop words unless there are no others."""
    counts = term_counts(text)
    stop_terms = _stop_terms()
    topical = Counter({term: count for term, count in counts.items() if term not in stop_terms})
    return topical or counts


def _words(text: str) -> list[str]:
    if text.isascii():
        return _ASCII_WORD.findall(text)
    # Compatibility forms become plain ones (fullwidth letters, ligatures) and Latin, Greek and Cyrillic
    # letters lose their accents, which people leave out when they type. The vowel signs of other scripts
    # stay.
    text = unicodedata.normalize("NFKD", text)
    text = unicodedata.normalize("NFC", _COMBINING_LATIN.sub("", text)).replace("’", "'")
    return _unicode_word().findall(text)


@lru_cache(maxsize=1)
def _unicode_word() -> re.Pattern[str]:
    """A word in any script: `\\w` and the marks that `\\w` leaves out though they belong to their letters."""
    marks = [chr(code) for code in range(0x370, 0x11FFF) if unicodedata.category(chr(code)) in ("Mn", "Mc")]
    letter = rf"[\w{''.join(marks)}]"
    return re.compile(rf"{letter}+(?:'{letter}+)*")


@lru_cache(maxsize=1)
def _stop_terms() -> frozenset[str]:
    return frozenset(stem(word) for word in _STOP_WORDS.split())


@lru_cache(maxsize=1 << 17)
def _terms_of_word(word: str) -> tuple[str, ...]:
    """The terms a word stands for: "parseHTTPBody" gives parse, http, bodi and parsehttpbodi."""
    word = word.removesuffix("'s").removesuffix("'S").replace("'", "")
    if not word.strip("_") or len(word) > MAX_TERM_CHARS:
        return ()
    if _UNSPACED_RUN.search(word):
        return _unspaced_terms(word)
    whole = _fold(word)
    if "_" not in word and not _MIXED_CASE.search(word):
        return (whole,)
    parts = [_fold(part) for part in _IDENTIFIER_PART.findall(word)]
    return tuple(parts) if parts == [whole] else (*parts, whole)


def _unspaced_terms(word: str) -> tuple[str, ...]:
    """Pairs of neighbouring characters of the unspaced runs, and the ordinary words between them."""
    terms: list[str] = []
    position = 0
    for run in _UNSPACED_RUN.finditer(word):
        terms += _terms_of_word(word[position : run.start()])
        characters = run.group()
        terms += [characters[i : i + 2] for i in range(max(1, len(characters) - 1))]
        position = run.end()
    return (*terms, *_terms_of_word(word[position:]))


def _fold(word: str) -> str:
    folded = word.casefold()
    return stem(folded) if folded.isascii() and folded.isalpha() else folded
