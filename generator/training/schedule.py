"""The learning rate as a function of how far a run is."""

from __future__ import annotations

import math

from generator.training.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, progress: float) -> float:
    """The rate at `progress` (0 to 1): linear warm-up, then what `config.schedule` says.

    Warmup-stable-decay (arXiv 2404.06395) holds the rate and falls linearly over the last `decay_fraction`.
    """
    if progress < config.warmup_fraction:
        return config.learning_rate * max(progress / config.warmup_fraction, 0.01)
    passed = (progress - config.warmup_fraction) / max(1 - config.warmup_fraction, 1e-9)  # 0 to 1
    if config.schedule == "constant":
        left = 1.0
    elif config.schedule == "cosine":
        left = (1 + math.cos(math.pi * passed)) / 2
    elif config.schedule == "warmup-stable-decay":
        left = min(1.0, (1 - progress) / max(config.decay_fraction, 1e-9))
    else:
        left = 1 - passed
    return config.learning_rate * (config.final_fraction + (1 - config.final_fraction) * left)
