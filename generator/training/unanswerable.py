"""Questions that a passage does not answer, made from ones that it does.

A reader that has only seen answerable questions always answers. Four kinds of negative, from easy to hard: a
passage that a search engine would bring up (`hard_negatives`), the paragraph of the same article that shares
the rarest words with the question, the question's own paragraph with the answer's surroundings left out, and
the right paragraph with the question changed so that it no longer fits (a name, a number, a direction or the
sign replaced), after the kinds of unanswerable question that SQuAD 2.0's authors found people to write.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter

from generator.training.records import GroundedQuestion, QuestionSet

_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\b\d[\d,.]*\b")
_NAME = re.compile(r"(?<!^)(?<![.?!] )\b[A-Z][\w'-]+(?: (?:of |the |de )?[A-Z][\w'-]+)*")
_OPPOSITES = (
    "first last,before after,largest smallest,biggest smallest,highest lowest,most least,more fewer,"
    "increase decrease,increased decreased,north south,east west,northern southern,eastern western,"
    "oldest newest,earliest latest,begin end,began ended,start finish,started stopped,won lost,win lose,"
    "male female,men women,early late,high low,large small,long short,minimum maximum,above below,"
    "inside outside,same different,best worst,internal external,major minor,positive negative,"
    "accept reject,accepted rejected,allowed forbidden,successful unsuccessful,possible impossible"
)
_NEGATED = re.compile(r"\b(is|are|was|were|did|does|do|can|could|has|have|had|will|would|should)\b", re.I)


def opposites() -> dict[str, str]:
    """Words and what turns a question around, in both directions."""
    pairs = [pair.split() for pair in _OPPOSITES.split(",")]
    return dict(pairs) | {b: a for a, b in pairs if b not in dict(pairs)}


class UnanswerableMaker:
    """Draws negatives for questions of one `QuestionSet`."""

    def __init__(self, questions: QuestionSet) -> None:
        self.questions = questions
        self._opposites = opposites()
        self._words: dict[int, frozenset[str]] = {}
        frequency: Counter[str] = Counter()
        for index in range(len(questions.passages)):
            words = frozenset(_WORD.findall(questions.passages[index].lower()))
            self._words[index] = words
            frequency.update(words)
        total = len(questions.passages)
        self._idf = {word: math.log(total / count) for word, count in frequency.items()}
        self._names: dict[str, tuple[list[str], list[str]]] = {}

    def similar_passage(self, question: GroundedQuestion, rng: random.Random) -> str | None:
        """One of the article's three passages that are nearest to the question and lack its answer."""
        wanted = set(_WORD.findall(question.question.lower()))
        scored = []
        for index in self.questions.passages_by_title.get(question.title, ()):
            if index != question.passage and not self._answers(question, index):
                scored.append((sum(self._idf[word] for word in wanted & self._words[index]), index))
        best = sorted(scored, reverse=True)[:3]
        return self.questions.passages[rng.choice(best)[1]] if best else None

    def searched_passage(self, question: GroundedQuestion, rng: random.Random) -> str | None:
        """One of the hard negatives that came with the question, without its answer."""
        candidates = [index for index in question.hard_negatives if not self._answers(question, index)]
        return self.questions.passages[rng.choice(candidates)] if candidates else None

    def changed_question(self, question: GroundedQuestion, rng: random.Random) -> str | None:
        """The question with a name, number, direction or sign replaced: its passage no longer fits."""
        changes = [self._other_name, self._other_number, self._opposite, self._negated]
        weights = [4, 2, 3, 1]
        while changes:
            (change,) = rng.choices(changes, weights)
            changed = change(question, rng)
            if changed is not None and changed != question.question:
                return changed
            del weights[changes.index(change)]
            changes.remove(change)
        return None

    def _answers(self, question: GroundedQuestion, passage: int) -> bool:
        text = self.questions.passages[passage].lower()
        return any(answer.lower() in text for answer in question.answers)

    def _other_name(self, question: GroundedQuestion, rng: random.Random) -> str | None:
        found = list(_NAME.finditer(question.question))
        if not found:
            return None
        match = rng.choice(found)
        passage = self.questions.passages[question.passage]
        # A name of the same article, most of the time one that the passage mentions in another role.
        names, _ = self._article_names(question.title)
        here = [name for name in names if name in passage]
        pool = [n for n in (here if here and rng.random() < 0.6 else names) if n not in question.question]
        pool = [n for n in pool if all(n not in answer for answer in question.answers)]
        if not pool:
            return None
        return question.question[: match.start()] + rng.choice(pool) + question.question[match.end() :]

    def _other_number(self, question: GroundedQuestion, rng: random.Random) -> str | None:
        found = list(_NUMBER.finditer(question.question))
        if not found:
            return None
        match = rng.choice(found)
        _, numbers = self._article_names(question.title)
        same_width = [n for n in numbers if len(n) == len(match[0]) and n != match[0]]
        if not same_width:
            return None
        return question.question[: match.start()] + rng.choice(same_width) + question.question[match.end() :]

    def _opposite(self, question: GroundedQuestion, rng: random.Random) -> str | None:
        found = [m for m in _WORD.finditer(question.question) if m[0].lower() in self._opposites]
        if not found:
            return None
        match = rng.choice(found)
        other = self._opposites[match[0].lower()]
        return question.question[: match.start()] + other + question.question[match.end() :]

    def _negated(self, question: GroundedQuestion, rng: random.Random) -> str | None:
        match = _NEGATED.search(question.question)
        if match is None:
            return None
        joined = rng.choice(("n't", " not", " never"))
        if joined == "n't" and match[0].lower() in ("can", "will"):
            joined = " not"
        return question.question[: match.end()] + joined + question.question[match.end() :]

    def _article_names(self, title: str) -> tuple[list[str], list[str]]:
        """Names and numbers that the article's passages mention."""
        known = self._names.get(title)
        if known is None:
            texts = [self.questions.passages[i] for i in self.questions.passages_by_title.get(title, ())]
            names = sorted({match[0] for text in texts for match in _NAME.finditer(text)})
            numbers = sorted({match[0].rstrip(".,") for text in texts for match in _NUMBER.finditer(text)})
            known = self._names[title] = (names, numbers)
        return known
