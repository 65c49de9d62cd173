"""What a reader's drafts are worth on questions with known answers, and the calibration from that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from generator.reader.calibration import Calibration, expected_calibration_error, fit_logistic
from generator.reader.reader import Reader
from generator.training.scoring import word_f1
from generator.types import Passage


@dataclass(frozen=True, slots=True)
class JudgedDraft:
    """A draft's scores and what its text is worth against the known answers (0 where there are none)."""

    text: str
    margin: float
    log_prob: float
    mean_log_prob: float
    f1: float


@dataclass(frozen=True, slots=True)
class JudgedQuestion:
    """All drafts of one question; `answerable` says whether its passages hold the answer."""

    question: str
    answerable: bool
    drafts: tuple[JudgedDraft, ...]

    def best(self, calibration: Calibration) -> JudgedDraft | None:
        """The draft that the reader would give."""
        weight = calibration.verify_weight
        return max(self.drafts, key=lambda d: d.margin + weight * d.log_prob, default=None)

    def probability(self, calibration: Calibration) -> float:
        """The reader's confidence in it."""
        best = self.best(calibration)
        return 0.0 if best is None else calibration.probability(best.margin, best.mean_log_prob)


def judge(
    reader: Reader, question: str, passages: Sequence[Passage], answers: Sequence[str]
) -> JudgedQuestion:
    """Let a reader draft and compare with `answers`; none means that the passages do not answer."""
    ranking = reader.rank(question, passages, verify_all=True)
    drafts = []
    for draft in ranking.drafts:
        start, end = ranking.characters(draft)
        text = passages[draft.passage][1][start:end]
        drafts.append(
            JudgedDraft(
                text=text,
                margin=draft.margin,
                log_prob=draft.log_prob,
                mean_log_prob=draft.mean_log_prob,
                f1=word_f1(text, answers) if answers else 0.0,
            )
        )
    return JudgedQuestion(question, bool(answers), tuple(drafts))


WORTH_A_VOTE = 0.25  # percent of F1, far inside the error of any set that this is fit on
VERIFY_WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)


def fit_calibration(judged: Sequence[JudgedQuestion], *, cost_of_wrong: float = 1.0) -> Calibration:
    """Choose how drafts are ranked, what a score means, and from where on an answer is given.

    The weight of the generator's vote maximises F1 on answerable questions; the smallest will do that comes
    within `WORTH_A_VOTE` of it, because without a vote seven drafts of eight need not be verified. The
    probability is that of the given answer being right (F1 of at least a half). A wrong answer costs
    `cost_of_wrong` times what a right one is worth, which makes the threshold: with calibrated
    probabilities, answering pays from cost / (1 + cost) on. By default it costs as much: an answer is given
    when it is rather right than wrong.
    """
    answerable = [question for question in judged if question.answerable]
    by_weight = {weight: Calibration(verify_weight=weight) for weight in VERIFY_WEIGHTS}
    scores = {weight: mean_f1(answerable, by_weight[weight]) for weight in VERIFY_WEIGHTS}
    weight = min(w for w in VERIFY_WEIGHTS if scores[w] >= max(scores.values()) - WORTH_A_VOTE)
    best = [draft for question in judged if (draft := question.best(by_weight[weight])) is not None]
    features = [[draft.margin, draft.mean_log_prob] for draft in best]
    (margin, mean_log_prob), bias = fit_logistic(features, [draft.f1 >= 0.5 for draft in best])
    return Calibration(weight, bias, margin, mean_log_prob, cost_of_wrong / (1 + cost_of_wrong))


def mean_f1(judged: Sequence[JudgedQuestion], calibration: Calibration) -> float:
    """Mean F1 in percent of the best drafts, no threshold applied."""
    return 100 * _mean([best.f1 if (best := q.best(calibration)) else 0.0 for q in judged])


def share_refused(judged: Sequence[JudgedQuestion], calibration: Calibration) -> float:
    """Share in percent of the questions whose answer falls below the threshold."""
    return 100 * _mean([float(q.probability(calibration) < calibration.threshold) for q in judged])


def calibration_error(judged: Sequence[JudgedQuestion], calibration: Calibration) -> float:
    """Expected calibration error of "the given answer is right", 0 to 1."""
    labels = [(best := q.best(calibration)) is not None and best.f1 >= 0.5 for q in judged]
    return expected_calibration_error([q.probability(calibration) for q in judged], labels)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)
