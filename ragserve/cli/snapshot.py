"""`ragserve snapshot`: keep the index as it is now, and go back to it."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from ragserve.cli import options as flags
from ragserve.cli import output
from ragserve.cli.care import plain
from ragserve.cli.exits import ending_with_its_reader
from ragserve.cli.session import open_index, settings_from

if TYPE_CHECKING:
    from indexer.types import SnapshotInfo

app = typer.Typer(help="Keep the index as it is now, and go back to it.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the snapshot.")]
WhichArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the snapshot, or the generation it was made of.")
]


def create(
    name: NameArgument,
    index: flags.IndexFlag = None,
    as_json: flags.JsonFlag = False,
    debug: flags.DebugFlag = False,
) -> None:
    """Keep the index as it is now. An ingest may go on meanwhile."""
    with open_index(settings_from(index=index)) as opened:
        info = opened.create_snapshot(name)
    _print(info, f"Kept as {name}", as_json=as_json)


def list_(
    index: flags.IndexFlag = None, as_json: flags.JsonFlag = False, debug: flags.DebugFlag = False
) -> None:
    """List what was kept, the oldest first."""
    with open_index(settings_from(index=index)) as opened:
        found = opened.snapshots()
    if as_json:
        output.print_json({"snapshots": plain(found)})
        return
    for info in found:
        output.print_text(output.fill(_summary(info), first=f"{info.name}  ", width=output.width(sys.stdout)))
    if not found:
        output.print_text("There is no snapshot.")


def restore(
    name: WhichArgument,
    index: flags.IndexFlag = None,
    as_json: flags.JsonFlag = False,
    debug: flags.DebugFlag = False,
) -> None:
    """Make the index what it was. The snapshot stays.

    What was ingested since is forgotten; running servers answer from the restored index at once.
    """
    with open_index(settings_from(index=index), read_only=False) as opened:
        info = opened.restore_snapshot(name)
    _print(info, f"The index is {info.name} again", as_json=as_json)


def delete(
    name: NameArgument,
    index: flags.IndexFlag = None,
    as_json: flags.JsonFlag = False,
    debug: flags.DebugFlag = False,
) -> None:
    """Forget a snapshot. The index stays as it is."""
    with open_index(settings_from(index=index)) as opened:
        info = opened.delete_snapshot(name)
    _print(info, f"Forgot {name}", as_json=as_json)


def _print(info: SnapshotInfo, done: str, *, as_json: bool) -> None:
    if as_json:
        output.print_json(plain(info))
    else:
        output.print_text(output.fill(f"{done}: {_summary(info)}", width=output.width(sys.stdout)))


def _summary(info: SnapshotInfo) -> str:
    if info.damaged:
        return "damaged"
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(info.created_at))
    counts = f"{info.documents:,} documents, {info.chunks:,} chunks, {info.bytes / 1e6:,.1f} MB"
    return f"{made}, generation {info.generation}, {counts}"


for _name, _command in {"create": create, "list": list_, "restore": restore, "delete": delete}.items():
    app.command(_name)(ending_with_its_reader(_command))
