"""When two queries with nearly the same vector ask for different things.

Embedders place "turn it on" beside "turn it off" and "in 2021" beside "in 2022". What such pairs differ in
can be read off the text, in less than a tenth of a millisecond:

- marks: numbers, negations, opposites, quotations, identifiers, capitalised names. The other query has to
  have the same ones.
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

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*", re.UNICODE)
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
_QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|«([^»]+)»|`([^`]+)`|(?<!\w)'([^']+)'(?!\w)")
# snake_case, dotted.names, paths/with/slashes, --flags, camelCase, ACRONYMS, x86
_IDENTIFIER = re.compile(
    r"--?[A-Za-z][\w-]*|[\w.]*\w[_./\\:]\w[\w./\\:-]*|\w*[a-z]\w*[A-Z]\w*|\b[A-Z][A-Z0-9]+\b"
    r"|\b[A-Za-z]+\d\w*\b|\b\d+[A-Za-z]\w*\b"
)
_SENTENCE_START = re.compile(r"(?:^|[.!?]\s+)\W*\w+")
_NAME = re.compile(r"\b[A-Z][^\W\d_]+")

# Words that turn a question into another one. A query that has one has to find the same one in the other
# query.
_TURNING = """
no not never none nothing nobody neither nor without cannot except unless only
on off enable disable enabled disabled start stop open close opened closed add remove
allow deny allowed denied accept reject true false positive negative always
increase decrease raise lower up down in out before after first last next previous
earliest latest begin end min max minimum maximum least most more less fewer
best worst highest lowest largest smallest biggest above below over under
inside outside with buy sell import export upload download encrypt decrypt
lock unlock install uninstall connect disconnect win lose gain loss
who when where why how which one two three four five six seven eight nine ten eleven twelve
"""
_TURNING_WORDS = frozenset(_TURNING.split())

# Words that name nothing: what a slot is filled with is read from the others.
_FUNCTION = """
a about all also am an and any are as at be been being but by can could did do does doing done for from get
give had has have having he her here hers him his how i if in into is it its just let like may me might mine
must my of on onto or our ours please shall she should so some such tell than that the their theirs them then
there these they this those to too us use used using very was we were what which while who whom whose will
with would you your yours yes
"""
_FUNCTION_WORDS = frozenset(_FUNCTION.split())
_SYMMETRIC = frozenset({"and", "or", "nor", "vs", "versus"})  # what stands on either side may change sides


class _Reading(NamedTuple):
    """What a query says as far as the rules see it."""

    demands: set[str]  # what another query has to have as well
    offers: set[str]  # what this one has, whether or not it is marked as anything
    words: list[str]  # in order, without negations


def may_share(query: str, other: str) -> bool:
    """Whether nothing that can be read off two queries says that they ask for different things."""
    one, two = _read(query), _read(other)
    if not (one.demands <= two.offers and two.demands <= one.offers):
        return False
    return not (_differ_in_a_slot(one.words, two.words) or _have_changed_sides(one.words, two.words))


def _read(query: str) -> _Reading:
    marks = {match.group().casefold() for match in _NUMBER.finditer(query)}
    marks |= {" ".join(filter(None, match.groups())).casefold() for match in _QUOTED.finditer(query)}
    marks |= {match.group().casefold() for match in _IDENTIFIER.finditer(query)}
    # A capital says nothing at the start of a sentence.
    names = {match.group().casefold() for match in _NAME.finditer(_SENTENCE_START.sub(" ", query))}
    words = [match.group() for match in _WORD.finditer(query.casefold().replace("’", "'"))]
    offers = marks | set(words)
    for word in words:
        if word.endswith("n't"):
            offers |= {"not", word.removesuffix("n't")}
    in_order = [word.removesuffix("'s") for word in words if word != "not" and not word.endswith("n't")]
    return _Reading(marks | names | (offers & _TURNING_WORDS), offers, in_order)


def _differ_in_a_slot(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether all but one place is the same in both, and that place names something else."""
    shortest = min(len(one), len(other))
    before = next((i for i in range(shortest) if one[i] != other[i]), shortest)
    left = shortest - before
    after = next((i for i in range(left) if one[-1 - i] != other[-1 - i]), left)
    fillings = [_named(words[before : len(words) - after]) for words in (one, other)]
    if not all(fillings) or before + after < max(map(len, fillings)):
        return False  # one only says more, or the frame is too small to be one
    return fillings[0].isdisjoint(fillings[1])


def _named(words: Sequence[str]) -> set[str]:
    return {stem(word) if word.isascii() else word for word in words if word not in _FUNCTION_WORDS}


def _have_changed_sides(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two words stand on either side of a third in one query, and the other way round in the other.

    A query whose parts are only moved ("2021: ferries", "ferries in 2021") has no such word between them.
    """
    occurs, there = Counter(one), Counter(other)
    place = {word: i for i, word in enumerate(other) if there[word] == 1}
    common = [(word, place[word]) for word in one if word in place and occurs[word] == 1]
    latest_before, earliest_after = [-1], [len(other)]  # places of words that name something
    for word, at in common:
        latest_before.append(max(latest_before[-1], -1 if word in _FUNCTION_WORDS else at))
    for word, at in reversed(common):
        earliest_after.append(min(earliest_after[-1], len(other) if word in _FUNCTION_WORDS else at))
    earliest_after.reverse()
    return any(
        latest_before[i] > at > earliest_after[i + 1] and word not in _SYMMETRIC
        for i, (word, at) in enumerate(common)
    )
