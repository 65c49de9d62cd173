from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from generator.training import train_from_file
from generator.training.charts import Chart, Series, save_png, ticks, to_svg
from generator.training.report import PAGE, read_metrics, write_report

from .test_training import SHORT

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


def written(folder: Path, records: list[dict[str, Any]], *, tail: str = "") -> Path:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records) + tail)
    return folder


def train(step: int, loss: float) -> dict[str, Any]:
    return {
        "kind": "train",
        "step": step,
        "num_steps": 9,
        "seconds": 60.0,
        "loss": loss,
        "learning_rate": 0.1,
        "tokens_per_second": 1234.5,
        "metrics": {"grad_norm": 2.0},
    }


def test_a_run_leaves_charts_and_a_page(write_config: Any, tmp_path: Path) -> None:
    train_from_file(write_config(task=SHORT))
    folder = tmp_path / "run"
    for name in ("loss", "learning_rate", "gradient_norm", "validation_f1"):
        with Image.open(folder / f"{name}.png") as image:
            assert image.size == (1280, 600)
            assert len(set(image.convert("L").resize((64, 30)).tobytes())) > 3  # there is something on it
    page = (folder / PAGE).read_text()
    assert page.count("<svg") == 4
    assert "share of the FLOP ceiling" in page
    assert not list(folder.glob("*.tmp"))


def test_plots_can_be_switched_off(write_config: Any, tmp_path: Path) -> None:
    train_from_file(write_config(task=SHORT), overrides=["run.plots=false", "run.max_steps=1"])
    assert not list((tmp_path / "run").glob("*.png"))


def test_steps_that_a_resumed_run_repeats_count_once_and_half_a_line_is_passed_over(tmp_path: Path) -> None:
    folder = written(tmp_path, [train(1, 5.0), train(2, 4.0), train(2, 3.0)], tail='{"kind": "tr')
    records, validation = read_metrics(folder / "metrics.jsonl")
    assert [(r["step"], r["loss"]) for r in records] == [(1, 5.0), (2, 3.0)]
    assert validation == []
    assert len(write_report(folder)) == 4  # without validation there is no F1


def test_names_are_escaped_and_values_that_are_no_numbers_left_out() -> None:
    chart = Chart("<b>", [Series("a&b", [(1, 1.0), (2, float("nan")), (3, 2.0)])])
    root = ElementTree.fromstring(to_svg(chart))
    (line,) = root.iter("polyline")
    assert len(line.attrib["points"].split()) == 2
    assert next(root.iter("title")).text == "<b>"


@pytest.mark.parametrize("points", [[], [(0, 0.0)], [(5, 3.0), (6, 3.0)]])
def test_empty_single_and_flat_lines_are_drawn(points: list[Any], tmp_path: Path) -> None:
    chart = Chart("x", [Series("y", points)])
    ElementTree.fromstring(to_svg(chart))
    save_png(chart, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 500


@given(NUMBERS, NUMBERS)
def test_ticks_are_few_rising_and_span_the_values(one: float, two: float) -> None:
    low, high = min(one, two), max(one, two)
    found = ticks(low, high)
    assert 2 <= len(found) <= 12
    assert found == sorted(set(found))
    tolerance = 1e-6 * max(abs(low), abs(high), 1e-24)
    assert found[0] <= low + tolerance
    assert found[-1] >= high - tolerance


def test_a_long_run_is_drawn_with_few_points() -> None:
    chart = Chart("x", [Series("y", [(step, float(step)) for step in range(100_000)])])
    assert len(to_svg(chart)) < 40_000
