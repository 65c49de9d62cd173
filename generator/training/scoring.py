"""SQuAD's answer scores: exact match and word F1 after its normalisation."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)


def normalise_answer(text: str) -> str:
    """Lower case, without punctuation, articles and extra white space (the official script's rules)."""
    bare = "".join(character for character in text.lower() if character not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 when the answer equals one of the references after normalisation; no references means "no answer"."""
    wanted = normalise_answer(answer)
    return float(any(wanted == normalise_answer(reference) for reference in references or [""]))


def word_f1(answer: str, references: Sequence[str]) -> float:
    """Best F1 of word overlap with any reference; no references means "no answer"."""
    return max(_f1(normalise_answer(answer), normalise_answer(r)) for r in references or [""])


def _f1(answer: str, reference: str) -> float:
    answer_words, reference_words = answer.split(), reference.split()
    if not answer_words or not reference_words:
        return float(answer_words == reference_words)
    common = sum((Counter(answer_words) & Counter(reference_words)).values())
    if not common:
        return 0.0
    precision, recall = common / len(answer_words), common / len(reference_words)
    return 2 * precision * recall / (precision + recall)
