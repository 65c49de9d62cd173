"""Questions that a passage does not answer, made from ones that it does.

A reader that has only seen answerable questions always answers. Five kinds of negative, from easy to hard: a
passage that a search engine would bring up (`hard_negatives`), the paragraph of the same article that shares
the rarest words with the question, the question's own paragraph with the answer's surroundings left out, the
right paragraph with the question changed so that it no longer fits (a name, a number, a word, a direction or
the sign replaced), after the kinds of unanswerable question that SQuAD 2.0's authors found people to write
(Rajpurkar et al. 2018, table 2), and the question as it was with the same change made in the paragraph
instead. Lest a reader takes whatever reads oddly for a negative, the change can be made in both: then the
question has its answer again.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from typing import NamedTuple

from generator.training.records import GroundedQuestion, QuestionSet
from generator.training.substitutes import Substitutes

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


_INTERROGATIVES = frozenset(("who", "whom", "whose", "what", "which", "when", "where", "why", "how"))
_COMMON = 0.08  # a word in more of the passages than this says little about one of them


class Change(NamedTuple):
    """A term that question and passage share, and what takes its place."""

    term: str
    other: str

    def made_in(self, text: str) -> str:
        """`text` with every whole-word occurrence replaced, capitals kept."""

        def replaced(match: re.Match[str]) -> str:
            return _capitalised_like(match[0], self.other)

        return re.sub(rf"\b{re.escape(self.term)}\b", replaced, text, flags=re.IGNORECASE)


def opposites() -> dict[str, str]:
    """Words and what turns a question around, in both directions."""
    pairs = [pair.split() for pair in _OPPOSITES.split(",")]
    return dict(pairs) | {b: a for a, b in pairs if b not in dict(pairs)}


class UnanswerableMaker:
    """Draws negatives for questions of one `QuestionSet`."""

    def __init__(self, questions: QuestionSet, substitutes: Substitutes | None = None) -> None:
        self.questions = questions
        self._substitutes = substitutes or Substitutes({})
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
        changes = [self._other_name, self._other_number, self._other_word, self._opposite, self._negated]
        weights = [4, 2, 4, 3, 2]
        while changes:
            (change,) = rng.choices(changes, weights)
            changed = change(question, rng)
            if changed is not None and changed != question.question:
                return changed
            del weights[changes.index(change)]
            changes.remove(change)
        return None

    def shared_change(self, question: GroundedQuestion, rng: random.Random) -> Change | None:
        """A name, number or word of the question that its passage has too, and one that neither has.

        Made in one of the two, the question has no answer any more; made in both, it has its answer again.
        The answers themselves are left alone.
        """
        passage = self.questions.passages[question.passage]
        kinds = [self._shared_name, self._shared_number, self._shared_word]
        for kind in sorted(kinds, key=lambda _: rng.random()):
            change = kind(question, passage, rng)
            if change is not None:
                return change
        return None

    def _shared_name(self, question: GroundedQuestion, passage: str, rng: random.Random) -> Change | None:
        names, _ = self._article_names(question.title)
        return self._shared(_NAME.findall(question.question), names, question, passage, rng)

    def _shared_number(self, question: GroundedQuestion, passage: str, rng: random.Random) -> Change | None:
        found = [number.rstrip(".,") for number in _NUMBER.findall(question.question)]
        _, numbers = self._article_names(question.title)
        others = [n for n in numbers if any(len(n) == len(number) for number in found)]
        return self._shared(found, others, question, passage, rng)

    def _shared_word(self, question: GroundedQuestion, passage: str, rng: random.Random) -> Change | None:
        words = self._telling_words(question)
        rng.shuffle(words)
        for word in words:
            others = [*self._substitutes.of(word)]
            if word in self._opposites:
                others.append(self._opposites[word])
            change = self._shared([word], others, question, passage, rng)
            if change is not None:
                return change
        return None

    def _shared(
        self,
        terms: list[str],
        others: list[str],
        question: GroundedQuestion,
        passage: str,
        rng: random.Random,
    ) -> Change | None:
        """One of `terms` that the passage has and no answer touches, and one of `others` new to both."""
        answers = " ".join(question.answers)
        here = [t for t in terms if _holds(passage, t) and not _holds(answers, t)]
        if not here:
            return None
        term = rng.choice(here)
        new = [o for o in others if not _holds(passage, o) and not _holds(question.question, o)]
        return Change(term, rng.choice(new)) if new else None

    def _telling_words(self, question: GroundedQuestion) -> list[str]:
        """The question's lower-case words that are not in every other passage, in their order."""
        words = dict.fromkeys(_WORD.findall(question.question.lower()))
        return [word for word in words if word not in _INTERROGATIVES and self._tells(word)]

    def _tells(self, word: str) -> bool:
        return self._idf.get(word, 0.0) > -math.log(_COMMON)

    def _other_word(self, question: GroundedQuestion, rng: random.Random) -> str | None:
        """A word replaced by one of its kind that the passage lacks; most of the time one that it has."""
        here = self._words[question.passage]
        words = [word for word in self._telling_words(question) if self._substitutes.of(word)]
        if not words:
            return None
        (word,) = rng.choices(words, [3 if word in here else 1 for word in words])
        others = [other for other in self._substitutes.of(word) if other not in here]
        return Change(word, rng.choice(others)).made_in(question.question) if others else None

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
            found = {match[0] for text in texts for match in _NAME.finditer(text)}
            names = sorted(name for name in found if " " in name or self._tells(name.lower()))
            numbers = sorted({match[0].rstrip(".,") for text in texts for match in _NUMBER.finditer(text)})
            known = self._names[title] = (names, numbers)
        return known


def _holds(text: str, term: str) -> bool:
    """Whether the term stands in the text as a whole word or words, in whatever case."""
    text, term = text.lower(), term.lower()
    start = text.find(term)
    while start >= 0:
        end = start + len(term)
        if not (text[start - 1 : start].isalnum() or text[end : end + 1].isalnum()):
            return True
        start = text.find(term, start + 1)
    return False


def _capitalised_like(model: str, word: str) -> str:
    return word[:1].upper() + word[1:] if model[:1].isupper() else word
