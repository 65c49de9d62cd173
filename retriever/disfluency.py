"""Spoken questions as they were meant: "what is the height no wait the depth of Loch Ness" asks for a depth.

Somebody who corrects himself while speaking leaves three parts behind (Shriberg, "Preliminaries to a theory
of speech disfluencies", 1994, chapter 2):

    what is the height        no wait        the depth of Loch Ness
            |-reparandum-|  |-interregnum-|  |--repair--|

The interregnum is recognised by its words, the reparandum ends where it begins, and where the reparandum
begins is what the repair says: it takes up a word of it ("the ... the"), or asks the whole question anew
("no wait who ..."), or puts a name in the place of the last one. So both the taken-back words and the
interregnum can go, and what is left is searched for.

A fluent question must stay as it is, letter by letter: "why is there no oxygen", "which laws make that
illegal". Words that fluent questions have too count as an interregnum only together, or before a question
that begins anew; nothing within quotation marks counts; and questions in other languages are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

_MAX_REPAIRS = 4  # of one question
_MAX_WORDS = 200  # nobody speaks longer questions: this is a text that was pasted
_PUNCTUATION = ".,;:!?…-–—()[]\"'“”‘’«»"
_AROUND_SINGLE_QUOTES = '.,;:!?…-–—()[]"“”«»'

_FILLERS = frozenset({"uh", "uhh", "uhm", "um", "erm", "hmm"})
_HESITATIONS = _FILLERS | {"er", "oh", "well", "or"}  # say something only beside one of the next
_TAKING_BACK = frozenset({"no", "wait", "sorry", "oops", "actually", "rather"})
_PHRASES = (
    ("i", "mean"),
    ("i", "meant"),
    ("i", "should", "say"),
    ("make", "that"),
    ("scratch", "that"),
    ("strike", "that"),
    ("let", "me", "rephrase"),
    ("let", "me", "rephrase", "that"),
)
_TELLING = _PHRASES[:3] + _PHRASES[6:]  # these phrases alone say enough; "make that" needs a "no" before it
_NOT_BEFORE_I_MEAN = frozenset({"do", "does", "did", "what", "whatever", "if", "when", "that", "how", "can"})
_NO_TOGETHER_WITH = frozenset({"longer", "more", "less", "one", "matter", "doubt", "later", "sooner"})

_INTERROGATIVES = frozenset({"what", "who", "whom", "whose", "which", "when", "where", "why", "how"})
_AUXILIARIES = frozenset(
    [
        "is",
        "are",
        "was",
        "were",
        "do",
        "does",
        "did",
        "has",
        "have",
        "had",
        "can",
        "could",
        "will",
        "would",
        "shall",
        "should",
        "may",
        "might",
        "must",
    ]
)
_DEGREES = frozenset({"many", "much", "long", "far", "old", "often", "big", "large", "high", "tall", "fast"})
_PREPOSITIONS = frozenset(
    [
        "in",
        "on",
        "at",
        "of",
        "to",
        "for",
        "from",
        "by",
        "with",
        "about",
        "during",
        "after",
        "before",
        "under",
        "over",
        "between",
        "into",
        "through",
    ]
)
_FUNCTION_WORDS = (
    _INTERROGATIVES
    | _AUXILIARIES
    | _PREPOSITIONS
    | frozenset(
        [
            "the",
            "a",
            "an",
            "and",
            "or",
            "this",
            "these",
            "those",
            "it",
            "he",
            "she",
            "they",
            "we",
            "you",
            "i",
            "my",
            "your",
            "there",
        ]
    )
)
# Words that are said twice only by accident. Not among them: what grammar may put twice ("the fact that that
# is", "what it is is", "log in in London").
_NEVER_TWICE = _INTERROGATIVES | frozenset(
    {
        "the",
        "a",
        "an",
        "of",
        "i",
        "he",
        "she",
        "we",
        "they",
        "you",
        "my",
        "your",
        "was",
        "were",
        "are",
        "did",
        "does",
    }
)
_LEAD_INS = (("it", "was"), ("it", "is"), ("it's",), ("that", "was"), ("that's",), ("i", "meant"))
_WITHIN_NAMES = frozenset(
    ["of", "the", "da", "de", "del", "der", "di", "du", "la", "le", "van", "von", "al", "el", "bin", "and"]
)
_ENGLISH = frozenset({"the", "does", "did", "are", "and"}) | _INTERROGATIVES


class _Cue(NamedTuple):
    """An interregnum: tokens [start:end)."""

    start: int
    end: int
    tells: bool  # no fluent question has these words


def repair_disfluencies(question: str) -> str:
    """The question without fillers, repetitions, and what its speaker took back; a fluent one as it is."""
    tokens = question.split()
    if len(tokens) > _MAX_WORDS or _ENGLISH.isdisjoint(map(_bare, tokens)):
        return question
    repaired = _without_repetitions(_without_fragments(_without_fillers(_without_retractions(tokens))))
    says_something = any(_bare(token) not in _FUNCTION_WORDS for token in repaired)
    return " ".join(repaired).rstrip(" ,;-–—") if says_something and repaired != tokens else question


# --- what was taken back


def _without_retractions(tokens: list[str]) -> list[str]:
    for _ in range(_MAX_REPAIRS):
        repaired = _without_first_retraction(tokens)
        if repaired is None:
            return tokens
        tokens = repaired
    return tokens


def _without_first_retraction(tokens: list[str]) -> list[str] | None:
    """The tokens with the first repair in the place of its reparandum; None if there is none."""
    words, quoted = [_bare(token) for token in tokens], _quoted(tokens)
    at = 1
    while at < len(tokens) - 1:
        cue = _cue_at(words, at)
        if cue is None:
            at += 1
            continue
        at = cue.end
        if any(quoted[cue.start : cue.end]):
            continue
        before, after = tokens[: cue.start], _without_lead_in(tokens[cue.end :])
        if after and cue.tells:
            return _repaired(before, after)
        if _asks_anew(words[cue.end :]) and _is_interrogative(words[: cue.start]):
            return _restarted(before, after)
    return None


def _cue_at(words: Sequence[str], start: int) -> _Cue | None:
    """The interregnum that begins at a word: the longest run of hesitations, retractions and phrases."""
    end, taking_back, phrases = start, [], []
    hesitates = False
    while end < len(words):
        phrase = _phrase_at(words, end)
        if phrase is not None:
            phrases.append(phrase)
            end += len(phrase)
        elif words[end] in _TAKING_BACK and not _is_determiner(words, end):
            taking_back.append(words[end])
            end += 1
        elif words[end] in _HESITATIONS:
            hesitates |= words[end] in _FILLERS or words[end] in ("er", "oh")
            end += 1
        else:
            break
    if not taking_back and not phrases:
        return None
    tells = (
        any(phrase in _TELLING for phrase in phrases)
        or bool(phrases and taking_back)
        or len(set(taking_back) - {"actually", "rather"}) > 1
        or (hesitates and taking_back != ["no"])
        or (hesitates and words[end - 1] == "no")
        or taking_back[:2] == ["no", "no"]
    )
    weak = taking_back == ["no"] or taking_back == ["sorry"]
    return _Cue(start, end, tells) if tells or weak else None


def _phrase_at(words: Sequence[str], at: int) -> tuple[str, ...] | None:
    found = [phrase for phrase in _PHRASES if tuple(words[at : at + len(phrase)]) == phrase]
    if not found or (words[at] == "i" and words[at - 1] in _NOT_BEFORE_I_MEAN):
        return None
    return max(found, key=len)


def _is_determiner(words: Sequence[str], at: int) -> bool:
    """Whether a "no" belongs to what follows it: "no longer"."""
    return words[at] == "no" and at + 1 < len(words) and words[at + 1] in _NO_TOGETHER_WITH


def _without_lead_in(tokens: list[str]) -> list[str]:
    """ "It was Warsaw" as a correction says "Warsaw"."""
    words = tuple(_bare(token) for token in tokens)
    for lead_in in _LEAD_INS:
        if words[: len(lead_in)] == lead_in and len(words) > len(lead_in):
            return tokens[len(lead_in) :]
    return tokens


# --- what takes its place


def _repaired(before: list[str], after: list[str]) -> list[str]:
    words = [_bare(token) for token in after]
    if words[0] in _INTERROGATIVES or (
        words[0] in _PREPOSITIONS and words[1:2] and words[1] in _INTERROGATIVES
    ):
        return _restarted(before, after)
    copy = _rough_copy(before, words)
    if copy is not None:
        return before[:copy] + after
    if words[0] in _AUXILIARIES and len(words) > 2:
        return after
    if _is_name(after[0]) or _is_number(after[0]):
        return _substituted(before, after, _is_name if _is_name(after[0]) else _is_number)
    return before[:-1] + after  # the word before the interregnum is the end of what was taken back


def _restarted(before: list[str], after: list[str]) -> list[str]:
    """The question anew, after whatever stood before its first beginning: "Besides rain, what ..."."""
    words = [_bare(token) for token in before]
    begin = next((at for at, word in enumerate(words) if word in _INTERROGATIVES), 0)
    if begin and words[begin - 1] in _PREPOSITIONS and _bare(after[0]) in _PREPOSITIONS:
        begin -= 1  # "in what country no in which city"
    return before[:begin] + after


def _rough_copy(before: list[str], repair: Sequence[str]) -> int | None:
    """Where the reparandum begins: at the word that the repair takes up, where most of it is taken up."""
    words = [_bare(token) for token in before]
    best, longest = None, 0
    for at in range(len(words)):
        length = 0
        while (
            at + length < len(words) and length < len(repair) and words[at + length] == repair[length] != ""
        ):
            length += 1
        if length and length >= longest:
            best, longest = at, length
    return best


def _substituted(before: list[str], after: list[str], is_one: Callable[[str], bool]) -> list[str]:
    """A name takes the place of the name before it, a number that of a number.

    In the middle only if there is just one that it could be; else the question keeps both.
    """
    runs = _runs(before, is_one)
    if runs and runs[-1][1] == len(before):
        return before[: runs[-1][0]] + after
    if len(runs) == 1 and _runs(after, is_one) == [(0, len(after))]:
        start, end = runs[0]
        return before[:start] + [token.rstrip(_PUNCTUATION) for token in after] + before[end:]
    return before + after


def _runs(tokens: Sequence[str], is_one: Callable[[str], bool]) -> list[tuple[int, int]]:
    """The runs [start:end) of names or numbers, with an "of" or "de" between two of them."""
    runs: list[tuple[int, int]] = []
    for at, token in enumerate(tokens):
        if not is_one(token) or (at == 0 and _bare(token) in _FUNCTION_WORDS):
            continue
        start, end = runs[-1] if runs else (-1, -1)
        between = [_bare(word) for word in tokens[end:at]]
        if runs and len(between) <= 2 and _WITHIN_NAMES.issuperset(between):
            runs[-1] = start, at + 1
        else:
            runs.append((at, at + 1))
    return runs


def _is_name(token: str) -> bool:
    bare = token.strip(_PUNCTUATION)
    return bare[:1].isupper() and bare != "I"


def _is_number(token: str) -> bool:
    return token.strip(_PUNCTUATION)[:1].isdigit()


def _asks_anew(words: Sequence[str]) -> bool:
    """Whether a question begins here: "what is", "how many"; not "what", which may go on with a clause."""
    if len(words) < 3 or words[0] not in _INTERROGATIVES:
        return False
    return words[1] in _AUXILIARIES or (words[0] == "how" and words[1] in _DEGREES)


def _is_interrogative(words: Sequence[str]) -> bool:
    return any(word in _INTERROGATIVES or word in _AUXILIARIES for word in words[:3])


# --- what was said twice, half, or for nothing


def _without_fillers(tokens: list[str]) -> list[str]:
    quoted = _quoted(tokens)
    return [
        token
        for token, inside in zip(tokens, quoted, strict=True)
        if inside or token.isupper() or _bare(token) not in _FILLERS
    ]


def _without_fragments(tokens: list[str]) -> list[str]:
    """Without the beginning of a word that is broken off and then said: "wh- what"."""
    kept, quoted = [], _quoted(tokens)
    for at, token in enumerate(tokens):
        begun = token.rstrip("-–—").casefold()
        following = tokens[at + 1].casefold() if at + 1 < len(tokens) else ""
        broken_off = token[-1] in "-–—" and begun.isalpha() and following.startswith(begun)
        if quoted[at] or not broken_off:
            kept.append(token)
    return kept


def _without_repetitions(tokens: list[str]) -> list[str]:
    """One to three words said twice in a row are said once, if it cannot be a name or grammar."""
    tokens, quoted = list(tokens), _quoted(tokens)
    at = 0
    while at < len(tokens):
        for length in (3, 2, 1):
            first, second = tokens[at : at + length], tokens[at + length : at + 2 * length]
            if at + 2 * length >= len(tokens) or any(quoted[at : at + 2 * length]):
                continue
            if _is_repetition(first, second):
                del tokens[at : at + length], quoted[at : at + length]
                break
        else:
            at += 1
    return tokens


def _is_repetition(first: Sequence[str], second: Sequence[str]) -> bool:
    words = [_bare(token) for token in first]
    if words != [_bare(token) for token in second] or any("," in token for token in second):
        return False
    if any(token[:1].isupper() for token in (*first[1:], *second)) or not all(map(str.isalpha, words)):
        return False
    return set(words) <= _FUNCTION_WORDS and not _NEVER_TWICE.isdisjoint(words)


# --- words


def _bare(token: str) -> str:
    return token.strip(_PUNCTUATION).casefold().replace("’", "'")


def _quoted(tokens: Sequence[str]) -> list[bool]:
    """Which tokens are within quotation marks, or touch them."""
    inside, found = False, []
    for token, in_single in zip(tokens, _in_single_quotes(tokens), strict=True):
        opens = inside
        for character in token:
            if character == '"':
                inside = not inside
            elif character in "“«„":
                inside = True
            elif character in "”»":
                inside = False
            opens |= inside
        found.append(opens or in_single)
    return found


def _in_single_quotes(tokens: Sequence[str]) -> list[bool]:
    """Which tokens are within single quotation marks: pairs that open before a word and close after one.

    All others are apostrophes: "don't", "'twas", "the dogs' food".
    """
    found, opened = [False] * len(tokens), -1
    for at, token in enumerate(tokens):
        word = token.strip(_AROUND_SINGLE_QUOTES)
        if opened < 0 and word.startswith(("'", "‘")):
            opened, word = at, word[1:]
        if opened >= 0 and word.endswith(("'", "’")):
            found[opened : at + 1] = [True] * (at + 1 - opened)
            opened = -1
    return found
