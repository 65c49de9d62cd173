"""The Porter stemmer: "connected", "connecting" and "connection" become "connect".

M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980, with the two departures of the
author's own reference implementation (the suffixes "bli" and "logi", and words of one or two letters are
left alone).
"""

from __future__ import annotations

import re

# A word is [C](VC)^m[V] with C a run of consonants, V a run of vowels; m is the paper's "measure". A "y" is a
# vowel after a consonant: the caller's word is first spelled in the letters "c" and "v" by `_shape`.
_DOUBLE_CONSONANT = re.compile(r"([^aeiouylsz])\1$")
_ENDS_CVC = re.compile(r"cvc$")

_STEP_2 = (
    ("ational", "ate"), ("ization", "ize"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"),
    ("tional", "tion"), ("biliti", "ble"),
    ("entli", "ent"), ("ousli", "ous"), ("ation", "ate"), ("alism", "al"), ("aliti", "al"), ("iviti", "ive"),
    ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("alli", "al"), ("ator", "ate"), ("logi", "log"),
    ("bli", "ble"), ("eli", "e"),
)  # fmt: skip
_STEP_3 = (
    ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ness", ""),
    ("ful", ""),
)  # fmt: skip
_STEP_4 = (
    "ement", "ance", "ence", "able", "ible", "ment",
    "ant", "ent", "ism", "ate", "iti", "ous", "ive", "ize", "ion", "al", "er", "ic", "ou",
)  # fmt: skip


def stem(word: str) -> str:
    """The stem of a lower-case ASCII word."""
    if len(word) < 3:
        return word
    word = _plural(word)
    word = _past_and_progressive(word)
    if word.endswith("y") and "v" in _shape(word[:-1]):
        word = word[:-1] + "i"
    word = _replace(word, _STEP_2)
    word = _replace(word, _STEP_3)
    return _tidy(_strip(word))


def _shape(word: str) -> str:
    """The word with "c" for each consonant and "v" for each vowel."""
    shape = []
    previous = "v"  # a leading y is a consonant
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and previous == "c")
        previous = "v" if vowel else "c"
        shape.append(previous)
    return "".join(shape)


def _measure(word: str) -> int:
    """How often a vowel is followed by a consonant: the m of [C](VC)^m[V]."""
    return _shape(word).count("vc")


def _ends_cvc(word: str) -> bool:
    return word[-1:] not in ("w", "x", "y") and _ENDS_CVC.search(_shape(word)) is not None


def _plural(word: str) -> str:
    if word.endswith(("sses", "ies")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past_and_progressive(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for suffix in ("ed", "ing"):
        if word.endswith(suffix):
            root = word[: -len(suffix)]
            return _restore(root) if "v" in _shape(root) else word
    return word


def _restore(root: str) -> str:
    """Gives a root that lost "ed" or "ing" its "e" back, or takes the doubled letter away."""
    if root.endswith(("at", "bl", "iz")):
        return root + "e"
    if _DOUBLE_CONSONANT.search(root):
        return root[:-1]
    return root + "e" if _measure(root) == 1 and _ends_cvc(root) else root


def _replace(word: str, rules: tuple[tuple[str, str], ...]) -> str:
    """Applies the first rule whose suffix matches; the rules are ordered longest first."""
    for suffix, replacement in rules:
        if word.endswith(suffix):
            root = word[: -len(suffix)]
            return root + replacement if _measure(root) > 0 else word
    return word


def _strip(word: str) -> str:
    for suffix in _STEP_4:
        if word.endswith(suffix):
            root = word[: -len(suffix)]
            removable = suffix != "ion" or root.endswith(("s", "t"))
            return root if removable and _measure(root) > 1 else word
    return word


def _tidy(word: str) -> str:
    """Drops a final "e" and the second of a final "ll" where the rest is long enough."""
    if word.endswith("e"):
        root = word[:-1]
        if _measure(root) > 1 or (_measure(root) == 1 and not _ends_cvc(root)):
            word = root
    return word[:-1] if word.endswith("ll") and _measure(word) > 1 else word
