"""Where settings come from: a flag beats RAGSERVE_*, which beats ./ragserve.toml, which beats the default.

The index folder is no source: it may have come from someone else, and must not choose models or addresses.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ragserve.errors import InvalidSetting, UnknownSetting
from ragserve.settings import SECTIONS, Declared, Settings, declared_settings, words_for

CONFIG_NAME = "ragserve.toml"
_PREFIX = "RAGSERVE_"
# Kubernetes and Docker set these in every container beside a service that is itself called "ragserve".
_SERVICE_LINK = re.compile(r"RAGSERVE_(SERVICE_(HOST|PORT\w*)|PORT(_\d+_(TCP|UDP|SCTP)\w*)?)")
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings, and where the value of each dotted key came from: flag, variable, file or default."""

    settings: Settings
    origins: Mapping[str, str]


def load_settings(
    *,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> LoadedSettings:
    """Reads every source and returns the settings in force.

    `flags` maps dotted keys to values; None means that the flag was not given. `folder` (default: the working
    directory) is where ragserve.toml is looked for. Raises UnknownSetting and InvalidSetting.
    """
    known = declared_settings()
    values: dict[str, Any] = {}
    origins = dict.fromkeys(known, "default")
    sources = (
        _from_file((folder or Path()) / CONFIG_NAME, known),
        _from_environment(os.environ if environ is None else environ, known),
        _from_flags(flags or {}, known),
    )
    for source in sources:
        for key, (value, origin) in source.items():
            values[key] = value
            origins[key] = origin
    return LoadedSettings(_build(values), MappingProxyType(origins))


def _build(values: Mapping[str, Any]) -> Settings:
    own = {key: value for key, value in values.items() if "." not in key}
    for section, owner in SECTIONS.items():
        prefix = f"{section}."
        own[section] = owner(**{k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)})
    return Settings(**own)


def _from_flags(flags: Mapping[str, Any], known: Mapping[str, Declared]) -> dict[str, tuple[Any, str]]:
    found = {}
    for key, value in flags.items():
        if key not in known:
            raise _unknown(key, known, where="the call")
        if value is not None:
            found[key] = (_coerce(key, value, known[key], origin="the call"), "flag")
    return found


def _from_environment(
    environ: Mapping[str, str], known: Mapping[str, Declared]
) -> dict[str, tuple[Any, str]]:
    variables = {_PREFIX + key.upper().replace(".", "_"): key for key in known}
    found = {}
    for name, text in environ.items():
        if not name.startswith(_PREFIX) or (name not in variables and _SERVICE_LINK.fullmatch(name)):
            continue
        if name not in variables:
            raise _unknown(name, variables, where="the environment")
        if text:  # an empty variable is one that was not set
            key = variables[name]
            found[key] = (_coerce_text(key, text, known[key], origin=name), name)
    return found


def _from_file(path: Path, known: Mapping[str, Declared]) -> dict[str, tuple[Any, str]]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{path} cannot be read: {error}.", hint="Repair it or move it away.") from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidSetting(f"{path} is not valid TOML: {error}.", hint="Write lines like k = 5.") from error
    found = {}
    for key, value in _flatten(document):
        if key not in known:
            raise _unknown(key, known, where=str(path))
        found[key] = (_coerce(key, value, known[key], origin=str(path)), str(path))
    return found


def _flatten(document: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{inner}", item) for inner, item in value.items())
        else:
            yield key, value


def _coerce(key: str, value: Any, setting: Declared, *, origin: str) -> Any:
    """Turns what TOML or a caller has into the setting's type: a text into a path, a list into a tuple."""
    kind = setting.type
    if kind in (Path, Path | None) and isinstance(value, str) and value:
        return Path(value).expanduser()
    if kind == tuple[str, ...] and isinstance(value, list | tuple):
        if all(isinstance(item, str) for item in value):
            return tuple(value)
        raise InvalidSetting(f"{key} in {origin} must be a list of texts.", hint=setting.about.help)
    return value


def _coerce_text(key: str, text: str, setting: Declared, *, origin: str) -> Any:
    parse = _PARSERS.get(setting.type, str)
    try:
        return parse(text)
    except ValueError:
        message = f"{origin} must be {words_for(setting.type)}, not {text!r}."
        raise InvalidSetting(message, hint=setting.about.help) from None


def _to_path(text: str) -> Path:
    return Path(text).expanduser()


def _to_texts(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _to_bool(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(text)


_PARSERS: Mapping[Any, Callable[[str], Any]] = MappingProxyType(
    {
        Path: _to_path,
        Path | None: _to_path,
        tuple[str, ...]: _to_texts,
        int: int,
        int | None: int,
        float: float,
        float | None: float,
        bool: _to_bool,
    }
)


def _unknown(key: str, known: Iterable[str], *, where: str) -> UnknownSetting:
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.6)
    hint = f"Did you mean {close[0]}?" if close else "Run `ragserve config` for the settings that there are."
    return UnknownSetting(f"{key} in {where} is not a setting.", hint=hint)
