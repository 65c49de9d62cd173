"""From scores to a probability that the passages answer: logistic regression on a few features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Calibration:
    """How drafts are ranked and when an answer counts as supported; fit on held-out titles."""

    verify_weight: float = 0.0  # a draft's rank is by margin + verify_weight * log_prob
    bias: float = 0.0
    margin: float = 1.0  # coefficient of the best draft's margin over its null
    mean_log_prob: float = 0.0  # coefficient of the generator's log probability a token
    threshold: float = 0.5  # below this probability the passages do not answer

    def probability(self, margin: float, mean_log_prob: float) -> float:
        """Calibrated probability that the draft with these scores answers the question."""
        return _sigmoid(self.bias + self.margin * margin + self.mean_log_prob * mean_log_prob)

    def to_dict(self) -> dict[str, float]:
        """JSON-ready mapping."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """Rebuild from `to_dict`."""
        return cls(**{name: float(value) for name, value in data.items()})


def fit_logistic(
    features: Sequence[Sequence[float]], labels: Sequence[bool], *, ridge: float = 1e-3, steps: int = 50
) -> tuple[list[float], float]:
    """Coefficients and bias of a logistic regression, by Newton's method on standardised features.

    `ridge` keeps separable data finite.
    """
    x = torch.tensor(features, dtype=torch.float64)
    y = torch.tensor(labels, dtype=torch.float64)
    mean, deviation = x.mean(0), x.std(0).clamp(min=1e-9)
    design = torch.cat([(x - mean) / deviation, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
    weights = torch.zeros(design.shape[1], dtype=torch.float64)
    penalty = torch.eye(design.shape[1], dtype=torch.float64) * ridge * len(x)
    penalty[-1, -1] = 0.0
    for _ in range(steps):
        p = torch.sigmoid(design @ weights)
        gradient = design.T @ (p - y) + penalty @ weights
        curvature = (design * (p * (1 - p))[:, None]).T @ design + penalty
        step = torch.linalg.solve(curvature + 1e-9 * torch.eye(len(weights), dtype=torch.float64), gradient)
        weights = weights - step
        if float(step.abs().max()) < 1e-9:
            break
    coefficients = weights[:-1] / deviation
    return coefficients.tolist(), float(weights[-1] - (coefficients * mean).sum())


def expected_calibration_error(
    probabilities: Sequence[float], labels: Sequence[bool], *, bins: int = 10
) -> float:
    """Mean gap between stated probability and observed frequency, over equally wide bins."""
    total = 0.0
    for index in range(bins):
        low, high = index / bins, (index + 1) / bins
        inside = [i for i, p in enumerate(probabilities) if low <= p < high or (p == high == 1.0)]
        if inside:
            said = sum(probabilities[i] for i in inside) / len(inside)
            true = sum(labels[i] for i in inside) / len(inside)
            total += len(inside) * abs(said - true)
    return total / max(len(probabilities), 1)


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
