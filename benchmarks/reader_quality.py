"""How good the shipped reader is on questions that its training never saw.

    python benchmarks/reader_quality.py SQUAD_V2_DEV_20ARTICLES.jsonl [--questions N] [--record]

Three settings, all on the 20 articles' own paragraphs: *gold* (the right paragraph alone), *top 5* (what BM25
brings up among all paragraphs, right or not) and, for both, questions that were written to have no answer in
their paragraph. Figures are percent with 95% bootstrap intervals over questions; the ceiling is 100, and two
people agree to about 89.5 F1 on SQuAD 2.0 (Rajpurkar et al., 2018). The last line is one JSON document;
`--record` writes it into the reader's config.json.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from generator.reader.calibration import Calibration
from generator.reader.reader import READER_FOLDER, Reader
from generator.reader.weights import update_config
from generator.training.judging import (
    JudgedQuestion,
    calibration_error,
    interval,
    judge,
    mean_exact,
    mean_f1,
    share_refused,
    share_right_of_given,
)
from generator.training.lexical import Bm25
from generator.training.records import read_jsonl
from generator.types import Passage

Judged = Sequence[JudgedQuestion]
HUMAN_F1 = 89.5


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the reader.")
    parser.add_argument("data", type=Path, help="squad_v2_dev_20articles.jsonl (evaluation only)")
    parser.add_argument("--folder", type=Path, default=READER_FOLDER)
    parser.add_argument("--embeddings", type=Path, default=None, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--questions", type=int, default=1000, help="of each kind with their own paragraph")
    parser.add_argument("--open-questions", type=int, default=300, help="of each kind with five found ones")
    parser.add_argument(
        "--record", action="store_true", help="write the figures into the reader's config.json"
    )
    options = parser.parse_args()

    reader = Reader.load(options.folder, embeddings_folder=options.embeddings)
    figures = measure(reader, options.data, count=options.questions, open_count=options.open_questions)
    for name, value in figures.items():
        print(f"{name:42} {value}", file=sys.stderr)
    if options.record:
        counts = f"--questions {options.questions} --open-questions {options.open_questions}"
        command = f"python benchmarks/reader_quality.py {options.data.name} {counts}"
        update_config(options.folder, measured={"quality": {"command": command, **figures}})
    print(json.dumps(figures))
    return 0


def measure(reader: Reader, data: Path, *, count: int, open_count: int) -> dict[str, Any]:
    """All figures by name."""
    records = [record for _, record in read_jsonl(data)]
    rng = random.Random(0)
    kinds = {
        answerable: rng.sample(chosen, min(count, len(chosen)))
        for answerable in (True, False)
        if (chosen := [record for record in records if record["answerable"] is answerable])
    }
    paragraphs = sorted({record["passage"] for record in records})
    search = Bm25(paragraphs)
    began = time.perf_counter()
    hits = 0
    gold: dict[bool, list[JudgedQuestion]] = {True: [], False: []}
    top5: dict[bool, list[JudgedQuestion]] = {True: [], False: []}
    num_quotes = num_verbatim = 0
    for answerable, chosen in kinds.items():
        for number, record in enumerate(chosen):
            question, answers = record["question"], record["answers"] if answerable else ()
            found = [(str(i), paragraphs[i]) for i in search.best(question, 5)]
            hits += answerable and any(text == record["passage"] for _, text in found)
            gold[answerable].append(judge(reader, question, [("gold", record["passage"])], answers))
            if number < open_count:
                top5[answerable].append(judge(reader, question, found, answers))
        quotes, verbatim = check_quotes(reader, chosen[:50])
        num_quotes, num_verbatim = num_quotes + quotes, num_verbatim + verbatim

    calibration = reader.calibration
    span_head = Calibration(verify_weight=0.0)
    figures: dict[str, Any] = {
        "gold_questions": {"answerable": len(gold[True]), "unanswerable": len(gold[False])},
        "top5_questions": {"answerable": len(top5[True]), "unanswerable": len(top5[False])},
        "paragraphs": len(paragraphs),
        "bm25_hit_at_5": round(100 * hits / len(kinds[True]), 1),
    }
    for name, judged in (("gold", gold), ("top5", top5)):
        figures[f"{name}_f1"] = with_interval(judged[True], lambda j: mean_f1(j, calibration))
        figures[f"{name}_exact"] = with_interval(judged[True], lambda j: mean_exact(j, calibration))
        figures[f"{name}_f1_span_head_alone"] = with_interval(judged[True], lambda j: mean_f1(j, span_head))
        figures[f"{name}_answerable_refused"] = with_interval(
            judged[True], lambda j: share_refused(j, calibration)
        )
        figures[f"{name}_unanswerable_refused"] = with_interval(
            judged[False], lambda j: share_refused(j, calibration)
        )
        both = [*judged[True], *judged[False]]
        figures[f"{name}_right_of_given"] = with_interval(
            both, lambda j: share_right_of_given(j, calibration)
        )
        figures[f"{name}_calibration_error"] = round(calibration_error(both, calibration), 3)
    figures["gold_f1_of_human"] = round(figures["gold_f1"]["value"] / HUMAN_F1, 3)
    figures["quotes_verbatim"] = {"checked": num_quotes, "verbatim": num_verbatim}
    figures["seconds"] = round(time.perf_counter() - began)
    return figures


def check_quotes(reader: Reader, records: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """Spans of supported answers, and how many of them are stretches of their passage that the text shows."""
    checked = verbatim = 0
    for record in records:
        passages: list[Passage] = [("gold", record["passage"])]
        answer = reader.answer(record["question"], passages)
        for span in answer.spans:
            checked += 1
            quote = record["passage"][span.start : span.end]
            verbatim += bool(quote) and quote in answer.text
    return checked, verbatim


def with_interval(judged: Judged, figure: Callable[[Judged], float]) -> dict[str, Any]:
    """The figure, rounded, and its 95% interval."""
    low, high = interval(judged, figure, rounds=400)
    return {"value": round(figure(judged), 1), "interval": [round(low, 1), round(high, 1)]}


if __name__ == "__main__":
    sys.exit(main())
