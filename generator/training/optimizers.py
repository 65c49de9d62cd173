"""Optimisers by name. Those that PyTorch has are PyTorch's; the others come from `pytorch-optimizer`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from generator.training.config import OptimizerConfig, OptimizerName
from generator.training.errors import InvalidTrainingConfig, OptimizerMissing
from generator.training.optimizer_state import trainable

_MAX_PRECONDITIONED = 4096  # SOAP: a longer side (a vocabulary) gets no preconditioner of its own


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimiser over the trainable parameters; biases, norms and position tables do not decay."""
    if config.name == "schedule-free-adamw" and config.schedule != "constant":
        raise InvalidTrainingConfig(
            f"The optimiser 'schedule-free-adamw' averages weights instead of a {config.schedule} schedule.",
            hint='Set optimizer.schedule = "constant".',
        )
    return _BUILDERS[config.name](model, config)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the next step, in all groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def use_averaged_weights(optimizer: torch.optim.Optimizer, wanted: bool) -> None:
    """Switch between the weights that are trained and those that count; they differ where it averages."""
    switch = getattr(optimizer, "eval" if wanted else "train", None)
    if switch is not None:
        switch()


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for the matrices of the layers, AdamW for all else: embeddings, heads, norms and biases.

    Muon's rate is scaled so that its updates are as large as AdamW's (arXiv 2502.16982, section 2.2), so one
    learning rate serves both. Groups and state are the parts' own.
    """

    def __init__(
        self, matrices: list[nn.Parameter], others: list[dict[str, Any]], config: OptimizerConfig
    ) -> None:
        muon = torch.optim.Muon(
            matrices,
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        self.parts: list[torch.optim.Optimizer] = [muon, _adamw_of(others, config)]
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of both."""
        for part in self.parts:
            part.step(closure)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `torch.optim.Optimizer`."""
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        """Both parts work on this object's groups and state."""
        counts = [len(part.param_groups) for part in self.parts]
        first = 0
        for part, count in zip(self.parts, counts, strict=True):
            part.param_groups = self.param_groups[first : first + count]
            part.state = self.state
            first += count


def _adamw(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    return _adamw_of(_groups(trainable(model), config), config)


def _adamw_of(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)


def _muon(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    parameters = trainable(model)
    matrices = {name: p for name, p in parameters.items() if p.ndim == 2 and ".layers." in f".{name}"}
    if not matrices:
        raise InvalidTrainingConfig(
            "The optimiser 'muon' needs matrices in layers, and this model trains none.",
            hint='Use optimizer.name = "adamw".',
        )
    others = {name: p for name, p in parameters.items() if name not in matrices}
    return MuonWithAdamW(list(matrices.values()), _groups(others, config), config)


def _adafactor(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    return torch.optim.Adafactor(_groups(trainable(model), config), lr=config.learning_rate)


def _lion(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    kind = _from_library("Lion")
    return kind(_groups(trainable(model), config), lr=config.learning_rate, betas=config.betas)


def _soap(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    return _from_library("SOAP")(
        _groups(trainable(model), config),
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        max_precondition_dim=_MAX_PRECONDITIONED,
    )


def _schedule_free(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    return _from_library("ScheduleFreeAdamW")(
        _groups(trainable(model), config), lr=config.learning_rate, betas=config.betas, eps=config.eps
    )


_BUILDERS: Mapping[OptimizerName, Callable[[nn.Module, OptimizerConfig], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "muon": _muon,
    "lion": _lion,
    "adafactor": _adafactor,
    "soap": _soap,
    "schedule-free-adamw": _schedule_free,
}


def _groups(parameters: Mapping[str, nn.Parameter], config: OptimizerConfig) -> list[dict[str, Any]]:
    decayed, kept = [], []
    for name, parameter in parameters.items():
        (kept if parameter.ndim < 2 or "embed_positions" in name else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _from_library(name: str) -> Any:
    try:
        import pytorch_optimizer
    except ImportError as error:
        raise OptimizerMissing(
            f"The optimiser {name} comes from pytorch-optimizer, which is not installed.",
            hint="Install it with: pip install 'ragserve[train]'.",
        ) from error
    return getattr(pytorch_optimizer, name)
