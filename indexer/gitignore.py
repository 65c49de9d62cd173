"""One line of a `.gitignore` as a rule, with the meaning that git gives it.

Not pathspec: its expressions also match whatever is below a match ("!b" re-includes "b/a"), which git
does not do; and they backtrack: "*a*a*a*a*a*b" takes hours on one long name. These commit to the first
place where a stretch between two wildcards fits (later ones can match no more), which keeps them polynomial.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_NEVER = "(?!)"
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "\\x21-\\x7e",
    "lower": "a-z",
    "print": "\\x20-\\x7e",
    "punct": "!-/:-@\\[-`{-~",
    "space": "\\t-\\r ",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern, and whether what it matches is excluded or (after a "!") included again."""

    regex: re.Pattern[str]
    excludes: bool
    folders_only: bool
    whole_path: bool  # else it is matched against the name alone

    def matches(self, path: str, *, is_folder: bool) -> bool:
        """Whether the rule is about this path, relative to the folder of the ignore file."""
        if self.folders_only and not is_folder:
            return False
        return self.regex.fullmatch(path if self.whole_path else path[path.rfind("/") + 1 :]) is not None


def parse_rule(line: str) -> Rule | None:
    """The rule of a line; None for blank lines and comments; ValueError for a line that can match nothing."""
    line = _strip_trailing_spaces(line)
    if not line or line.startswith("#"):
        return None
    excludes = not line.startswith("!")
    pattern = line if excludes else line[1:]
    folders_only = pattern.endswith("/")
    pattern = pattern.removesuffix("/")
    whole_path = "/" in pattern
    if not pattern.strip("/"):
        raise ValueError(line)
    expression = _translate(pattern.removeprefix("/").split("/"))
    return Rule(re.compile(expression, re.DOTALL), excludes, folders_only, whole_path)


def _strip_trailing_spaces(line: str) -> str:
    stripped = line.rstrip(" ")
    num_backslashes = len(stripped) - len(stripped.rstrip("\\"))
    return stripped + " " if num_backslashes % 2 and len(stripped) < len(line) else stripped


def _translate(segments: Sequence[str]) -> str:
    """An expression for a path; a segment of only stars (two or more) stands for any number of folders."""
    stretches: list[list[str]] = [[]]
    for segment in segments:
        if len(segment) > 1 and not segment.strip("*"):
            stretches.append([])
        else:
            stretches[-1].append(_translate_segment(segment))
    first, *rest = ["/".join(stretch) for stretch in stretches]
    if not rest:
        return first
    *middle, last = rest
    start = f"{first}/" if first else ""
    jumps = "".join(f"(?>(?:[^/]+/)*?{stretch}/)" for stretch in middle if stretch)
    return start + jumps + (f"(?:[^/]+/)*{last}" if last else ".+")


def _translate_segment(segment: str) -> str:
    """An expression for one name."""
    stretches = [""]
    for item in _items(segment):
        if item == "*":
            stretches.append("")
        else:
            stretches[-1] += item
    first, *rest = stretches
    if not rest:
        return first
    *middle, last = rest
    return first + "".join(f"(?>[^/]*?{stretch})" for stretch in middle if stretch) + f"[^/]*{last}"


def _items(segment: str) -> Iterator[str]:
    """The parts of a pattern, each an expression for one character, or "*"."""
    position = 0
    while position < len(segment):
        character = segment[position]
        position += 1
        if character == "*":
            yield "*"
        elif character == "?":
            yield "[^/]"
        elif character == "[":
            expression, position = _bracket(segment, position)
            yield expression
        elif character == "\\":
            if position == len(segment):
                raise ValueError(segment)
            yield re.escape(segment[position])
            position += 1
        else:
            yield re.escape(character)


def _bracket(segment: str, position: int) -> tuple[str, int]:
    """The expression for a set of characters whose "[" is before `position`, and where its "]" ends."""
    start = position
    negated = segment[position : position + 1] in ("!", "^")
    position += negated
    members: list[str] = []
    first = position
    while position < len(segment):
        if segment[position] == "]" and position > first:
            return _set(members, negated=negated), position + 1
        if segment.startswith("[:", position) and ":]" in segment[position + 2 :]:
            end = segment.index(":]", position + 2)
            if segment[position + 2 : end] not in _CLASSES:
                raise ValueError(segment)
            members.append(_CLASSES[segment[position + 2 : end]])
            position = end + 2
            continue
        low, position = _member(segment, position)
        if segment.startswith("-", position) and segment[position + 1 : position + 2] not in ("", "]"):
            high, position = _member(segment, position + 1)
            if low <= high:
                members.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            members.append(re.escape(low))
    raise ValueError(f"{segment[start - 1 :]} has no end")


def _member(segment: str, position: int) -> tuple[str, int]:
    if segment[position] == "\\":
        position += 1
    if position >= len(segment):
        raise ValueError(segment)
    return segment[position], position + 1


def _set(members: Sequence[str], *, negated: bool) -> str:
    if not members:
        return "[^/]" if negated else _NEVER
    return f"(?!/)[{'^' if negated else ''}{''.join(members)}]"
