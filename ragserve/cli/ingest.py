"""`ragserve ingest`: files in, and an account of every one of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragserve.cli import options as flags
from ragserve.cli import output
from ragserve.cli.exits import SOME_WORK_FAILED, stop
from ragserve.cli.render import display_path
from ragserve.cli.session import open_pipeline, settings_from
from ragserve.errors import InvalidSetting

if TYPE_CHECKING:
    from indexer.errors import IndexerError
    from indexer.types import IngestReport
    from ragserve.pipeline import Pipeline


def ingest(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Files and folders to index.")],
    index: flags.IndexFlag = None,
    prune: Annotated[
        bool | None,
        typer.Option("--prune/--no-prune", help="Also forget files that are gone. [default: keep]"),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", metavar="N", help="Processes that parse files. [default: one a core]"),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Read files again that failed and have not changed since.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Then follow what changes, until Ctrl-C.")] = False,
    poll_seconds: Annotated[
        float,
        typer.Option(
            "--poll-seconds",
            metavar="X",
            min=0.1,
            max=3600,
            help="Pause between looks of --watch. [default: 2]",
            show_default=False,
        ),
    ] = 2.0,
    password: Annotated[
        bool, typer.Option("--password", help="Ask on the terminal for the password of encrypted PDFs.")
    ] = False,
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file", metavar="FILE", help="Its first line is the password of encrypted PDFs."
        ),
    ] = None,
    embedder: flags.EmbedderFlag = None,
    image_embedder: flags.ImageEmbedderFlag = None,
    device: flags.DeviceFlag = None,
    dtype: flags.DtypeFlag = None,
    as_json: flags.JsonFlag = False,
    debug: flags.DebugFlag = False,
) -> None:
    """Bring the index up to date with files and folders.

    Unchanged files are not read again. The exit code is 1 when a file failed; it is listed with the remedy,
    and everything else is indexed all the same. With --watch, Ctrl-C between two passes is the end, and the
    exit code 0.
    """
    from ragserve.cli.progress import ingest_progress

    settings = settings_from(
        **{"index": index, "prune": prune, "jobs": jobs, "parsing.password_file": password_file},
        embedder=embedder,
        image_embedder=image_embedder,
        device=device,
        dtype=dtype,
    )
    secret = _ask_for_password() if password else None
    with open_pipeline(settings, create=True, read_only=False) as pipeline:
        if watch:
            options = {"retry_failed": retry_failed, "password": secret, "poll_seconds": poll_seconds}
            _watch(pipeline, paths, as_json=as_json, **options)
            return
        with ingest_progress() as progress:
            report = pipeline.ingest(paths, progress=progress, retry_failed=retry_failed, password=secret)
    if as_json:
        output.print_json(report_to_dict(report))
    else:
        _print_report(report)
    if not (report.indexed + report.unchanged + report.skipped + len(report.failed)):
        output.note("No file was found there: name a folder that holds documents.")
    if report.failed:
        stop(SOME_WORK_FAILED)


def _ask_for_password() -> str:
    """Returns what is typed, unseen. A flag's value would stand in the shell's history and in `ps`."""
    import getpass

    if not on_terminal():
        raise InvalidSetting(
            "--password asks on a terminal, and there is none.",
            hint="Use --password-file with a file that only you may read.",
        )
    secret = getpass.getpass("Password of encrypted PDFs: ", stream=sys.stderr)
    if not secret:
        raise InvalidSetting("The password is empty.", hint="Type it, or leave --password out.")
    return secret


def on_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty()


def _watch(pipeline: Pipeline, paths: list[Path], *, as_json: bool, **options: Any) -> None:
    """Reports every pass: a table, or a line of JSON. No bar: it would stand there between the passes."""
    told: list[str] = []  # the last trouble, which is not repeated at every attempt

    def tell(error: IndexerError) -> None:
        if told != [error.message]:
            told[:] = [error.message]
            output.note(f"{error.message} Trying again.")

    for report in pipeline.watch(paths, on_trouble=tell, **options):
        told.clear()
        try:
            if as_json:
                output.print_json_line(report_to_dict(report))
            else:
                _print_report(report)
                output.print_text("")
                sys.stdout.flush()
            output.note("Waiting for changes; Ctrl-C ends.")
        except KeyboardInterrupt:  # the pass is over
            return


def report_to_dict(report: IngestReport) -> dict[str, Any]:
    """Returns the JSON form; indexed + unchanged + skipped + failed is every file that was found."""
    return {
        "indexed": report.indexed,
        "unchanged": report.unchanged,
        "removed": report.removed,
        "skipped": report.skipped,
        "missing": report.missing,
        "partial": report.partial,
        "failed": [
            {"uri": failure.uri, "reason": failure.reason, "hint": failure.hint, "code": failure.code}
            for failure in report.failed
        ],
        "chunks": report.chunks,
        "embedded": report.embedded,
        "bytes": report.bytes,
        "seconds": round(report.seconds, 3),
        "stages": {
            "parse": round(report.parse_seconds, 3),
            "embed": round(report.embed_seconds, 3),
            "commit": round(report.commit_seconds, 3),
            "wait": round(report.wait_seconds, 3),
        },
    }


def _print_report(report: IngestReport) -> None:
    columns = output.width(sys.stdout)
    rows = [
        ("indexed", report.indexed, "new or changed files"),
        ("partial", report.partial, "of these, not whole; `ragserve doctor` says why"),
        ("unchanged", report.unchanged, "not read again"),
        ("skipped", report.skipped, "not documents; `ragserve doctor` lists them"),
        ("failed", len(report.failed), "listed below"),
        ("removed", report.removed, "gone, and forgotten"),
        ("missing", report.missing, "gone, and kept; --prune forgets them"),
    ]
    always = {"indexed", "unchanged"}
    table = [row for row in rows if row[1] or row[0] in always]
    digits = max(len(f"{count:,}") for _, count, _ in table)
    for name, count, words in table:
        output.print_text(f"{name:<9}  {count:>{digits},}  {words}")
    rate = f", {report.chunks / report.seconds:,.0f} chunks/s" if report.chunks and report.seconds else ""
    output.print_text(f"{report.chunks:,} chunks in {report.seconds:.1f} s{rate}")
    if report.failed:
        output.print_text("\nFailed:")
    for failure in report.failed:
        output.print_text(f"  {display_path(failure.uri)}")
        output.print_text(output.fill(failure.reason, first="    ", width=columns))
        if failure.hint:
            output.print_text(output.fill(failure.hint, first="    -> ", width=columns))
