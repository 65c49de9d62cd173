"""`ragserve search`: the passages alone, without an answer."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ragserve.cli import options as flags
from ragserve.cli import output, render
from ragserve.cli.exits import ending_on_sigint
from ragserve.cli.questions import read_questions
from ragserve.cli.session import filters_from, open_pipeline, settings_from


@flags.choosing(*flags.SEARCHING)
def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for; - reads it from stdin.")],
    *,
    chosen: flags.Chosen,
    path: flags.PathFlag = None,
    kind: flags.KindFlag = None,
    explain: flags.ExplainFlag = False,
    as_json: flags.JsonFlag = False,
    debug: flags.DebugFlag = False,
) -> None:
    """Print the passages nearest to a query. Loads no answering model."""
    from ragserve.answers import search_to_dict

    settings = settings_from(**chosen)
    (text,) = read_questions([query], None, max_chars=settings.max_question_chars)
    filters = filters_from(path, kind)
    with ending_on_sigint(), open_pipeline(settings) as pipeline:
        result = pipeline.search(text, filters=filters)
    if as_json:
        output.print_json(search_to_dict(result))
        return
    columns = output.width(sys.stdout)
    output.print_text(render.hits(result, columns))
    if explain:
        output.print_text("\n" + render.explanation(result, columns))
