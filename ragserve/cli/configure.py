"""`ragserve config`: the settings in force, and where each comes from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ragserve.cli import options as flags
from ragserve.cli import output


@flags.choosing(*flags.ANSWERING)
def config(
    *,
    chosen: flags.Chosen,
    as_json: flags.JsonFlag = False,
    debug: flags.DebugFlag = False,
) -> None:
    """Print the settings in force, and where each comes from.

    A flag beats a RAGSERVE_* variable, which beats ragserve.toml in this folder, which beats the default.
    """
    from ragserve.loading import load_settings
    from ragserve.settings import declared_settings, value_of

    loaded = load_settings(flags=chosen)
    values = {key: _plain(value_of(loaded.settings, key)) for key in declared_settings()}
    if as_json:
        output.print_json(
            {key: {"value": value, "origin": loaded.origins[key]} for key, value in values.items()}
        )
        return
    columns = output.width(sys.stdout)
    for key, value in values.items():
        output.print_text(output.fill(f"{key} = {_shown(value)}  ({loaded.origins[key]})", width=columns))
        output.print_text(output.fill(declared_settings()[key].about.help, first="    ", width=columns))


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(value) if isinstance(value, list) else str(value)
