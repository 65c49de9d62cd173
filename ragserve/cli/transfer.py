"""`ragserve export` and `import`: an index as a file that any program can read, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ragserve.cli import options as flags
from ragserve.cli import output
from ragserve.cli.care import plain
from ragserve.cli.session import open_index, open_pipeline, settings_from


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.")],
    index: flags.IndexFlag = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="NAME", help="jsonl or parquet. [default: parquet if FILE ends in .parquet]"
        ),
    ] = None,
    vectors: Annotated[bool, typer.Option("--vectors", help="Also write the vectors of the chunks.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: flags.JsonFlag = False,
    debug: flags.DebugFlag = False,
) -> None:
    """Write the index to a file of JSON Lines or Parquet: documents, chunks, files.

    Loads no model. Ingests may go on; what is written is one state of the index. Parquet needs an extra:
    pip install 'ragserve[parquet]'.
    """
    with open_index(settings_from(index=index)) as opened:
        report = opened.export(file, format=format_, vectors=vectors, replace=force)
    if as_json:
        output.print_json({"path": str(file), **plain(report)})
    else:
        counts = f"{report.documents:,} documents and {report.chunks:,} chunks"
        output.print_text(f"{counts} exported, {report.bytes / 1e6:,.1f} MB in {report.seconds:.1f} s")


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `ragserve export` wrote.")],
    index: flags.IndexFlag = None,
    embedder: flags.EmbedderFlag = None,
    device: flags.DeviceFlag = None,
    dtype: flags.DtypeFlag = None,
    as_json: flags.JsonFlag = False,
    debug: flags.DebugFlag = False,
) -> None:
    """Bring an export into the index: all of it, or nothing if a row is wrong.

    Ids and offsets are kept; so are vectors, if they were exported and the same embedder made them. Other
    chunks are embedded. Files of the same path are replaced, what else is in the index stays.
    """
    from ragserve.cli.progress import ingest_progress

    settings = settings_from(index=index, embedder=embedder, device=device, dtype=dtype)
    with open_pipeline(settings, create=True, read_only=False) as pipeline, ingest_progress() as progress:
        report = pipeline.index.import_export(file, progress=progress)
    if as_json:
        output.print_json(plain(report))
    else:
        counts = f"{report.documents:,} documents and {report.chunks:,} chunks"
        output.print_text(f"{counts} imported in {report.seconds:.1f} s, {report.embedded:,} texts embedded")
