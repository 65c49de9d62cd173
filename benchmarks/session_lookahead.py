"""Does a session pay that retrieves ahead of the next question? Whole answers beside those of the pipeline.

    python benchmarks/session_lookahead.py [--turns N] [--quick]

The example corpus and its questions, answered by the shipped reader. One after another without a pause, where
nothing is idle and all that a session does ahead is in the way of something: by the pipeline, in a session
that was told the questions in their order, and in one that was told nothing, so that all it guesses is wrong.
Then with 0.6 seconds between an answer and the next question, as somebody needs who reads or types: by the
pipeline, in a session that was told, and in one that hears the question typed, half of it and all of it. What
counts is the time from the question to its answer. Nothing comes from the retrieval cache, the ways take
turns, and the hits are compared before the times. Retrieving takes a part of that time only: the bound is the
time without it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from serving import CORPUS, median, percentile, read_questions

from ragserve import Answer, Pipeline, Session
from retriever import QueuedQueries

PAUSE_SECONDS = 0.6
# What each is compared with.
_WAYS = {
    "pipeline": "pipeline",
    "told": "pipeline",
    "guessing": "pipeline",
    "pipeline, pauses": "pipeline, pauses",
    "told, pauses": "pipeline, pauses",
    "typed, pauses": "pipeline, pauses",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=3, help="how often each way answers all questions")
    parser.add_argument("--quick", action="store_true", help="a tiny size, which shows that it runs")
    arguments = parser.parse_args()
    questions = read_questions()[: 3 if arguments.quick else None]
    turns = 1 if arguments.quick else arguments.turns
    seconds: dict[str, list[float]] = {way: [] for way in _WAYS}
    retrieving: list[float] = []
    with tempfile.TemporaryDirectory() as folder, Pipeline.open(Path(folder)) as pipeline:
        pipeline.ingest([CORPUS / "drafts" if arguments.quick else CORPUS])
        pipeline.warm_up()
        for turn in range(turns):
            answers = {}
            for way in sorted(_WAYS, reverse=bool(turn % 2)):
                answers[way], taken = answered(pipeline, way, questions)
                seconds[way] += taken
            retrieving += [answer.timings["retrieval"] for answer in answers["pipeline"]]
            check_same(answers)
    figures = show(seconds, retrieving)
    about = {
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "questions": len(questions),
        "turns": turns,
    }
    print(json.dumps({**about, **figures}))
    return 0


def answered(pipeline: Pipeline, way: str, questions: list[str]) -> tuple[list[Answer], list[float]]:
    """The answers to all questions, and the seconds of each."""
    answers, seconds = [], []
    kind, pauses = way.partition(",")[::2]
    told = [QueuedQueries(questions)] if kind == "told" else []
    opened = pipeline.session(guesses=not told, sources=told) if kind != "pipeline" else nullcontext()
    with opened as session:
        ask: Callable[..., Answer] = session.ask if session is not None else pipeline.ask
        for question in questions:
            if kind == "typed":
                type_out(session, question)
            elif pauses:
                time.sleep(PAUSE_SECONDS)
            began = time.perf_counter()
            answers.append(ask(question, use_cache=False))
            seconds.append(time.perf_counter() - began)
    return answers, seconds


def type_out(session: Session, question: str) -> None:
    for text in (question[: len(question) // 2], question):
        session.typing(text, use_cache=False)
        time.sleep(PAUSE_SECONDS / 2)


def check_same(answers: dict[str, list[Answer]]) -> None:
    """A faster wrong answer is no result."""
    for way in _WAYS:
        for one, other in zip(answers["pipeline"], answers[way], strict=True):
            if (one.text, ids_of(one)) != (other.text, ids_of(other)):
                raise SystemExit(f"retrieving ahead changed the answer to {one.question!r}")


def ids_of(answer: Answer) -> list[str]:
    """The scores may differ in their last digits: those of an embedder depend on the batch."""
    return [hit.chunk.id for hit in answer.hits]


def show(seconds: dict[str, list[float]], retrieving: list[float]) -> dict[str, float]:
    total = sum(seconds["pipeline"])
    bound = total / (total - sum(retrieving))
    figures = {"bound": round(bound, 4)}
    print(
        f"{len(seconds['pipeline'])} answers each way; without retrieving at all: {bound:.3f} times as fast"
    )
    for way, baseline in _WAYS.items():
        taken = seconds[way]
        p50, p95, speedup = (
            1e3 * median(taken),
            1e3 * percentile(taken, 0.95),
            ratio(seconds[baseline], taken),
        )
        versus = "" if way == baseline else f"  {speedup:.3f} times as fast as the pipeline"
        print(f"  {way:<17} p50 {p50:8.1f} ms  p95 {p95:8.1f} ms{versus}")
        name = way.replace(", ", "_")
        figures |= {f"{name}_p50_ms": round(p50, 3), f"{name}_p95_ms": round(p95, 3)}
        figures[f"{name}_speedup"] = round(speedup, 4)
    return figures


def ratio(baseline: list[float], taken: list[float]) -> float:
    """Of the medians of the same questions: one that was interrupted says nothing."""
    return median([one / other for one, other in zip(baseline, taken, strict=True)])


if __name__ == "__main__":
    raise SystemExit(main())
