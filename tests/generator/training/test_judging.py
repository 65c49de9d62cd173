from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from generator.reader.calibration import Calibration
from generator.training.calibrate import _draw
from generator.training.judging import (
    JudgedDraft,
    JudgedQuestion,
    calibration_error,
    fit_calibration,
    mean_f1,
    share_refused,
)
from generator.training.records import GroundedQuestion


def draft(margin: float, *, f1: float = 0.0, log_prob: float = -1.0) -> JudgedDraft:
    return JudgedDraft("x", margin, log_prob, log_prob, f1)


def question(*drafts: JudgedDraft, answerable: bool = True) -> JudgedQuestion:
    return JudgedQuestion("?", answerable, drafts)


def simulated(count: int) -> list[JudgedQuestion]:
    """The generator prefers the right draft, the span head the wrong one; margins tell right from wrong."""
    rng = random.Random(2)
    questions = []
    for index in range(count):
        if index % 3 == 0:
            questions.append(question(draft(rng.gauss(-2, 2)), answerable=False))
            continue
        margin = rng.gauss(2, 2)
        questions.append(question(draft(margin + 0.5, log_prob=-8), draft(margin, f1=1.0, log_prob=-1)))
    return questions


def test_the_generators_vote_is_weighed_by_what_it_brings() -> None:
    calibration = fit_calibration(simulated(300))
    assert calibration.verify_weight > 0.07
    assert mean_f1([q for q in simulated(300) if q.answerable], calibration) == 100
    silent = [
        question(draft(1, f1=1.0, log_prob=-30), draft(0, log_prob=0)),
        question(draft(-3), answerable=False),
    ]
    assert fit_calibration(silent * 10).verify_weight == 0


def test_probabilities_are_calibrated_and_the_threshold_follows_the_cost() -> None:
    judged = simulated(3000)
    calibration = fit_calibration(judged, cost_of_wrong=0.5)
    assert calibration.threshold == pytest.approx(1 / 3)
    assert fit_calibration(judged[:90], cost_of_wrong=1.0).threshold == pytest.approx(0.5)
    assert calibration_error(judged, calibration) < 0.05
    assert calibration.margin > 0


def test_figures_count_what_they_say() -> None:
    calibration = Calibration(margin=1.0, threshold=0.5)
    judged: list[Any] = [
        question(draft(3, f1=1.0)),
        question(draft(3, f1=0.4)),
        question(draft(-3, f1=1.0)),
        question(),
    ]
    assert mean_f1(judged, calibration) == pytest.approx(60)
    assert share_refused(judged, calibration) == 50


def test_calibration_draws_the_sources_as_training_does_and_none_that_figures_are_made_from() -> None:
    def of(source: str, count: int) -> list[GroundedQuestion]:
        return [GroundedQuestion(source, f"{source} {i}", "?", ("x",), 0) for i in range(count)]

    questions = [*of("squad", 3000), *of("trivia", 3000), *of("qed_nq", 3000)]
    weights = {"squad": 0.8, "trivia": 0.05, "qed_nq": 0.15}
    drawn = _draw(questions, weights, count=500, rng=random.Random(1))
    shares = Counter(question.source for question in drawn)
    assert len({question.title for question in drawn}) == 500
    assert shares["qed_nq"] == 0
    assert 0.9 < shares["squad"] / 500 < 0.98
