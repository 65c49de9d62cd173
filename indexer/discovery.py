"""Finding the files to index: in order, each real file once, with ignore rules as git has them.

Never listed: version control folders, caches and virtual environments (`ALWAYS_SKIPPED`, folders with a
`pyvenv.cfg`), the index itself. Listed as ignored, with the reason: files and folders that `.gitignore` or
`.ragserveignore` exclude, hidden ones (unless a `!` rule names them), links to folders, pipes and devices.
Listed with a problem: what ought to be indexed and cannot be read. Paths the user names are always taken.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from indexer.errors import IndexerError
from indexer.ignoring import IGNORE_FILES, IgnoreRules, rules_above

ALWAYS_SKIPPED = frozenset(
    {".git", ".hg", ".svn", ".bzr", ".venv", ".tox", ".nox", ".ragserve"}
    | {"node_modules", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"}
)
_INDEX_FILES = {"catalog.sqlite3", "vectors.json"}
# Not printable, not valid UTF-8 (surrogates), or the mark that stands for these.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffd\ud800-\udfff]")


class PathNotFound(IndexerError):
    """The user named a path that does not exist."""

    code = "path-not-found"


class UnreadableFile(IndexerError):
    """The file exists and may not be read."""

    code = "unreadable-file"


class UnreadableFolder(IndexerError):
    """The folder exists and cannot be listed."""

    code = "unreadable-folder"


class BrokenLink(IndexerError):
    """A link whose target is gone, or that leads back to itself."""

    code = "broken-link"


class NotAFile(IndexerError):
    """The user named a pipe, a socket or a device."""

    code = "not-a-file"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to index, or one that is ignored (`reason` says why), or one with a `problem`.

    `path` is real and absolute; `uri` is the same as printable text, unique even where a name is no text.
    """

    path: Path
    uri: str
    size: int = 0
    mtime_ns: int = 0
    problem: IndexerError | None = None
    ignored: bool = False
    reason: str = ""


def discover(
    paths: Iterable[str | os.PathLike[str]],
    *,
    exclude: Collection[str | os.PathLike[str]] = (),
    hidden: bool = False,
) -> Iterator[FoundFile]:
    """List the files under `paths` (files, folders or both) in order; folders in `exclude` are left out.

    Raises PathNotFound at once if any path does not exist. Links to files are followed, to folders not.
    """
    roots = [os.path.abspath(path) for path in paths]
    missing = [root for root in roots if not os.path.lexists(root)]
    if missing:
        listed = ", ".join(file_uri(path) for path in missing)
        raise PathNotFound(f"No such file or folder: {listed}.", hint="Check the spelling of the path.")
    return _Discovery(roots, {os.path.realpath(path) for path in exclude}, hidden=hidden).files()


def file_uri(path: str) -> str:
    """The path as printable text that no other path has: other bytes become � and hex digits."""
    return _UNPRINTABLE.sub(
        lambda match: "".join(f"\ufffd{byte:02x}" for byte in os.fsencode(match[0])), path
    )


