"""Runs on disk: what was evaluated, how, every outcome; and two of them side by side."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ragserve.errors import RagserveError
from ragserve.evaluation.figures import Difference, Measured, compare, measure
from ragserve.evaluation.outcomes import Outcome

FORMAT = "ragserve-eval-1"


class InvalidRun(RagserveError):
    """A file is no saved run, or two runs have no question in common."""

    code = "invalid-run"


@dataclass(frozen=True, slots=True)
class Run:
    """Outcomes with what is needed to repeat them; `about` is JSON-safe."""

    outcomes: tuple[Outcome, ...]
    cutoff: int  # passages asked for
    about: Mapping[str, Any] = field(default_factory=dict)

    def measure(self) -> list[Measured]:
        """Its figures."""
        return measure(self.outcomes, cutoff=self.cutoff)

    @property
    def num_failed(self) -> int:
        """Questions that ended in an error."""
        return sum(bool(outcome.error) for outcome in self.outcomes)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs over the questions that both have."""

    differences: tuple[Difference, ...]
    num_paired: int
    num_unpaired: int  # in one of them only


def save_run(path: Path, run: Run) -> None:
    """Write a run; the file appears whole or not at all. Raises OSError."""
    document = {
        "format": FORMAT,
        "about": dict(run.about),
        "cutoff": run.cutoff,
        "figures": figures_to_dict(run.measure()),
        "outcomes": [outcome.to_dict() for outcome in run.outcomes],
    }
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(document, file, ensure_ascii=False, allow_nan=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_run(path: Path) -> Run:
    """Read what `save_run` wrote. Raises InvalidRun."""
    hint = "Name a file that `ragserve eval --output` wrote."
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise InvalidRun(f"{path} is no saved run of the format {FORMAT!r}.", hint=hint)
        outcomes = tuple(Outcome.from_dict(record) for record in document["outcomes"])
        return Run(outcomes, int(document["cutoff"]), document["about"])
    except OSError as error:
        raise InvalidRun(f"{path} cannot be read: {error.strerror}.", hint=hint) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidRun(f"{path} is no saved run: {error}.", hint=hint) from error


def compare_runs(before: Run, after: Run) -> Comparison:
    """Pair the questions by id, drop those with another wording, and compare. Raises InvalidRun for none."""
    later = {outcome.id: outcome for outcome in after.outcomes}
    pairs = [
        (outcome, later[outcome.id])
        for outcome in before.outcomes
        if outcome.id in later and later[outcome.id].question == outcome.question
    ]
    if not pairs:
        raise InvalidRun(
            "The two runs have no question in common.", hint="Compare runs over the same questions."
        )
    old, new = zip(*pairs, strict=True)
    differences = compare(old, new, cutoff=min(before.cutoff, after.cutoff))
    unpaired = len(before.outcomes) + len(after.outcomes) - 2 * len(pairs)
    return Comparison(tuple(differences), len(pairs), unpaired)


def figures_to_dict(measured: Sequence[Measured]) -> dict[str, Any]:
    """Figures by name, in JSON's terms."""
    return {
        one.figure.name: {
            "value": round(one.value, 3),
            "interval": [round(bound, 3) for bound in one.interval],
            "questions": one.questions,
            "unit": one.figure.unit,
        }
        for one in measured
    }


def comparison_to_dict(comparison: Comparison) -> dict[str, Any]:
    """A comparison in JSON's terms."""
    return {
        "paired": comparison.num_paired,
        "unpaired": comparison.num_unpaired,
        "figures": {
            one.figure.name: {
                "before": round(one.before, 3),
                "after": round(one.after, 3),
                "difference": round(one.after - one.before, 3),
                "interval": [round(bound, 3) for bound in one.interval],
                "clear": one.is_clear,
                "unit": one.figure.unit,
            }
            for one in comparison.differences
        },
    }


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file: which questions they were."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
