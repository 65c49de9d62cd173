"""Citations in generated text: read as they stream, checked, and backed by verbatim evidence."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from generator.reader.sentences import ends_sentence
from generator.types import AnswerSpan, Passage

UNSUPPORTED_MARK = "[?]"

# Scripts without spaces count a character as a word.
_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W_぀-ヿ㐀-鿿가-힯]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|(?<=[。!?])|\n+")
_CITATION = re.compile(r"\[\s*(\d{1,4}(?:\s*[,;]\s*\d{1,4})*)\s*\]")
_CITATION_BEGUN = re.compile(r"\[[\d\s,;]{0,30}")
_SOURCES = r"\b(?:passages?|texts?|sources?|documents?|context)"
_REFUSAL = re.compile(
    rf"{_SOURCES}(?:\s+(?:above|below|given|here))?\s+(?:(?:do|does|did|can)\s*(?:not|n['’]t)\s+(?:\w+ly\s+)?"
    r"(?:answer|contain|mention|provide|say|specify|state|include|give|tell)"
    r"|(?:has|have|contains?|provides?|gives?|includes?)\s+no\b)"
    rf"|\bno\s+(?:information|mention|answer)\b[^.]*{_SOURCES}",
    re.IGNORECASE,
)
_MIN_CITED_COVERAGE = 0.25  # share of a claim's words that the cited passage must have in one sentence
_MIN_UNCITED_COVERAGE = 0.6  # the same for a passage that the model did not name
_MIN_CLAIM_WORDS = 3  # "Yes." and "Here it is:" claim nothing
_MARK = re.compile(r"\[\d+\]")
_CODE = re.compile(r"`[^`]*`")
_WORD_OR_SPACE = re.compile(r"\s+|\S+")


class Evidence(NamedTuple):
    """A passage's sentence, text[start:end], and the share of a claim it covers, rare words counting more."""

    start: int
    end: int
    coverage: float


def says_unanswerable(text: str) -> bool:
    """Whether an answer is a statement that the passages do not answer."""
    return bool(_REFUSAL.search(text))


def words(text: str) -> list[str]:
    """Case-folded words."""
    return [word.casefold() for word in _WORD.findall(text)]


def sentences(text: str) -> list[tuple[int, int]]:
    """Offsets of the sentences of `text`, blank margins left out."""
    spans, start = [], 0
    for match in [*_SENTENCE_END.finditer(text), None]:
        end = match.start() if match else len(text)
        piece = text[start:end]
        left = start + len(piece) - len(piece.lstrip())
        right = start + len(piece.rstrip())
        if left < right:
            spans.append((left, right))
        start = match.end() if match else end
    return spans


