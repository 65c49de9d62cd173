"""How good is the reader on questions that it never saw?

    python benchmarks/reader_quality.py DATA [--questions N] [--passages N] [--write] [--record]

DATA is the folder of the public sets. Read with their own passage: SQuAD 2.0's development questions of
twenty articles, half of them written to be unanswerable (evaluation only), and search questions (QED) of
titles that training held out. Then the whole pipeline over a few thousand passages, five of which the reader
gets to see. People reach an F1 of 89.5 on SQuAD 2.0 (Rajpurkar et al. 2018); the floors and goals were set
before the reader was trained. `--write` puts the table and the reliability diagram into docs/, `--record`
the figures into the reader's config.json. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from reader_reliability import reliability_svg
from reader_sets import crowd, numbered, search_questions, squad_development
from record import machine

from generator.embedded import ReaderGenerator
from generator.reader.calibration import expected_calibration_error
from generator.reader.reader import READER_FOLDER, Reader
from generator.reader.weights import update_config
from ragserve import Pipeline, Settings
from ragserve.evaluation.bootstrap import interval, mean
from ragserve.evaluation.figures import RIGHT_FROM_F1, Measured, measure
from ragserve.evaluation.outcomes import Outcome
from ragserve.evaluation.records import EvalQuestion
from ragserve.evaluation.report import table
from ragserve.evaluation.run import OverIndex, OverOwnPassages, Subject, evaluate

DOCS = Path(__file__).parent.parent / "docs"
ANSWERED = 0.8  # the share of answerable questions at which the unanswerable ones are counted, too
MARKERS = ("<!-- written by benchmarks/reader_quality.py -->", "<!-- end -->")
Runs = dict[str, list[Outcome]]


class Row(NamedTuple):
    """A line of the table in docs/reader.md."""

    what: str
    run: str
    figure: str
    floor: str
    goal: str


ROWS = (
    Row("F1, SQuAD 2.0 questions, gold passage", "gold", "f1_of_draft", "79", "84"),
    Row("F1, held-out search questions (QED), gold passage", "search", "f1_of_draft", "45", "60"),
    Row("F1, SQuAD 2.0 questions, five passages found among {passages:,}", "open", "f1_of_draft", "45", "60"),
    Row("F1, search questions, five passages found among {passages:,}", "open_search", "f1_of_draft", "", ""),
    Row("gold passage among the five found", "open", "recall@5", "", ""),
    Row("unanswerable questions recognised, gold passage", "gold", "refusal_recall", "65", "80"),
    Row("answerable questions answered, gold passage", "gold", "answerable_answered", "80", "90"),
    Row("right among the answers given, half of the questions having none", "gold", "right_of_given", "", ""),
    Row("answers whose quotes are verbatim", "all", "quotes_verbatim", "100", "100"),
    Row("answers whose quotes hold the words given", "all", "quotes_hold_draft", "100", "100"),
    Row("reading five passages, ms (median, {threads} threads)", "open", "generation_p50", "80", "30"),
)

ALSO_KEPT = {("gold", "f1"), ("gold", "exact_of_draft"), ("gold", "f1_overall"), ("open", "exact_of_draft")}


def main() -> int:
    options = parse_options()
    reader = Reader.load(options.folder, embeddings_folder=options.embeddings)
    began = time.perf_counter()
    runs, num_passages = run_all(reader, options)
    facts = {
        "passages": num_passages,
        "threads": torch.get_num_threads(),
        "seconds": round(time.perf_counter() - began),
        "calibration_error": round(calibration_error(runs["gold"]), 3),
    }
    facts |= recognised_at(runs["gold"], ANSWERED)
    figures = {name: measure(outcomes, cutoff=5) for name, outcomes in runs.items()}
    figures["all"] = [one for one in figures["all"] if one.figure.group == "citations"]
    for name, measured in figures.items():
        print(f"--- {name}", table(measured), sep="\n")
    command = f"python benchmarks/reader_quality.py DATA --questions {options.questions}"
    command += f" --passages {options.passages}"
    if options.write:
        write_page(reader, runs, figures, facts, command)
    kept = {(row.run, row.figure) for row in ROWS} | ALSO_KEPT
    flat = {
        f"{name}_{one.figure.name}": {
            "value": round(one.value, 1),
            "interval": [round(bound, 1) for bound in one.interval],
            "questions": one.questions,
        }
        for name, measured in figures.items()
        for one in measured
        if (name, one.figure.name) in kept
    }
    document = {"command": command, **facts, **flat}
    if options.record:
        update_config(options.folder, measured={"quality": document})
    print(json.dumps(document))
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the reader.")
    parser.add_argument("data", type=Path, help="folder of the public sets")
    parser.add_argument("--folder", type=Path, default=READER_FOLDER, help="the reader")
    parser.add_argument("--embeddings", type=Path, default=None, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--questions", type=int, default=1000, help="at most, of each kind")
    parser.add_argument("--passages", type=int, default=3000, help="to search in")
    parser.add_argument("--write", action="store_true", help="write the table into docs/reader.md")
    parser.add_argument("--record", action="store_true", help="write the figures into the reader's folder")
    return parser.parse_args()


def run_all(reader: Reader, options: argparse.Namespace) -> tuple[Runs, int]:
    """Outcomes by run, and how many passages were searched in."""
    generator = ReaderGenerator(reader)
    squad = squad_development(options.data, count=options.questions)
    training = reader.files.training if reader.files else {}
    search = numbered(search_questions(options.data, training, count=options.questions))
    passages = crowd(
        options.data, wanted=[text for q in search for text in q.passages], count=options.passages
    )
    own = OverOwnPassages(lambda: generator)
    runs = {"gold": outcomes("gold", squad, own), "search": outcomes("search", search, own)}
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "passages"
        corpus.mkdir()
        for number, text in enumerate(passages):
            (corpus / f"{number:05}.txt").write_text(text, encoding="utf-8")
        with Pipeline.open(Path(folder) / "index", settings=Settings(), generator=generator) as pipeline:
            pipeline.ingest([corpus])
            pipeline.warm_up()
            over = OverIndex(pipeline)
            runs["open"] = outcomes("open", [q for q in squad if q.answerable], over)
            runs["open_search"] = outcomes("open_search", search, over)
    runs["all"] = [outcome for found in runs.values() for outcome in found]
    return runs, len(passages)


def outcomes(name: str, questions: Sequence[EvalQuestion], subject: Subject) -> list[Outcome]:
    began = time.perf_counter()
    found = list(evaluate(questions, subject))
    print(f"{name}: {len(found)} questions, {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return found


def calibration_error(run: Sequence[Outcome]) -> float:
    """Of "the words found are right", 0 to 1."""
    return expected_calibration_error([o.confidence or 0.0 for o in run], [is_right(o) for o in run])


def recognised_at(run: Sequence[Outcome], answered: float) -> dict[str, Any]:
    """Percent of the unanswerable questions below the confidence that `answered` of the others reach.

    Both shares depend on the threshold, so only this says how well the two kinds are told apart.
    """
    answerable = np.array([o.confidence or 0.0 for o in run if o.answerable])
    unanswerable = np.array([o.confidence or 0.0 for o in run if o.answerable is False])
    threshold = float(np.quantile(answerable, 1 - answered))
    recognised = np.where(unanswerable < threshold, 100.0, 0.0)
    return {
        "recognised_at_answered": round(float(recognised.mean()), 1),
        "recognised_at_answered_interval": [round(bound, 1) for bound in interval(recognised, mean)],
        "recognised_at_answered_questions": len(recognised),
        "recognised_at_answered_threshold": round(threshold, 2),
    }


def is_right(outcome: Outcome) -> bool:
    return bool(outcome.answerable) and (outcome.f1_of_draft or 0.0) >= RIGHT_FROM_F1


def write_page(
    reader: Reader, runs: Runs, figures: dict[str, list[Measured]], facts: dict[str, Any], command: str
) -> None:
    """The table, and the diagram beside it."""
    by_name = {(run, one.figure.name): one for run, found in figures.items() for one in found}
    lines = ["| figure | measured | questions | floor | goal |", "| --- | --- | --- | --- | --- |"]
    for row in ROWS:
        one = by_name[row.run, row.figure]
        low, high = one.interval
        value = f"**{one.value:.1f}** ({low:.1f} to {high:.1f})"
        lines.append(
            f"| {row.what.format(**facts)} | {value} | {one.questions:,} | {row.floor} | {row.goal} |"
        )
    low, high = facts["recognised_at_answered_interval"]
    lines.append(
        f"| unanswerable ones recognised where {ANSWERED:.0%} of the answerable ones are answered "
        f"(threshold {facts['recognised_at_answered_threshold']}) "
        f"| **{facts['recognised_at_answered']:.1f}** ({low:.1f} to {high:.1f}) "
        f"| {facts['recognised_at_answered_questions']:,} | 65 | |"
    )
    hours = (reader.files.training if reader.files else {}).get("seconds", 0) / 3600
    lines.append(f"| training from scratch, hours | **{hours:.1f}** | | 10 | 3 |")
    lines += [
        "",
        f"Percent, with 95% bootstrap intervals, unless the line says otherwise. `{command}`, "
        f"{time.strftime('%Y-%m-%d')}, {machine()}.",
        f"Calibration error with the gold passage (0 to 1): {facts['calibration_error']}.",
        "",
        "![How often answers are right, by stated confidence](reader_reliability.svg)",
    ]
    page = DOCS / "reader.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(MARKERS[0])
    _, _, after = rest.partition(MARKERS[1])
    text = "\n".join([MARKERS[0], *lines, MARKERS[1]])
    page.write_text(before + text + after, encoding="utf-8")
    labelled = {
        "gold passage": pairs(runs["gold"], lambda o: o.answerable is not None),
        "five passages found": pairs(runs["open"] + runs["open_search"], lambda o: True),
    }
    svg = reliability_svg(labelled, threshold=reader.calibration.threshold)
    (DOCS / "reader_reliability.svg").write_text(svg, encoding="utf-8")


def pairs(run: Sequence[Outcome], applies: Callable[[Outcome], bool]) -> list[tuple[float, bool]]:
    """Stated confidence, and whether the words found were right."""
    return [(o.confidence, is_right(o)) for o in run if o.confidence is not None and applies(o)]


if __name__ == "__main__":
    sys.exit(main())
