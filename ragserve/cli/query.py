"""`ragserve query`: answers questions, streaming the text as it is made."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ragserve.cli import options as flags
from ragserve.cli import output, render
from ragserve.cli.exits import ending_on_sigint
from ragserve.cli.questions import read_questions
from ragserve.cli.session import filters_from, open_pipeline, settings_from

if TYPE_CHECKING:
    from indexer.types import Filters
    from ragserve.pipeline import Pipeline
    from ragserve.session import Session


@flags.choosing(*flags.ANSWERING)
def query(
    questions: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUESTION", help="Questions, each answered in turn; - reads one from stdin."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", metavar="FILE", help="Questions, one a line; # begins a comment; - is stdin."),
    ] = None,
    *,
    chosen: flags.Chosen,
    path: flags.PathFlag = None,
    kind: flags.KindFlag = None,
    rounds: flags.RoundsFlag = 1,
    explain: flags.ExplainFlag = False,
    as_json: flags.JsonFlag = False,
    debug: flags.DebugFlag = False,
) -> None:
    """Answer questions from the indexed documents, with sources.

    An answer that the documents do not support is marked as such and lists the nearest passages; the exit
    code is 0 all the same, because the question was answered truthfully.
    """
    from ragserve.rounds import check_rounds
    from retriever import QueuedQueries

    settings = settings_from(**chosen)
    asked = read_questions(questions or [], file, max_chars=settings.max_question_chars)
    filters = filters_from(path, kind)
    check_rounds(rounds)
    with ending_on_sigint(), open_pipeline(settings) as pipeline:
        for question in asked:
            pipeline.check_question(question)
        pipeline.preload()
        if as_json:
            made = pipeline.ask_batch(asked, filters=filters, rounds=rounds)
            answers = [answer.to_dict() for answer in made]
            single = file is None and len(answers) == 1
            output.print_json(answers[0] if single else answers)
            return
        if len(asked) == 1:
            _show_answer(pipeline, asked[0], filters, rounds=rounds, explain=explain)
            return
        queue = QueuedQueries(asked, max_queries=len(asked))  # looked for while those before are answered
        with pipeline.session(guesses=False, sources=[queue]) as session:
            for number, question in enumerate(asked):
                heading = output.fill(question, first="> ", width=_width())
                output.print_text(("\n" if number else "") + heading)
                _show_answer(session, question, filters, rounds=rounds, explain=explain)


def _show_answer(
    asked: Pipeline | Session, question: str, filters: Filters | None, *, rounds: int, explain: bool
) -> None:
    from ragserve.answers import FinalEvent, TokenEvent

    writer = render.WrappingWriter(sys.stdout, _width())
    for event in asked.ask_stream(question, filters=filters, rounds=rounds):
        if isinstance(event, TokenEvent):
            writer.write(event.text)
        elif isinstance(event, FinalEvent):
            writer.finish()
            answer = event.answer
            below = [render.sources(answer, _width())]
            if explain:
                below += [render.explanation(answer.retrieval, _width()), render.timings(answer)]
            output.print_text("".join(f"\n{part}" for part in below if part))
    sys.stdout.flush()


def _width() -> int:
    return output.width(sys.stdout)
