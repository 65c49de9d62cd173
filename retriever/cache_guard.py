"""When two queries with nearly the same vector ask for different things.

Embedders place "turn it on" beside "turn it off" and "in 2021" beside "in 2022". What such pairs differ in
can be read off the text, in about a tenth of a millisecond:

- marks: numbers with their sign, symbols ("<", "€", the "++" of "C++"), negations, words that turn a
  question round, quotations, identifiers, single letters ("vitamin d"), capitalised names. The other query
  has to have the same ones.
- opposites: one has a word ("legal", "north", "monday"), the other one that excludes it ("illegal", "south",
  "tuesday"). A word that only one of them has is no reason.
- a slot: word for word the same but for one place, where each has words of its own ("weather in london
  tomorrow", "weather in lisbon tomorrow"). A synonym in that place looks the same and is refused as well.
- sides: what stands before a word in one query stands behind it in the other, and the other way round ("from
  oslo to bergen", "from bergen to oslo").

Every rule refuses a pair whichever of the two comes first. No rule sees that a changed frame says the same of
something else ("what is the capital of france", "spain: its capital city"), nor a passive ("conquered by").
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from indexer.stemming import stem
from retriever.cache_guard_words import (
    EXCLUDED_BY,
    FUNCTION_WORDS,
    NEGATING_CHARACTERS,
    NEGATING_PREFIXES,
    NEGATING_SUFFIX,
    TURNING_WORDS,
    is_symbol,
)

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*", re.UNICODE)
_NUMBER = re.compile(r"(?:(?<![^\s(\[])-)?\d+(?:[.,:/-]\d+)*")
_QUOTED = re.compile(r"\"([^\"]+)\"|[“„]([^“”]+)[“”]|«([^»]+)»|‘([^’]+)’|`([^`]+)`|(?<!\w)'([^']+)'(?!\w)")
# What identifiers are made of, and what makes one of it. No pattern can be read in two ways: whoever asks
# chooses what is matched, and all others wait.
_FLAG = re.compile(r"--?[A-Za-z][\w-]*")
_RUN = re.compile(r"[\w./\\:-]+")
_JOINED = re.compile(r"\w[_./\\:]\w")  # snake_case, dotted.names, paths/with/slashes
_PLAIN = re.compile(r"\w+")
_CAPITALS = re.compile(r"[A-Z][A-Z0-9]+")
_MIXED = re.compile(r"[A-Za-z]+\d|\d+[A-Za-z]")  # x86, 64bit
_LOWER, _UPPER = re.compile(r"[a-z]"), re.compile(r"[A-Z]")
_SENTENCE_START = re.compile(r"(?:^|[.!?]\s+)\W*\w+")
_NAME = re.compile(r"\b[A-Z][^\W\d_]+")
_LETTER = re.compile(r"(?<![\w'’])[b-hj-z](?![\w'’])")  # a name, where it is neither "a" nor "I"
_LETTERS_AND_WORDS = frozenset({"a", "i"})
_MAX_CHARS = 1000  # of a query that is read; nobody says more than that again in other words
_LEAST_STEM = 3  # letters that have to be left of a word without its prefix

_SYMMETRIC = frozenset({"and", "or", "nor", "vs", "versus"})  # what stands on either side may change sides


class _Reading(NamedTuple):
    """What a query says as far as the rules see it."""

    demands: set[str]  # what another query has to have as well
    offers: set[str]  # what this one has, whether or not it is marked as anything
    words: list[str]  # in order, without negations


def may_share(query: str, other: str) -> bool:
    """Whether nothing that can be read off two queries says that they ask for different things."""
    if max(len(query), len(other)) > _MAX_CHARS:
        return query == other
    one, two = _read(query), _read(other)
    if not (one.demands <= two.offers and two.demands <= one.offers):
        return False
    return not (
        _are_opposed(set(one.words), set(two.words))
        or _differ_in_a_slot(one.words, two.words)
        or _have_changed_sides(one.words, two.words)
    )


def _read(query: str) -> _Reading:
    marks = {match.group().casefold() for match in _NUMBER.finditer(query)}
    marks |= {" ".join(filter(None, match.groups())).casefold() for match in _QUOTED.finditer(query)}
    marks |= _identifiers(query)
    marks |= {match.group() for match in _LETTER.finditer(query.casefold())}
    marks |= set("".join(one if is_symbol(one) else " " for one in query).split())
    marks |= NEGATING_CHARACTERS & set(query)
    # A capital says nothing at the start of a sentence.
    names = {match.group().casefold() for match in _NAME.finditer(_SENTENCE_START.sub(" ", query))}
    words = [match.group() for match in _WORD.finditer(query.casefold().replace("’", "'"))]
    offers = marks | set(words)
    for word in words:
        if word.endswith("n't"):
            offers |= {"not", word.removesuffix("n't")}
    in_order = [word.removesuffix("'s") for word in words if word != "not" and not word.endswith("n't")]
    return _Reading(marks | names | (offers & TURNING_WORDS), offers, in_order)


def _identifiers(query: str) -> set[str]:
    runs = [run for run in _RUN.findall(query) if _JOINED.search(run)]
    plain = [word for word in _PLAIN.findall(query) if _CAPITALS.fullmatch(word) or _is_mixed(word)]
    return {found.strip("./\\:-").casefold() for found in runs} | {
        found.casefold() for found in (*_FLAG.findall(query), *plain)
    }


def _is_mixed(word: str) -> bool:
    """Whether letters meet digits, or a small letter has a capital behind it."""
    if _MIXED.match(word):
        return True
    small = _LOWER.search(word)
    return small is not None and _UPPER.search(word, small.end()) is not None


def _are_opposed(one: set[str], other: set[str]) -> bool:
    """Whether each has a word that the other lacks, and one of these excludes the other."""
    mine, theirs = one - other, other - one
    if any(not theirs.isdisjoint(EXCLUDED_BY.get(word, ())) for word in mine):
        return True
    return _has_negated(mine, theirs) or _has_negated(theirs, mine)


def _has_negated(words: set[str], others: set[str]) -> bool:
    """Whether one of the words is one of the others with a prefix or a suffix that negates."""
    rests = [
        word.removeprefix(prefix) for word in words for prefix in NEGATING_PREFIXES if word.startswith(prefix)
    ]
    rests += [word.removesuffix(NEGATING_SUFFIX) for word in words if word.endswith(NEGATING_SUFFIX)]
    plain = {_stem(rest) for rest in rests if len(rest) >= _LEAST_STEM}
    return bool(plain) and not plain.isdisjoint(map(_stem, others))


def _differ_in_a_slot(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether all but one place is the same in both, and that place names something else."""
    shortest = min(len(one), len(other))
    before = next((i for i in range(shortest) if one[i] != other[i]), shortest)
    left = shortest - before
    after = next((i for i in range(left) if one[-1 - i] != other[-1 - i]), left)
    spans = [words[before : len(words) - after] for words in (one, other)]
    fillings = [_named(words) for words in spans]
    if not all(fillings) and not _names_a_letter(spans, fillings):
        return False  # one only says more
    if before + after < max(map(len, fillings)):
        return False  # the frame is too small to be one
    return fillings[0].isdisjoint(fillings[1])


