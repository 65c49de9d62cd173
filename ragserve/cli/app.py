"""The typer application. Commands live one to a file; nothing heavy is imported before one of them runs."""

from __future__ import annotations

from typing import Annotated

import typer

from ragserve.cli import care, configure, evaluate, ingest, query, search, serve, snapshot, train, transfer
from ragserve.cli.exits import ending_with_its_reader

app = typer.Typer(
    name="ragserve",
    help="Ask your own documents: ingest a folder, get answers with verbatim citations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich costs a quarter of a second before the first letter
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"ragserve {version('ragserve')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for _name, _command in {
    "ingest": ingest.ingest,
    "query": query.query,
    "search": search.search,
    "serve": serve.serve,
    "stats": care.stats,
    "verify": care.verify,
    "doctor": care.doctor,
    "export": transfer.export,
    "import": transfer.import_,
    "config": configure.config,
    "train": train.train,
    "eval": evaluate.evaluate,
}.items():
    app.command(_name)(ending_with_its_reader(_command))
app.add_typer(snapshot.app, name="snapshot")
app.command("rollback")(ending_with_its_reader(snapshot.restore))  # what it is called elsewhere
