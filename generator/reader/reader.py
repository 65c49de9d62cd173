"""The reader's face: a question and passages in, a verbatim answer with its evidence out."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from generator.reader.calibration import Calibration
from generator.reader.draft import Draft, propose, read_windows, verify
from generator.reader.edges import mend
from generator.reader.errors import EmptyQuestion
from generator.reader.tokens import ReaderTokenizer, Tokens
from generator.reader.weights import ReaderFiles, default_embeddings_folder, load_reader
from generator.reader.windows import Window, cut_windows, most_promising, pack_by_length
from generator.reader.wording import UNSUPPORTED, Evidence, sentence_around, settles, word_answer
from generator.reader.yes_no import opens_with_a_verb
from generator.types import AnswerSpan, GroundedAnswer, Passage, TokenEvent, Usage

if TYPE_CHECKING:
    import torch

    from generator.reader.architecture import ReaderModel

log = logging.getLogger(__name__)

READER_FOLDER = Path(__file__).resolve().parent.parent / "weights" / "reader"
_SETTLED = 0.9  # confidence in a sentence that says what is asked word for word
# Log odds. Of 130 how and why questions of SQuAD 2.0, 122 have their answer shown with it, 115 without.
_NEARLY_AS_GOOD = 1.5

_MAX_QUESTION_CHARACTERS = 8192  # what is beyond is not even tokenised
_WORD = re.compile(r"\s*\S+|\s+\Z")


@dataclass(frozen=True, slots=True)
class ReaderLimits:
    """How much the reader takes on for one question."""

    window_tokens: int = 256  # of a passage at a time; what it was trained on
    window_overlap: int = 64
    max_windows: int = 96  # of all passages; beyond, the ones that share the rarest words are read
    tokens_per_pass: int = 16_384  # padding included: bounds memory
    num_drafts: int = 8


@dataclass(frozen=True, slots=True)
class Ranking:
    """Drafts with scores, best first, and what it took to get them."""

    drafts: tuple[Draft, ...]
    passages: tuple[Tokens, ...]
    usage: Usage

    def characters(self, draft: Draft) -> tuple[int, int]:
        """A draft's [start, end) in its passage's text, mended at its edges."""
        passage = self.passages[draft.passage]
        return mend(passage.text, *passage.characters(draft.first, draft.last))


class Reader:
    """Answers questions from passages with spans of them, or says that they hold no answer.

    Stateless after loading: one reader serves any number of threads.
    """

    def __init__(
        self,
        model: ReaderModel,
        tokenizer: ReaderTokenizer,
        *,
        calibration: Calibration | None = None,
        files: ReaderFiles | None = None,
        limits: ReaderLimits | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.calibration = calibration or Calibration()
        self.files = files
        self.limits = limits or ReaderLimits()

    @classmethod
    def load(
        cls,
        folder: Path | str = READER_FOLDER,
        *,
        device: torch.device | str = "auto",
        dtype: torch.dtype | str = "auto",
        embeddings_folder: Path | str | None = None,
    ) -> Reader:
        """Load a reader; without `embeddings_folder` the installed all-MiniLM-L6-v2 lends the embeddings."""
        from generator.hardware import resolve_device, resolve_dtype

        embeddings = Path(embeddings_folder) if embeddings_folder is not None else default_embeddings_folder()
        where = resolve_device(device)
        model, files = load_reader(Path(folder), embeddings, device=where, dtype=resolve_dtype(dtype, where))
        tokenizer = ReaderTokenizer(embeddings / "tokenizer.json")
        return cls(model, tokenizer, calibration=files.calibration, files=files)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.model.transformer.device

    def answer(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        max_new_tokens: int | None = None,
        threshold: float | None = None,
    ) -> GroundedAnswer:
        """Answer from `passages`, (id, text) in order of rank.

        `max_new_tokens` bounds the answer's word pieces; a sentence around it is quoted, not generated.
        `threshold` replaces the calibrated one: probability from which an answer counts as supported.
        """
        ranking = self.rank(question, passages, max_new_tokens=max_new_tokens)
        threshold = self.calibration.threshold if threshold is None else threshold
        if not ranking.drafts:
            return GroundedAnswer(UNSUPPORTED, False, 0.0, (), (), ranking.usage)
        best, confidence = self._choose(question, ranking)
        passage_id, text = passages[best.passage]
        start, end = ranking.characters(best)
        draft = text[start:end]
        if confidence < threshold:
            return GroundedAnswer(UNSUPPORTED, False, confidence, (), (), ranking.usage, draft)
        second = _second_best(ranking, best)
        wording = word_answer(question, text, start, end, rank=best.passage + 1, second=second)
        return GroundedAnswer(
            text=wording.text,
            supported=True,
            confidence=confidence,
            spans=tuple(AnswerSpan(passage_id, *evidence) for evidence in wording.evidence),
            passage_ids=(passage_id,),
            usage=ranking.usage,
            draft=draft,
        )

    def answer_stream(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        max_new_tokens: int | None = None,
        threshold: float | None = None,
    ) -> Iterator[TokenEvent | GroundedAnswer]:
        """The answer's words as TokenEvents, which together are its text, then the answer.

        Verification confirms a whole draft in one pass, so the words come in one go.
        """
        answer = self.answer(question, passages, max_new_tokens=max_new_tokens, threshold=threshold)
        for match in _WORD.finditer(answer.text):
            yield TokenEvent(match[0])
        yield answer

    def rank(
        self,
        question: str,
        passages: Sequence[Passage],
        *,
        max_new_tokens: int | None = None,
        verify_all: bool = False,
    ) -> Ranking:
        """The best drafts over all passages, best first.

        The generator verifies all of them where its vote counts in their order, or where `verify_all` asks
        for it; else the best one alone, whose probability rests on it.
        """
        question_ids = self._question_ids(question)
        tokens = self.tokenizer.encode_batch([text for _, text in passages])
        windows = self._windows(tokens, question_ids)
        if not windows:
            return Ranking((), tuple(tokens), Usage(0, 0))
        room = self.model.config.max_answer_tokens - 1  # for the end token
        max_tokens = room if max_new_tokens is None else max(1, min(room, max_new_tokens))
        num_read = 0
        count = self.limits.num_drafts
        batches = pack_by_length(windows, extra=len(question_ids) + 3, budget=self.limits.tokens_per_pass)
        if len(batches) > 1:
            # Too much for one pass: find the windows with the best spans, and read those again together.
            promising: list[tuple[float, Window]] = []
            for batch in batches:
                reading = read_windows(self.model, self.tokenizer, question_ids, tokens, batch)
                num_read += reading.num_tokens
                for draft in propose(reading, tokens, count=count, max_tokens=max_tokens):
                    promising.append((draft.margin, reading.windows[draft.row]))
            best = sorted(promising, key=lambda pair: -pair[0])[:count]
            batches = [list(dict.fromkeys(window for _, window in best))]
        reading = read_windows(self.model, self.tokenizer, question_ids, tokens, batches[0])
        drafts = propose(reading, tokens, count=count, max_tokens=max_tokens)
        weight = self.calibration.verify_weight
        num_verified = len(drafts) if weight or verify_all else 1
        verified = [
            *verify(self.model, self.tokenizer, reading, tokens, drafts[:num_verified]),
            *drafts[num_verified:],
        ]
        verified.sort(key=lambda d: (-(d.margin + weight * d.log_prob), d.passage, d.first, d.last))
        written = verified[0].num_tokens if verified else 0
        return Ranking(tuple(verified), tuple(tokens), Usage(num_read + reading.num_tokens, written))

    def _choose(self, question: str, ranking: Ranking) -> tuple[Draft, float]:
        """The draft to answer with, and the confidence in it.

        The first whose sentence settles a yes/no question goes before all others: such questions the span
        head was not trained on, and the sentence speaks for itself.
        """
        best = ranking.drafts[0]
        confidence = self.calibration.probability(best.margin, best.mean_log_prob)
        for draft in ranking.drafts if opens_with_a_verb(question) else ():
            span = Evidence(*ranking.characters(draft))
            if settles(question, ranking.passages[draft.passage].text, span) is not None:
                return draft, max(confidence, _SETTLED)
        return best, confidence

    def _question_ids(self, question: str) -> list[int]:
        """The question's first pieces; what has no room is not read, and a warning says so."""
        ids = self.tokenizer.encode(question[:_MAX_QUESTION_CHARACTERS]).ids
        if not ids:
            raise EmptyQuestion("The question has no words.", hint="Ask something.")
        limit = self.model.config.max_question_tokens
        if len(ids) > limit:
            log.warning("The question has more than %d word pieces; the rest of it is not read.", limit)
        return ids[:limit]

    def _windows(self, tokens: Sequence[Tokens], question_ids: Sequence[int]) -> list[Window]:
        limits = self.limits
        room = self.model.config.max_prefix_tokens - len(question_ids) - 3
        size = min(limits.window_tokens, room)
        windows = cut_windows(tokens, size=size, overlap=min(limits.window_overlap, size - 1))
        return most_promising(windows, tokens, question_ids, limit=limits.max_windows)


def _second_best(ranking: Ranking, best: Draft) -> Evidence | None:
    """The next draft of the same passage that stands in another sentence, if it is nearly as good."""
    text = ranking.passages[best.passage].text
    around = sentence_around(text, Evidence(*ranking.characters(best)))
    for draft in ranking.drafts:
        if draft.passage != best.passage or best.margin - draft.margin >= _NEARLY_AS_GOOD:
            continue
        span = Evidence(*ranking.characters(draft))
        if span.start >= around.end or span.end <= around.start:
            return span
    return None
