"""The words that `cache_guard` knows: what turns a question into another one, and what names nothing."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from types import MappingProxyType

# A query that has one of these has to find the same one in the other query.
_TURNING = """
no not never none nothing nobody neither nor without cannot except unless only free
on off enable disable enabled disabled start stop open close opened closed add remove
allow deny allowed denied accept reject true false positive negative always
increase decrease raise lower up down in out before after first last next previous
earliest latest begin end min max minimum maximum least most more less fewer
best worst highest lowest largest smallest biggest above below over under
inside outside with buy sell import export upload download encrypt decrypt
lock unlock install uninstall connect disconnect win lose gain loss
who when where why how
one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion
second third fourth fifth half twice double triple
nicht kein keine keinen nie ohne pas sans jamais non senza mai nunca sin sem não нет не без никогда
"""
TURNING_WORDS = frozenset(_TURNING.split())
NEGATING_CHARACTERS = frozenset("不没沒無无非未")  # of scripts without spaces, where they are no words

# One query may lack a word of such a group. It asks for something else if it has another word of the group.
_EXCLUDING = """
hot cold, warm cool, wet dry, cheap expensive, big small, long short, heavy light, fast slow
old new, old young, ancient modern, early late, earlier later
good bad, easy hard, easy difficult, simple difficult, simple complex, right wrong, safe dangerous, safe risky
rich poor, strong weak, empty full, raw cooked, odd even, dead alive, horizontal vertical
left right, top bottom, front back, input output, internal external, public private
north south east west, northern southern eastern western
male female, man woman, men women, boy girl, husband wife, mother father, son daughter, brother sister
king queen, parent child, teacher student, sender recipient, question answer, source target
birth death, born died, love hate, pass fail, succeed fail, success failure, rise fall, push pull
asset liability, profit loss, supply demand, borrow lend, pros cons, benefits risks, benefits drawbacks
cause effect, causes effects, majority minority, agree disagree, ascending descending
encode decode, attach detach, freeze melt, read write, send receive, save delete, show hide
create destroy, build demolish, enter leave, enter exit, arrive depart, arrival departure
day night, morning afternoon evening, today tomorrow yesterday, spring summer autumn winter
monday tuesday wednesday thursday friday saturday sunday
january february march april may june july august september october november december
hourly daily weekly monthly quarterly yearly, hourly daily weekly monthly quarterly annually
"""


def _excluded() -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for group in _EXCLUDING.strip().replace("\n", ",").split(","):
        words = group.split()
        for word in words:
            found.setdefault(word, set()).update(words)
    return MappingProxyType({word: frozenset(others - {word}) for word, others in found.items()})


EXCLUDED_BY = _excluded()

# Words that name nothing: what a place in a question is filled with is read from the others.
_FUNCTION = """
a about all also am an and any are as at be been being but by can could did do does doing done for from get
give had has have having he her here hers him his how i if in into is it its just let like may me might mine
must my of on onto or our ours please shall she should so some such tell than that the their theirs them then
there these they this those to too us use used using very was we were what which while who whom whose will
with would you your yours yes
"""
FUNCTION_WORDS = frozenset(_FUNCTION.split())

# What makes a word's opposite of it: "legal" and "illegal", "harm" and "harmless".
NEGATING_PREFIXES = ("un", "in", "im", "il", "ir", "non", "dis", "mis", "anti", "de")
NEGATING_SUFFIX = "less"

_OTHER_SYMBOLS = frozenset("%#&@*§‰^")  # that Unicode counts among punctuation and accents


def is_symbol(character: str) -> bool:
    """Whether it says something by itself, as "<", "+" and "€" do and a comma does not."""
    return character in _OTHER_SYMBOLS or unicodedata.category(character) in ("Sm", "Sc", "So")
