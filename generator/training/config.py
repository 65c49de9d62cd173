"""A training run's configuration: TOML in, frozen dataclasses out, every mistake named."""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from generator.training.errors import InvalidTrainingConfig

T = TypeVar("T")
PrecisionName = Literal["float32", "bfloat16", "float16"]
OptimizerName = Literal["adamw", "muon", "lion", "adafactor", "soap", "schedule-free-adamw"]
ScheduleName = Literal["linear", "cosine", "constant", "warmup-stable-decay"]


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Where a run lives and when it stops, saves and validates."""

    folder: str  # checkpoints, metrics.jsonl, plots and the finished model go there
    seed: int = 17  # of the data's order, fresh weights and dropout
    max_steps: int | None = None  # absent: as many as the task plans
    max_seconds: float | None = None  # wall clock, over all resumptions; the schedule ends with it
    checkpoint_seconds: float = 180.0  # between checkpoints
    validate_steps: int = 0  # between validations; 0: only at the end
    log_steps: int = 10  # between lines of metrics.jsonl
    prefetch: int = 4  # steps prepared ahead by a background thread
    threads: int = 0  # of the CPU; 0: PyTorch's choice
    device: str = "auto"  # cpu, cuda, cuda:N; auto: the GPU if there is one
    precision: PrecisionName = "float32"  # of the products; weights and moments stay float32
    gradient_checkpointing: bool = False  # compute each layer twice instead of keeping what it computed
    flop_ceiling: float | None = None  # of the device, FLOP/s; absent: measured when the run starts
    plots: bool = True  # PNG files and an HTML page at each validation and at the end

    def __post_init__(self) -> None:
        require_positive(self, "run", "max_steps", "max_seconds", "log_steps", "prefetch", "flop_ceiling")


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """How weights follow their gradients, and how the learning rate changes on the way."""

    learning_rate: float = 3e-4  # the highest one
    betas: tuple[float, float] = (0.9, 0.98)  # adamw, lion, soap, schedule-free-adamw
    eps: float = 1e-6  # adamw, muon (its adamw part), soap, schedule-free-adamw
    weight_decay: float = 0.01  # of matrices; biases and norms do not decay
    clip_norm: float = 1.0  # of the whole gradient
    warmup_fraction: float = 0.06  # of the run
    final_fraction: float = 0.0  # of the learning rate, at the end
    name: OptimizerName = "adamw"  # see above
    schedule: ScheduleName = "linear"  # after the warm-up
    decay_fraction: float = 0.2  # of the run, at its end (warmup-stable-decay)
    momentum: float = 0.95  # muon

    def __post_init__(self) -> None:
        require_positive(self, "optimizer", "learning_rate", "clip_norm")


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """One run: `task` is kept as read, because only the task named in `task.kind` knows its keys."""

    run: RunConfig
    task: Mapping[str, Any]
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)


def require_positive(config: Any, where: str, *names: str) -> None:
    """Refuse zero and less, and what is no number; an absent value is fine."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise InvalidTrainingConfig(f"'{where}.{name}' is {value}, but must be above 0.")


def load_config(path: Path, *, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Read a TOML file; `overrides` are `section.key=value` with TOML values (bare words are text)."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidTrainingConfig(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidTrainingConfig(f"{path} is not a TOML file: {error}.") from error
    for override in overrides:
        _apply_override(data, override)
    return parse_dataclass(TrainingConfig, data, where="")


def parse_dataclass(cls: type[T], data: Mapping[str, Any], *, where: str) -> T:
    """Build a dataclass from a mapping; unknown, missing and ill-typed keys are errors that name the key."""
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known keys: {', '.join(sorted(known))}."
            raise InvalidTrainingConfig(f"Unknown key {_join(where, key)!r}.", hint=hint)
    hints = typing.get_type_hints(cls)
    values = {key: _convert(hints[key], value, _join(where, key)) for key, value in data.items()}
    for name, f in known.items():
        if name not in values and f.default is MISSING and f.default_factory is MISSING:
            raise InvalidTrainingConfig(f"The key {_join(where, name)!r} is missing.")
    return cls(**values)


def _convert(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`, or an error; ints pass as floats, lists become tuples, tables dataclasses."""
    if kind is Any:
        return value
    if is_dataclass(kind):
        return parse_dataclass(kind, _expect(value, Mapping, where), where=where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if value not in arguments:
            close = difflib.get_close_matches(str(value), map(str, arguments), n=1)
            hint = (
                f"Did you mean {close[0]!r}?"
                if close
                else f"Known values: {', '.join(map(repr, arguments))}."
            )
            raise InvalidTrainingConfig(f"{where!r} is {value!r}, which means nothing here.", hint=hint)
        return value
    if origin in (types.UnionType, typing.Union):
        return value if value is None else _convert(arguments[0], value, where)
    if origin is tuple:
        items = _expect(value, list | tuple, where)
        item_kinds = [arguments[0]] * len(items) if arguments[-1] is Ellipsis else list(arguments)
        if len(item_kinds) != len(items):
            raise InvalidTrainingConfig(f"{where!r} needs {len(item_kinds)} values, but has {len(items)}.")
        return tuple(
            _convert(k, item, f"{where}[{i}]")
            for i, (k, item) in enumerate(zip(item_kinds, items, strict=True))
        )
    if origin is not None and issubclass(origin, Mapping):
        table = _expect(value, Mapping, where)
        return {key: _convert(arguments[1], item, _join(where, key)) for key, item in table.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return _expect(value, kind, where)


def _expect(value: Any, kind: Any, where: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        wanted = getattr(kind, "__name__", str(kind))
        raise InvalidTrainingConfig(f"{where!r} is {value!r}, which is no {wanted}.")
    return value


def _apply_override(data: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals:
        raise InvalidTrainingConfig(f"The override {override!r} is not of the form section.key=value.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, key = name.split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise InvalidTrainingConfig(f"The override {override!r} goes through a key that is no table.")
    data[key] = value


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
