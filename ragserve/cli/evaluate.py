"""`ragserve eval`: how good the answers are, with intervals; and whether a change made them better."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragserve.cli import options as flags
from ragserve.cli import output
from ragserve.cli.exits import SOME_WORK_FAILED, ending_on_sigint, stop
from ragserve.cli.session import open_pipeline, settings_from
from ragserve.errors import InvalidRequest, PathNotFound

if TYPE_CHECKING:
    from ragserve.evaluation.outcomes import Outcome
    from ragserve.evaluation.records import EvalQuestion
    from ragserve.evaluation.run import Subject
    from ragserve.evaluation.saved import Run
    from ragserve.settings import Settings

_SECONDS_BETWEEN_LINES = 10.0


def evaluate(
    questions: Annotated[
        Path | None, typer.Argument(metavar="QUESTIONS.jsonl", help="Questions with what is known of them.")
    ] = None,
    index: flags.IndexFlag = None,
    k: flags.KFlag = None,
    passages: Annotated[
        bool, typer.Option("--passages", help="Read each question's own passages, without an index.")
    ] = False,
    retrieval_only: Annotated[
        bool, typer.Option("--retrieval-only", help="Only search; load no answering model.")
    ] = False,
    rounds: flags.RoundsFlag = 1,
    sample: Annotated[
        int | None, typer.Option("--sample", metavar="N", min=1, help="Only N questions, always the same.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Keep the run, question by question.")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--compare", metavar="A.json B.json", help="Compare two runs that --output kept."),
    ] = None,
    generator: flags.GeneratorFlag = None,
    adapter: flags.AdapterFlag = None,
    embedder: flags.EmbedderFlag = None,
    device: flags.DeviceFlag = None,
    dtype: flags.DtypeFlag = None,
    as_json: flags.JsonFlag = False,
    debug: flags.DebugFlag = False,
) -> None:
    """Measure retrieval, answers, refusals, citations and speed on questions.

    Which fields a line may have, and what each figure counts: docs/evaluation.md. Every figure has a 95%
    bootstrap interval. The exit code is 1 when a question ended in an error.
    """
    from ragserve.rounds import check_rounds

    if (questions is None) == (compare is None):
        raise InvalidRequest(
            "Either questions or two runs to compare are needed.", hint="See ragserve eval --help."
        )
    if compare is not None:
        _compare(*compare, as_json=as_json)
        return
    if passages and (retrieval_only or index is not None):
        raise InvalidRequest(
            "--passages reads no index.", hint="Leave out --index and --retrieval-only, or --passages."
        )
    assert questions is not None
    check_rounds(rounds)
    if rounds > 1 and (passages or retrieval_only):
        raise InvalidRequest(
            "Further rounds search with a draft of the answer.",
            hint="Leave out --rounds, or --passages and --retrieval-only.",
        )
    settings = settings_from(
        index=index,
        k=k,
        generator=generator,
        adapter=adapter,
        embedder=embedder,
        device=device,
        dtype=dtype,
    )
    asked = _read(questions, sample=sample, with_passages=passages)
    if save is not None:
        _check_writable(save)
    options = {"passages": passages, "retrieval_only": retrieval_only, "rounds": rounds}
    with ending_on_sigint(), _subject(settings, **options) as subject:
        outcomes = tuple(_with_progress(subject, asked))
    mode = "passages" if passages else "retrieval" if retrieval_only else "index"
    run = _run(outcomes, questions, settings, mode=mode, rounds=rounds)
    try:
        _print(run, as_json=as_json)
        sys.stdout.flush()
    finally:  # the run is kept even if whoever reads the figures has gone
        if save is not None:
            _save(save, run)
    if run.num_failed:
        stop(SOME_WORK_FAILED)


def _read(path: Path, *, sample: int | None, with_passages: bool) -> list[EvalQuestion]:
    from ragserve.evaluation.records import read_questions
    from ragserve.evaluation.run import NoOwnPassages

    asked = read_questions(path)
    lacking = next((question for question in asked if with_passages and not question.passages), None)
    if lacking is not None:
        raise NoOwnPassages(
            f"The question {lacking.id!r} has no passage of its own.", hint="Leave out --passages."
        )
    return asked if sample is None or sample >= len(asked) else random.Random(0).sample(asked, sample)


def _check_writable(path: Path) -> None:
    """Refuses a file that could not be written, before hours of answering would be lost with it."""
    if path.is_dir():
        raise InvalidRequest(f"--output names a folder: {path}.", hint="Name a file in it.")
    if not path.parent.is_dir():
        raise PathNotFound(f"There is no folder {path.parent}.", hint="Make it, or check the spelling.")
    try:
        with tempfile.TemporaryFile(dir=path.parent):  # permissions alone tell nothing of a read-only disk
            pass
    except OSError as error:
        raise InvalidRequest(
            f"{path} cannot be written: {error.strerror}.", hint="Name a file in another folder."
        ) from error


def _save(path: Path, run: Run) -> None:
    """Keeps the run. The figures are on stdout by then, so that a failure is told on stderr alone."""
    from ragserve.evaluation.saved import save_run

    try:
        save_run(path, run)
    except OSError as error:
        message = f"{path} could not be written: {error.strerror}."
        output.print_error(message, "The figures hold all the same.")
        stop(SOME_WORK_FAILED)


@contextmanager
def _subject(settings: Settings, *, passages: bool, retrieval_only: bool, rounds: int) -> Iterator[Subject]:
    from ragserve import parts
    from ragserve.evaluation.run import OverIndex, OverOwnPassages

    if passages:
        limit = settings.max_new_tokens
        yield OverOwnPassages(lambda: parts.open_generator(settings), max_new_tokens=limit)
        return
    with open_pipeline(settings) as pipeline:
        if not retrieval_only:
            pipeline.warm_up()
        yield OverIndex(pipeline, retrieval_only=retrieval_only, rounds=rounds)


def _with_progress(subject: Subject, asked: Sequence[EvalQuestion]) -> Iterator[Outcome]:
    """The outcomes, and on stderr every ten seconds how many there are."""
    from ragserve.evaluation.run import evaluate as outcomes_of

    last = time.monotonic()
    for number, outcome in enumerate(outcomes_of(asked, subject), start=1):
        yield outcome
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            output.note(f"{number:,}/{len(asked):,} questions")


def _run(
    outcomes: tuple[Outcome, ...], questions: Path, settings: Settings, *, mode: str, rounds: int
) -> Run:
    from ragserve.evaluation.saved import Run, file_sha256

    about = {
        "questions": questions.name,
        "questions_sha256": file_sha256(questions),
        "mode": mode,
        "k": settings.k,
        "rounds": rounds,
        "generator": settings.generator,
        "adapter": settings.adapter,
        "embedder": settings.embedder,
        "device": settings.device,
        "dtype": settings.dtype,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return Run(outcomes, settings.k, about)


def _print(run: Run, *, as_json: bool) -> None:
    from ragserve.evaluation import report
    from ragserve.evaluation.saved import figures_to_dict

    measured = run.measure()
    errors = {outcome.id: outcome.error for outcome in run.outcomes if outcome.error}
    if as_json:
        output.print_json(
            {
                "questions": len(run.outcomes),
                "failed": errors,
                "figures": figures_to_dict(measured),
                "about": run.about,
            }
        )
        return
    if measured:
        output.print_text(report.table(measured))
    else:
        output.print_text("Nothing is known of these questions, so there is nothing to measure.")
    for identity, error in errors.items():
        output.print_text(output.fill(f"{identity}: {error}", first="! ", width=output.width(sys.stdout)))


def _compare(before: Path, after: Path, *, as_json: bool) -> None:
    from ragserve.evaluation import report
    from ragserve.evaluation.saved import compare_runs, comparison_to_dict, load_run

    comparison = compare_runs(load_run(before), load_run(after))
    if as_json:
        output.print_json(comparison_to_dict(comparison))
    else:
        output.print_text(report.comparison_table(comparison))
