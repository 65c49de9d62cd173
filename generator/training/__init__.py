"""Training: `train(config)`, `train_from_file(path)`, `python -m generator.training CONFIG.toml`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from generator.training.loader import PrefetchDataLoader
    from generator.training.progress import TrainingProgress, TrainingReport
    from generator.training.run import train, train_from_file

_HOMES = {
    "PrefetchDataLoader": "loader",
    "train": "run",
    "train_from_file": "run",
    "TrainingProgress": "progress",
    "TrainingReport": "progress",
}
__all__ = ["PrefetchDataLoader", "TrainingProgress", "TrainingReport", "train", "train_from_file"]


def __getattr__(name: str) -> Any:
    """Import torch only when training is really asked for."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