class EvidenceFinder:
    """Finds the sentence of a passage that backs a claim best."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._sentences = [
            [(start, end, frozenset(words(text[start:end]))) for start, end in sentences(text)]
            for _, text in passages
        ]
        self._frequency = Counter(word for part in self._sentences for *_, found in part for word in found)
        self._total = sum(map(len, self._sentences))

    def find(self, claim: str, rank: int) -> Evidence | None:
        """The best sentence of passage `rank` (from 1), first of equals; None without a shared word."""
        claimed = set(words(claim))
        total = sum(map(self._weight, claimed))
        best: Evidence | None = None
        for start, end, found in self._sentences[rank - 1]:
            coverage = sum(self._weight(word) for word in claimed & found) / total if total else 0.0
            if coverage > 0 and (best is None or coverage > best.coverage):
                best = Evidence(start, end, coverage)
        return best

    def _weight(self, word: str) -> float:
        """Rare words weigh more: smoothed inverse sentence frequency."""
        return math.log((self._total + 1) / (self._frequency[word] + 0.5))


class CitedText:
    """Generated text as it may be shown, piece by piece.

    A `[n]` survives if passage n exists and has a sentence that shares enough words with the claim before it;
    `[1, 2]` becomes `[1][2]`. A sentence without one gets the passage that clearly says it, or else the mark
    `[?]`: nothing given backs it. Code in `backticks` is left alone, margins of the whole text are trimmed.
    What a citation or mark needs to be decided is held back, so the pieces joined are exactly `text`.
    Where the prompt has the passages in another order than the reader, `ranks` are the numbers to show.
    """

    def __init__(self, passages: Sequence[Passage], *, ranks: Sequence[int] | None = None) -> None:
        self._passages = passages
        self._shown_rank = dict(enumerate(ranks or range(1, len(passages) + 1), start=1))
        self._finder = EvidenceFinder(passages)
        self._pending = ""  # not decided yet
        self._spaces = ""  # held until something follows them
        self._dropped = False  # whether a citation after them did not hold
        self._evidence: list[tuple[int, Evidence]] = []  # (rank, evidence) in order of citation
        self._closed = 0  # what is before this in `text` has been judged, sentence by sentence
        self.text = ""

    @property
    def spans(self) -> tuple[AnswerSpan, ...]:
        """The evidence, in order of first citation."""
        found = (
            AnswerSpan(self._passages[rank - 1][0], item.start, item.end) for rank, item in self._evidence
        )
        return tuple(dict.fromkeys(found))

    @property
    def passage_ids(self) -> tuple[str, ...]:
        """The cited passages, in order of first citation."""
        return tuple(dict.fromkeys(self._passages[rank - 1][0] for rank, _ in self._evidence))

    @property
    def confidence(self) -> float:
        """Mean share of the cited claims' words that their evidence covers; 0 without evidence."""
        return sum(item.coverage for _, item in self._evidence) / max(len(self._evidence), 1)

    def push(self, piece: str) -> str:
        """Add generated text; returns what may be shown now."""
        self._pending += piece
        return self._drain(final=False)

    def finish(self) -> str:
        """The rest, the last sentence judged as the others were."""
        shown = self._drain(final=True)
        self._spaces = ""
        verdict = self._judge_sentence(self.text[self._closed :]) if self.text else ""
        self.text += verdict
        return shown + verdict

    def _drain(self, *, final: bool) -> str:
        shown = ""
        while self._pending:
            opening = self._pending.find("[")
            if opening != 0:
                plain = self._pending if opening < 0 else self._pending[:opening]
                self._pending = self._pending[len(plain) :]
                for part in _WORD_OR_SPACE.findall(plain):
                    shown += self._show(part)
                continue
            match = None if self._inside_code() else _CITATION.match(self._pending)
            if match:
                marks = self._judge(match, final=final)
                if marks is None:
                    break
                if marks:
                    shown += self._show(marks, is_mark=True)
                else:
                    self._dropped = True
                self._pending = self._pending[match.end() :]
            elif not final and _CITATION_BEGUN.fullmatch(self._pending) and not self._inside_code():
                break
            else:
                shown += self._show("[")
                self._pending = self._pending[1:]
        return shown

    def _judge(self, match: re.Match[str], *, final: bool) -> str | None:
        """The marks of a citation that hold, or None while that depends on text to come.

        A claim mostly precedes its citation ("It is red [1]."), but may follow it ("By [1], it is red.").
        """
        ranks = [int(number) for number in re.findall(r"\d+", match[1])]
        ranks = [rank for rank in dict.fromkeys(ranks) if 1 <= rank <= len(self._passages)]
        claim, rest = self._claim(), self._pending[match.end() :]
        end = _SENTENCE_END.search(rest)
        whole = _CITATION.sub(" ", claim + rest[: end.start() if end else len(rest)])
        held: list[tuple[int, Evidence]] = []
        for rank in ranks:
            evidence = self._backing(claim, rank)
            if evidence is None and end is None and not final:
                return None
            if evidence := evidence or self._backing(whole, rank):
                held.append((rank, evidence))
        self._evidence += held
        return "".join(f"[{self._shown_rank[rank]}]" for rank, _ in held)

    def _backing(self, claim: str, rank: int) -> Evidence | None:
        evidence = self._finder.find(claim, rank)
        return evidence if evidence and evidence.coverage >= _MIN_CITED_COVERAGE else None

    def _show(self, plain: str, *, is_mark: bool = False) -> str:
        """Emit text, but hold its trailing blanks until something follows."""
        if self._dropped and not plain[0].isalnum():
            self._spaces = ""  # "red [9]." becomes "red."
        self._dropped = False
        verdict = ""
        if self.text and self._spaces and not is_mark and not plain.isspace():
            verdict = self._close_sentence(following=plain[0])
        text = verdict + self._spaces + plain
        if not self.text:
            text = text.lstrip()
        body = text.rstrip()
        self._spaces = text[len(body) :]
        self.text += body
        return body

    def _close_sentence(self, *, following: str) -> str:
        """What to add to the sentence that ends here, if one does; its citations have come by now."""
        sentence = self.text[self._closed :]
        bare = _MARK.sub("", sentence).rstrip()
        ended = "\n" in self._spaces or (ends_sentence(bare) and not following.islower())
        if not ended or self._inside_code() or len(words(bare)) < _MIN_CLAIM_WORDS or bare.endswith(":"):
            return ""
        verdict = self._judge_sentence(sentence)
        self._closed = len(self.text) + len(verdict)
        return verdict

    def _judge_sentence(self, sentence: str) -> str:
        """Nothing for one that is cited or claims nothing, the passage that says it, or the mark."""
        if _MARK.search(_CODE.sub("", sentence)) or says_unanswerable(sentence) or not words(sentence):
            return ""
        found = ((self._finder.find(sentence, rank), -rank) for rank in range(1, len(self._passages) + 1))
        backed = [(evidence.coverage, rank, evidence) for evidence, rank in found if evidence is not None]
        if backed and max(backed)[0] >= _MIN_UNCITED_COVERAGE:
            _, negative_rank, evidence = max(backed)
            self._evidence.append((-negative_rank, evidence))
            return f" [{self._shown_rank[-negative_rank]}]"
        claims = len(words(sentence)) >= _MIN_CLAIM_WORDS and not self._inside_code()
        return f" {UNSUPPORTED_MARK}" if claims else ""

    def _claim(self) -> str:
        """The sentence that a citation here belongs to: the one before it, without earlier marks."""
        bare = _CITATION.sub(" ", self.text)
        spans = [bare[start:end] for start, end in sentences(bare)]
        return next((sentence for sentence in reversed(spans) if words(sentence)), "")

    def _inside_code(self) -> bool:
        return (self.text + self._spaces).count("`") % 2 == 1