def _named(words: Sequence[str]) -> set[str]:
    return {_stem(word) for word in words if word not in FUNCTION_WORDS}


def _names_a_letter(spans: Sequence[Sequence[str]], fillings: Sequence[set[str]]) -> bool:
    """Whether what looks like an article stands in the place of a name: "vitamin a", "vitamin d"."""
    letters = [len(span) == 1 and span[0] in _LETTERS_AND_WORDS for span in spans]
    return any(letter and other for letter, other in zip(letters, reversed(fillings), strict=True))


def _stem(word: str) -> str:
    return stem(word) if word.isascii() else word


def _have_changed_sides(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two words stand on either side of a third in one query, and the other way round in the other.

    A query whose parts are only moved ("2021: ferries", "ferries in 2021") has no such word between them.
    """
    occurs, there = Counter(one), Counter(other)
    place = {word: i for i, word in enumerate(other) if there[word] == 1}
    common = [(word, place[word]) for word in one if word in place and occurs[word] == 1]
    latest_before, earliest_after = [-1], [len(other)]  # places of words that name something
    for word, at in common:
        latest_before.append(max(latest_before[-1], -1 if word in FUNCTION_WORDS else at))
    for word, at in reversed(common):
        earliest_after.append(min(earliest_after[-1], len(other) if word in FUNCTION_WORDS else at))
    earliest_after.reverse()
    return any(
        latest_before[i] > at > earliest_after[i + 1] and word not in _SYMMETRIC
        for i, (word, at) in enumerate(common)
    )
