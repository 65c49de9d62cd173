"""`ragserve stats`, `verify` and `doctor`: what is in the index, is it sound, what is not in it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragserve.cli import options as flags
from ragserve.cli import output
from ragserve.cli.exits import SOME_WORK_FAILED, stop
from ragserve.cli.render import display_path
from ragserve.cli.session import open_index, settings_from

if TYPE_CHECKING:
    from indexer.run_journal import RunRecord
    from indexer.types import FileStatus, IndexStats, NearDuplicatesReport, PartialFile


_SHOWN_RUNS = 5
_SHOWN_WARNINGS = 5  # of a file
ReembedFlag = Annotated[
    int,
    typer.Option(
        "--reembed",
        metavar="N",
        help="Chunks to embed again and compare; 0 loads no model. [default: 16]",
        show_default=False,
    ),
]


def stats(
    index: flags.IndexFlag = None, as_json: flags.JsonFlag = False, debug: flags.DebugFlag = False
) -> None:
    """Print how much is indexed, with what, and how the last runs ended."""
    with open_index(settings_from(index=index)) as opened:
        found = opened.stats()
        runs = opened.runs(_SHOWN_RUNS)
    if as_json:
        output.print_json({**plain(found), "runs": plain(runs)})
    else:
        for name, value in [*_stats_rows(found), *_run_rows(runs)]:
            output.print_text(output.fill(value, first=f"{name:<11} ", width=output.width(sys.stdout)))


def verify(
    index: flags.IndexFlag = None,
    embedder: flags.EmbedderFlag = None,
    reembed: ReembedFlag = 16,
    as_json: flags.JsonFlag = False,
    debug: flags.DebugFlag = False,
) -> None:
    """Check the index against itself. The exit code is 1 when something is wrong."""
    from ragserve import parts

    settings = settings_from(index=index, embedder=embedder)
    again = parts.open_embedder(settings) if reembed > 0 else None
    with open_index(settings) as opened:
        report = opened.verify(embedder=again, reembed=reembed)
    columns = output.width(sys.stdout)
    if as_json:
        output.print_json({"ok": report.ok, **plain(report)})
    elif report.ok:
        done = f"{len(report.checks)} checks on {report.chunks:,} chunks in {report.seconds:.1f} s"
        output.print_text(f"The index is sound: {done}.")
        if report.recall is not None:
            tried = f"Searches find {report.recall:.1%} of the 10 nearest chunks"
            output.print_text(f"{tried}; {report.reembedded} chunks were embedded again.")
    else:
        for finding in report.findings:
            output.print_text(output.fill(f"{finding.check}: {finding.message}", first="! ", width=columns))
            if finding.hint:
                output.print_text(output.fill(finding.hint, first="  -> ", width=columns))
    if not report.ok:
        stop(SOME_WORK_FAILED)


def doctor(
    index: flags.IndexFlag = None, as_json: flags.JsonFlag = False, debug: flags.DebugFlag = False
) -> None:
    """List the files that are not searchable, or not whole, and why; and files that are alike.

    The exit code is 1 when a file failed, or a run was cut off and not made good since; files that are
    deliberately left out do not count, nor do those that have the same or nearly the same text.
    """
    with open_index(settings_from(index=index)) as opened:
        statuses = opened.doctor()
        partial = opened.partial_files()
        cut_off = opened.unfinished_runs()
        alike = opened.near_duplicates()
    failed = [status for status in statuses if status.status == "failed"]
    skipped = [status for status in statuses if status.status == "skipped"]
    if as_json:
        output.print_json(
            {
                "cut_off": plain(cut_off),
                "failed": plain(failed),
                "skipped": plain(skipped),
                "partial": plain(partial),
                "near_duplicates": plain(alike.groups),
                "near_duplicates_total": alike.total,
            }
        )
    else:
        for run in cut_off:
            _print_cut_off(run)
        _print_statuses("Failed", failed)
        _print_statuses("Skipped", skipped)
        _print_partial(partial)
        if not statuses and not cut_off:
            output.print_text("Every file that was found is searchable.")
        _print_near_duplicates(alike)
    if failed or cut_off:
        stop(SOME_WORK_FAILED)


def plain(value: Any) -> Any:
    """Returns the JSON form of dataclasses, mappings and sequences, however they are nested."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value


