from __future__ import annotations

import math
import random

import pytest

from generator.reader.calibration import Calibration, expected_calibration_error, fit_logistic


def test_the_fit_recovers_the_coefficients_that_made_the_data() -> None:
    rng = random.Random(5)
    features = [[rng.gauss(1, 3), rng.gauss(-4, 2)] for _ in range(4000)]
    labels = [rng.random() < 1 / (1 + math.exp(-(0.5 + 0.8 * a + 0.3 * b))) for a, b in features]
    (first, second), bias = fit_logistic(features, labels)
    assert first == pytest.approx(0.8, abs=0.12)
    assert second == pytest.approx(0.3, abs=0.08)
    assert bias == pytest.approx(0.5, abs=0.35)


def test_separable_data_keep_finite_coefficients() -> None:
    (coefficient,), bias = fit_logistic([[-1.0], [-2.0], [1.0], [2.0]], [False, False, True, True])
    assert math.isfinite(coefficient)
    assert coefficient > 0
    assert bias == pytest.approx(0, abs=1e-6)


def test_probabilities_grow_with_the_margin_and_never_overflow() -> None:
    calibration = Calibration(bias=-1, margin=2, mean_log_prob=0.5)
    found = [calibration.probability(margin, -1) for margin in (-1e4, -3, 0, 3, 1e4)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, 1)


def test_calibrated_probabilities_have_no_error_and_boastful_ones_do() -> None:
    labels = [True] * 70 + [False] * 30
    assert expected_calibration_error([0.7] * 100, labels) == pytest.approx(0)
    assert expected_calibration_error([1.0] * 100, labels) == pytest.approx(0.3)


def test_a_calibration_survives_its_json() -> None:
    calibration = Calibration(verify_weight=0.25, bias=1, margin=2, mean_log_prob=3, threshold=0.4)
    assert Calibration.from_dict(calibration.to_dict()) == calibration