class _Discovery:
    def __init__(self, roots: Collection[str], exclude: Collection[str], *, hidden: bool) -> None:
        self._roots = {os.path.realpath(root): root for root in roots}
        self._exclude = exclude
        self._hidden = hidden
        # Real paths. What a folder lists comes once anyway and may be millions of files: they are not kept.
        self._folders: set[str] = set()  # whose files are listed, or are about to be
        self._seen: set[str] = set()  # what came by way of a link, or because the user named it

    def files(self) -> Iterator[FoundFile]:
        for path, root in self._roots.items():
            try:
                status = os.stat(path)
            except OSError as error:
                yield from self._once(root, problem=_link_problem(root, error))
                continue
            if stat.S_ISDIR(status.st_mode):
                yield from self._walk(path, rules_above(path))
            elif stat.S_ISREG(status.st_mode):
                yield from self._once(path, status)
            else:
                problem = NotAFile(
                    f"{file_uri(path)} is not a regular file.", hint="Only files and folders can be indexed."
                )
                yield from self._once(path, problem=problem)

    def _walk(self, root: str, rules: IgnoreRules) -> Iterator[FoundFile]:
        """Depth first, in the order of names, without recursion and without following links to folders."""
        pending = [(root, rules)]
        stack: list[Iterator[tuple[os.DirEntry[str], IgnoreRules]]] = []
        while pending or stack:
            if pending:
                folder, rules = pending.pop()
                try:
                    stack.append(self._entries(folder, rules))
                except OSError as error:
                    yield from self._once(folder, problem=_folder_problem(folder, error))
                continue
            entry, rules = next(stack[-1], (None, rules))
            if entry is None:
                stack.pop()
            elif entry.path in self._roots:
                continue  # named by the user: it has its own turn, whatever the rules here say
            elif _is_folder(entry):
                reason = self._folder_reason(entry, rules)
                if reason is None:
                    pending.append((entry.path, rules))
                elif reason:
                    yield from self._listed(entry.path, ignored=reason)
            else:
                yield from self._file(entry, rules)

    def _entries(self, folder: str, rules: IgnoreRules) -> Iterator[tuple[os.DirEntry[str], IgnoreRules]]:
        """The folder's entries with the rules that hold for them; none if the folder is one to leave out."""
        if folder in self._exclude or folder in self._folders:
            return iter(())
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        names = {entry.name for entry in entries}
        if "pyvenv.cfg" in names or names >= _INDEX_FILES:
            return iter(())
        self._folders.add(folder)
        rules = rules.within(folder, names)
        return ((entry, rules) for entry in entries)

    def _folder_reason(self, entry: os.DirEntry[str], rules: IgnoreRules) -> str | None:
        """Why a folder is left out; "" if that is not worth listing, None if it is not left out."""
        if entry.name in ALWAYS_SKIPPED or entry.path in self._exclude:
            return ""
        return self._ignored(entry, rules, is_folder=True)

    def _ignored(self, entry: os.DirEntry[str], rules: IgnoreRules, *, is_folder: bool) -> str | None:
        excluded = rules.excludes(entry.path, is_folder=is_folder)
        if excluded:
            return f"Excluded by {' or '.join(IGNORE_FILES)}."
        if excluded is None and entry.name.startswith(".") and not self._hidden:
            return "Hidden (its name starts with a dot)."
        return None

    def _file(self, entry: os.DirEntry[str], rules: IgnoreRules) -> Iterator[FoundFile]:
        reason = rules.note(entry.path) or self._ignored(entry, rules, is_folder=False)
        if reason:
            yield from self._listed(entry.path, ignored=reason)
            return
        path = entry.path
        try:
            if entry.is_symlink():
                path = os.path.realpath(path, strict=True)
                status = os.stat(path)
            else:
                status = entry.stat(follow_symlinks=False)
        except FileNotFoundError as error:
            if entry.is_symlink():
                yield from self._once(entry.path, problem=_link_problem(entry.path, error))
            return  # deleted since the folder was listed
        except OSError as error:
            yield from self._once(entry.path, problem=_link_problem(entry.path, error))
            return
        if stat.S_ISREG(status.st_mode):
            if not entry.is_symlink():
                yield from self._listed(path, status)
            elif path not in self._roots and os.path.dirname(path) not in self._folders:
                yield from self._once(path, status)  # elsewhere: it has its own turn where it is
        elif stat.S_ISDIR(status.st_mode):
            yield from self._listed(entry.path, ignored="A link to a folder; name that folder to index it.")
        else:
            yield from self._listed(entry.path, ignored="Not a regular file (a pipe, socket or device).")

    def _once(
        self,
        path: str,
        status: os.stat_result | None = None,
        *,
        problem: IndexerError | None = None,
        ignored: str = "",
    ) -> Iterator[FoundFile]:
        """The file, unless it was listed already, and never again."""
        found = list(self._listed(path, status, problem=problem, ignored=ignored))
        self._seen.add(path)
        yield from found

    def _listed(
        self,
        path: str,
        status: os.stat_result | None = None,
        *,
        problem: IndexerError | None = None,
        ignored: str = "",
    ) -> Iterator[FoundFile]:
        """The file, unless it was listed already by way of a link or because the user named it."""
        if path in self._seen:
            return
        if status and not os.access(path, os.R_OK):
            problem = UnreadableFile(
                f"{file_uri(path)} may not be read.", hint="Change its permissions or run as another user."
            )
        yield FoundFile(
            path=Path(path),
            uri=file_uri(path),
            size=status.st_size if status else 0,
            mtime_ns=status.st_mtime_ns if status else 0,
            problem=problem,
            ignored=bool(ignored),
            reason=ignored,
        )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:  # taken for a file, whose reading then says what is wrong
        return False


def _link_problem(path: str, error: OSError) -> IndexerError:
    return BrokenLink(
        f"{file_uri(path)} is a link that leads nowhere ({error.strerror or error}).",
        hint="Repair or remove the link.",
    )


def _folder_problem(path: str, error: OSError) -> IndexerError:
    return UnreadableFolder(
        f"The folder {file_uri(path)} cannot be listed ({error.strerror or error}).",
        hint="Change its permissions or run as another user.",
    )
