"""From flags to an open pipeline and to filters."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragserve.errors import InvalidFilter

if TYPE_CHECKING:
    from indexer.index import Index
    from indexer.types import Filters
    from ragserve.pipeline import Pipeline
    from ragserve.settings import Settings

_GLOB_CHARACTERS = frozenset("*?[")


def settings_from(**flags: Any) -> Settings:
    """Returns the settings in force for a command's flags; a flag that was not given is None."""
    from ragserve.loading import load_settings

    return load_settings(flags=flags).settings


def open_pipeline(settings: Settings, *, create: bool = False, read_only: bool = True) -> Pipeline:
    """Opens the settings' index; only `ingest` creates one or writes to it."""
    from ragserve.pipeline import Pipeline

    return Pipeline.open(settings=settings, create=create, read_only=read_only)


def open_index(settings: Settings, *, read_only: bool = True) -> Index:
    """Opens the settings' index to look after it: without a model, whatever embedder made it."""
    from indexer.index import Index
    from ragserve import parts

    return Index.open(
        settings.index, create=False, read_only=read_only, vectors=parts.vector_settings(settings)
    )


def filters_from(path: str | None, kinds: Sequence[str] | None) -> Filters | None:
    """Returns the filters that --path and --kind ask for, or None without either. Raises InvalidFilter."""
    from typing import get_args

    from indexer.types import ChunkKind, Filters

    if not path and not kinds:
        return None
    known = get_args(ChunkKind)
    for kind in kinds or ():
        if kind not in known:
            raise InvalidFilter(f"{kind!r} is no kind of chunk.", hint=f"Use {', '.join(known)}.")
    return Filters(path_glob=path_glob(path) if path else None, kinds=frozenset(kinds) if kinds else None)


def path_glob(path: str) -> str:
    """Returns the glob on uris that a shell user means: a folder is all that is below it."""
    from indexer.discovery import file_uri

    if Path(path).is_dir():
        return f"{_escaped(file_uri(os.path.realpath(path)))}/*"
    if Path(path).exists():
        return _escaped(file_uri(os.path.realpath(path)))
    # Bytes that are no text are written as in uris; what was copied from one has its marks already.
    glob = "\ufffd".join(map(file_uri, path.split("\ufffd")))
    if os.path.isabs(glob) or glob.startswith("*"):
        return glob
    return f"*{glob}" if _GLOB_CHARACTERS & set(glob) else f"*{glob}*"


def _escaped(path: str) -> str:
    return "".join(f"[{character}]" if character in _GLOB_CHARACTERS else character for character in path)
