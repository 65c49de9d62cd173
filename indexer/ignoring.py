"""Ignore rules with git's precedence: the last matching line of the deepest ignore file decides."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from indexer.gitignore import Rule, parse_rule

if TYPE_CHECKING:
    from collections.abc import Mapping

IGNORE_FILES = (".gitignore", ".ragserveignore")  # of one folder, the later one has the last word
_LARGEST_IGNORE_FILE = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class _Level:
    """The rules of one folder's ignore files, the last line first."""

    folder: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The rules that hold in a folder: those of its own ignore files before those of the folders above it."""

    levels: tuple[_Level, ...] = ()  # deepest first
    notes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def within(self, folder: str, names: Collection[str]) -> IgnoreRules:
        """The rules for what is in `folder`, whose entries are called `names`."""
        notes: dict[str, str] = {}
        rules: list[Rule] = []
        for name in IGNORE_FILES:
            if name in names:
                path = os.path.join(folder, name)
                file_rules, notes[path] = _read_rules(path)
                rules += file_rules
        if not notes:
            return IgnoreRules(self.levels) if self.notes else self
        levels = (_Level(folder, tuple(reversed(rules))), *self.levels) if rules else self.levels
        return IgnoreRules(levels, notes)

    def excludes(self, path: str, *, is_folder: bool) -> bool | None:
        """Whether the rules exclude a path (True), re-include it (False) or say nothing (None).

        As in git, it is not asked about what is inside an excluded folder.
        """
        for level in self.levels:
            relative = path[len(level.folder) :].lstrip("/")
            for rule in level.rules:
                if rule.matches(relative, is_folder=is_folder):
                    return rule.excludes
        return None

    def note(self, path: str) -> str:
        """What there is to say about one of the ignore files themselves; "" for any other file."""
        return self.notes.get(path, "")


def rules_above(folder: str) -> IgnoreRules:
    """The rules that the folders above `folder` set for what is in it, up to the top of its repository.

    There are none outside a repository, and none if they exclude `folder` itself: whoever names it wants it.
    """
    parents = []
    parent = os.path.dirname(folder)
    child = folder
    while not os.path.lexists(os.path.join(child, ".git")):
        if parent == child:
            return IgnoreRules()
        parents.append(parent)
        child, parent = parent, os.path.dirname(parent)
    rules = IgnoreRules()
    for above in reversed(parents):
        rules = rules.within(
            above, [name for name in IGNORE_FILES if os.path.isfile(os.path.join(above, name))]
        )
        below = folder[len(above) :].lstrip("/").split("/")
        if rules.excludes(os.path.join(above, below[0]), is_folder=True):
            return IgnoreRules()
    return rules


def _read_rules(path: str) -> tuple[list[Rule], str]:
    """The rules of an ignore file, and a sentence about it; lines that git would not accept match nothing."""
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > _LARGEST_IGNORE_FILE:
            return [], "It is not a file of ignore rules, or larger than 1 MB, and was not read."
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
            lines = [line.rstrip("\r\n") for line in file]
    except OSError as error:
        return [], f"Its ignore rules could not be read ({error.strerror or error})."
    rules, bad = [], []
    for number, line in enumerate(lines, 1):
        try:
            rule = parse_rule(line)
        except ValueError:
            bad.append(str(number))
            continue
        if rule:
            rules.append(rule)
    note = f" Left out as invalid: line {', '.join(bad[:20])}." if bad else ""
    return rules, f"It holds ignore rules.{note}"
