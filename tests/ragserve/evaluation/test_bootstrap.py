"""Bootstrap intervals against what statistics says they should be."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ragserve.evaluation import bootstrap
from ragserve.evaluation.bootstrap import interval, mean, paired_interval, percentile


def test_the_interval_of_a_mean_is_about_two_standard_errors_wide():
    values = np.random.default_rng(3).normal(50, 10, size=400)
    found = interval(values)
    error = values.std() / math.sqrt(len(values))
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15)


def test_nan_are_questions_that_the_figure_does_not_apply_to():
    values = np.array([1.0, math.nan, 3.0, math.nan])
    assert mean(values) == 2
    assert percentile(50)(np.array([5.0, 1.0, math.nan, 3.0])) == 3
    assert percentile(95)(np.array([5.0, 1.0, 2.0])) == 5
    assert math.isnan(mean(np.array([math.nan])))
    low, high = interval(values)
    assert 1 <= low <= 2 <= high <= 3


def test_pairs_remove_what_both_runs_share():
    rng = np.random.default_rng(1)
    before = rng.normal(50, 30, size=200)
    after = before + rng.normal(2, 1, size=200)
    paired = paired_interval(before, after)
    assert paired.low > 1.5
    assert paired.high < 2.5
    assert interval(after).low < interval(before).high  # which the two alone could not tell


def test_the_same_run_twice_differs_by_nothing():
    values = np.array([0.0, 100.0, math.nan, 40.0])
    assert paired_interval(values, values) == (0, 0)


def test_blocks_do_not_change_how_many_rounds_there_are(monkeypatch):
    values = np.arange(30, dtype=float)
    monkeypatch.setattr(bootstrap, "_BLOCK", 100)
    assert sum(len(block) for block in bootstrap._resamples(30, 50, 0)) == 50
    low, high = interval(values, rounds=500)
    assert low < values.mean() < high


def test_runs_over_other_questions_cannot_be_paired():
    with pytest.raises(ValueError, match="same questions"):
        paired_interval(np.zeros(2), np.zeros(3))
