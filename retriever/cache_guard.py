"""When two queries with nearly the same vector ask for different things.

Embedders place "turn it on" beside "turn it off" and "in 2021" beside "in 2022". What such pairs differ in
can be read off the text: numbers, negations, opposites, quotations, identifiers, names.
"""

from __future__ import annotations

import re

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
_TURNING_WORDS = """
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


def may_share(query: str, other: str) -> bool:
    """Whether nothing that can be read off two queries says that they ask for different things."""
    return _demands(query) <= _offers(other) and _demands(other) <= _offers(query)


def _demands(query: str) -> set[str]:
    """What another query has to have as well."""
    demands = {match.group().casefold() for match in _NUMBER.finditer(query)}
    demands |= {" ".join(filter(None, match.groups())).casefold() for match in _QUOTED.finditer(query)}
    demands |= {match.group().casefold() for match in _IDENTIFIER.finditer(query)}
    # A capital says nothing at the start of a sentence.
    inner = _SENTENCE_START.sub(" ", query)
    demands |= {match.group().casefold() for match in _NAME.finditer(inner)}
    return demands | (_words(query) & set(_TURNING_WORDS.split()))


def _offers(query: str) -> set[str]:
    """What a query has, whether or not it is marked as anything."""
    offers = _words(query) | {match.group().casefold() for match in _NUMBER.finditer(query)}
    offers |= {" ".join(filter(None, match.groups())).casefold() for match in _QUOTED.finditer(query)}
    return offers | {match.group().casefold() for match in _IDENTIFIER.finditer(query)}


def _words(query: str) -> set[str]:
    words = set()
    for match in _WORD.finditer(query.casefold().replace("’", "'")):
        word = match.group()
        words.add(word)
        if word.endswith("n't"):
            words |= {"not", word.removesuffix("n't")}
    return words