def _stats_rows(found: IndexStats) -> list[tuple[str, str]]:
    def counts(items: Mapping[Any, int]) -> str:
        return ", ".join(f"{count:,} {name}" for name, count in items.items() if count) or "none"

    return [
        ("index", display_path(found.path)),
        ("files", counts(found.files)),
        ("documents", f"{found.documents:,} ({counts(found.documents_by_format)})"),
        ("chunks", f"{found.chunks:,} ({counts(found.chunks_by_kind)})"),
        ("embedder", f"{found.embedder or 'none yet'}, {found.dimension or 0} dimensions"),
        *_image_rows(found),
        ("search", _search_row(found)),
        ("on disk", f"{(found.catalog_bytes + found.checkpoint_bytes) / 1e6:,.1f} MB"),
        ("generation", str(found.generation)),
    ]


def _image_rows(found: IndexStats) -> list[tuple[str, str]]:
    """Nothing for an index that never saw an image embedder."""
    return [("pictures", f"{found.images:,}, {found.image_embedder}")] if found.image_embedder else []


def _run_rows(runs: list[RunRecord]) -> list[tuple[str, str]]:
    labels = ["last runs", *[""] * len(runs)]
    return [(label, _run_row(run)) for label, run in zip(labels, runs, strict=False)]


def _run_row(run: RunRecord) -> str:
    """When, what, how it ended, what came of it."""
    took = "" if run.seconds is None else f" after {run.seconds:,.1f} s"
    counts = ", ".join(f"{count:,} {name}" for name, count in run.counts.items() if count)
    return f"{_minute(run.started_at)} {run.command} {run.outcome}{took}{': ' if counts else ''}{counts}"


def _minute(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _print_cut_off(run: RunRecord) -> None:
    columns = output.width(sys.stdout)
    paths = " ".join(map(display_path, run.roots))
    how = "was interrupted" if run.outcome == "interrupted" else "ended with an error"
    sentence = f"The {run.command} of {_minute(run.started_at)} {how}: {paths}"
    output.print_text(output.fill(sentence, first="! ", width=columns))
    again = f"Run `ragserve {run.command}` again to go on; what it has committed is kept."
    output.print_text(output.fill(again, first="  -> ", width=columns))


def _search_row(found: IndexStats) -> str:
    index = found.approximate
    if index is None:
        return "exact, all vectors are compared"
    return (
        f"approximate, recall@{index.k} {index.recall:.3f} (target {index.recall_target:g}),"
        f" {index.num_probes:,} lists and {index.rerank_depth:,} candidates a query"
    )


def _print_statuses(title: str, statuses: list[FileStatus]) -> None:
    if not statuses:
        return
    columns = output.width(sys.stdout)
    output.print_text(f"{title}:")
    for status in statuses:
        output.print_text(f"  {display_path(status.uri)}")
        output.print_text(output.fill(status.reason, first="    ", width=columns))
        if status.hint:
            output.print_text(output.fill(status.hint, first="    -> ", width=columns))


def _print_partial(files: list[PartialFile]) -> None:
    if not files:
        return
    columns = output.width(sys.stdout)
    output.print_text("Indexed, but not whole:")
    for file in files:
        output.print_text(f"  {display_path(file.uri)}")
        for warning in file.warnings[:_SHOWN_WARNINGS]:
            output.print_text(output.fill(warning, first="    ", width=columns))
        if len(file.warnings) > _SHOWN_WARNINGS:
            output.print_text(f"    and {len(file.warnings) - _SHOWN_WARNINGS:,} more; --json lists them")


def _print_near_duplicates(alike: NearDuplicatesReport) -> None:
    if not alike.groups:
        return
    output.print_text("Near-duplicates:")
    for group in alike.groups:
        words = "the same text" if group.similarity == 1 else f"about {group.similarity:.0%} alike"
        output.print_text(f"  {group.files:,} files, {words}:")
        for uri in group.uris:
            output.print_text(f"    {display_path(uri)}")
        if group.files > len(group.uris):
            output.print_text(f"    and {group.files - len(group.uris):,} more")
    if alike.total > len(alike.groups):
        output.print_text(f"  and {alike.total - len(alike.groups):,} more groups")
