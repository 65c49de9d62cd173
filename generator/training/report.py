"""A run's metrics.jsonl as charts: PNG files and one HTML page beside it."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from generator.training.charts import Chart, Series, save_png, to_svg
from generator.training.progress import METRICS

PAGE = "training.html"
_STYLE = (
    "body{font:16px/1.4 sans-serif;max-width:1340px;margin:1.5rem auto;padding:0 1rem;color:#30343a}"
    "main{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:1rem}"
    "svg{width:100%;border:1px solid #dfe3e8;border-radius:6px}td{padding:.1rem 1rem .1rem 0}"
)


def write_report(folder: Path) -> list[Path]:
    """Draw what the run in `folder` has logged so far; returns the files. Needs its metrics.jsonl."""
    train, validation = read_metrics(folder / METRICS)
    written = []
    charts = build_charts(train, validation)
    for name, chart in charts.items():
        path = folder / f"{name}.png"
        temporary = path.with_suffix(".png.tmp")
        save_png(chart, temporary)
        written.append(temporary.replace(path))
    page = folder / PAGE
    temporary = page.with_suffix(".html.tmp")
    temporary.write_text(_page(folder.name, list(charts.values()), train, validation), encoding="utf-8")
    return [*written, temporary.replace(page)]


def read_metrics(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Records of training and of validation by step; of a step that a resumed run repeats, the later one.

    A last line that a killed run has left half written is passed over.
    """
    found: dict[str, dict[int, dict[str, Any]]] = {"train": {}, "validation": {}}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
            found[record["kind"]][record["step"]] = record
        except (ValueError, KeyError, TypeError):
            continue
    train, validation = (
        [records[step] for step in sorted(records)] for records in (found["train"], found["validation"])
    )
    return train, validation


def build_charts(train: list[dict[str, Any]], validation: list[dict[str, Any]]) -> dict[str, Chart]:
    """Charts by file name: loss, learning rate, gradient norm and, where there is one, validation F1."""
    charts = {
        "loss": Chart(
            "Loss",
            [
                _series("training", train, "loss"),
                _series("validation", validation, "loss", marked=True),
            ],
        ),
        "learning_rate": Chart("Learning rate", [_series("", train, "learning_rate")]),
        "gradient_norm": Chart(
            "Gradient norm", [_series("", [{**r, **r["metrics"]} for r in train], "grad_norm")]
        ),
    }
    if any("f1" in record for record in validation):
        charts["validation_f1"] = Chart("Validation F1, %", [_series("", validation, "f1", marked=True)])
    return charts


def _series(name: str, records: list[dict[str, Any]], key: str, *, marked: bool = False) -> Series:
    points = [(float(r["step"]), float(r[key])) for r in records if isinstance(r.get(key), int | float)]
    return Series(name, points, marked)


def _page(
    title: str, charts: list[Chart], train: list[dict[str, Any]], validation: list[dict[str, Any]]
) -> str:
    rows: dict[str, str] = {}
    if train:
        last: Mapping[str, Any] = train[-1]
        rows["step"] = f"{last['step']} of {last['num_steps']}"
        rows["wall clock"] = f"{last['seconds'] / 60:.1f} min"
        rows["tokens a second"] = f"{last['tokens_per_second']:,.0f}"
        rows["share of the FLOP ceiling"] = f"{last.get('flop_share', 0):.0%}"
        rows["waiting for data"] = f"{last.get('waiting_share', 0):.0%}"
    if validation:
        figures = {k: v for k, v in validation[-1].items() if k not in ("kind", "step", "seconds")}
        rows |= {f"validation {name}": f"{value:.4g}" for name, value in figures.items()}
    table = "".join(f"<tr><td>{html.escape(k)}<td>{html.escape(v)}</tr>" for k, v in rows.items())
    drawn = "\n".join(to_svg(chart) for chart in charts)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1><table>{table}</table><main>{drawn}</main></html>\n"
    )
