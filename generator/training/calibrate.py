"""Fit an exported reader's calibration on the titles that its training held out.

    python -m generator.training.calibrate FOLDER RECIPE.toml task.data_folder=DATA task.start_folder=MINILM

Questions come from the sources in the shares of training, but none from those that the reader is measured on
(`MEASURED_ON`): what is fit on a question says nothing about it. Each meets five passages, as it does behind
a search: a half has the gold passage among its nearest ones, a quarter has it (and whatever else holds the
answer) taken away, and a quarter has been changed so that the gold passage no longer answers it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from generator.errors import GeneratorError
from generator.reader.reader import Reader
from generator.reader.weights import update_config
from generator.training.config import load_config
from generator.training.grounded_qa import GroundedQATask
from generator.training.judging import (
    JudgedQuestion,
    calibration_error,
    fit_calibration,
    judge,
    mean_f1,
    share_refused,
)
from generator.training.lexical import Bm25
from generator.training.records import GroundedQuestion
from generator.training.run import build_task
from generator.types import Passage

MEASURED_ON = frozenset({"qed_nq"})


def calibration_questions(
    task: GroundedQATask, *, count: int, num_passages: int = 5, seed: int = 0
) -> Iterator[tuple[str, list[Passage], tuple[str, ...]]]:
    """Question, passages and answers (none: not answerable) on held-out titles; see the module's text."""
    rng = random.Random(f"calibration-{seed}")
    texts = task.questions.passages
    pool = sorted({question.passage for question in task.held_out})
    search = Bm25([texts[index] for index in pool])
    questions = _draw(task.held_out, task.config.weights, count=count, rng=rng)
    for number, question in enumerate(questions):
        wording, answers = question.question, question.answers
        nearest = [pool[i] for i in search.best(wording, 3 * num_passages)]
        if number % 4 == 0:
            nearest, answers = [i for i in nearest if not _holds(texts[i], question)], ()
        elif number % 4 == 1:
            changed = task.unanswerable.changed_question(question, rng)
            wording, answers = (wording, answers) if changed is None else (changed, ())
        chosen = nearest[:num_passages]
        if number % 4 != 0 and question.passage not in chosen:
            chosen[-1:] = [question.passage]
        yield wording, [(str(index), texts[index]) for index in chosen], answers


def _draw(
    questions: Sequence[GroundedQuestion], weights: Mapping[str, float], *, count: int, rng: random.Random
) -> list[GroundedQuestion]:
    """`count` questions without replacement, sources in the shares of `weights`.

    Weighted sampling by random keys (Efraimidis and Spirakis 2006).
    """
    usable = [question for question in questions if question.source not in MEASURED_ON]
    sizes = Counter(question.source for question in usable)
    keys = [rng.random() ** (sizes[q.source] / weights[q.source]) for q in usable]
    order = sorted(range(len(usable)), key=lambda i: -keys[i])
    return [usable[i] for i in order[:count]]


def calibrate(folder: Path, task: GroundedQATask, *, count: int) -> dict[str, float]:
    """Fit, write into the folder's config.json, and return figures of the fit."""
    reader = Reader.load(folder, embeddings_folder=Path(task.config.start_folder))
    judged: list[JudgedQuestion] = []
    for wording, passages, answers in calibration_questions(task, count=count):
        if passages:
            judged.append(judge(reader, wording, passages, answers))
    calibration = fit_calibration(judged)
    answerable = [question for question in judged if question.answerable]
    others = [question for question in judged if not question.answerable]
    figures = {
        "questions": float(len(judged)),
        "f1_answerable": mean_f1(answerable, calibration),
        "answerable_refused": share_refused(answerable, calibration),
        "unanswerable_refused": share_refused(others, calibration),
        "calibration_error": calibration_error(judged, calibration),
    }
    update_config(folder, calibration=calibration, measured={"calibration": figures})
    return figures


def _holds(text: str, question: GroundedQuestion) -> bool:
    return any(answer.lower() in text.lower() for answer in question.answers)


def main() -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m generator.training.calibrate", description="Calibrate.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", help="section.key=value")
    parser.add_argument("--questions", type=int, default=800)
    arguments = parser.parse_args()
    try:
        task = build_task(load_config(arguments.recipe, overrides=arguments.overrides))
        if not isinstance(task, GroundedQATask):
            parser.error("the recipe is not one of a reader")
        figures = calibrate(arguments.folder, task, count=arguments.questions)
    except GeneratorError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
