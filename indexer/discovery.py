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
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from indexer.errors import IndexerError
from indexer.ignoring import IGNORE_FILES, IgnoreRules, rules_above

ALWAYS_SKIPPED = frozenset(
    {".git", ".hg", ".svn", ".bzr", ".venv", ".tox", ".nox", ".ragserve"}
    | {"node_modules", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"}
)
_INDEX_FILES = {"catalog.sqlite3", "vectors.json"}
# Not printable, not valid UTF-8 (surrogates), or the mark that stands for these.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffd\ud800-\udfff]")
_GRANT = "Change its permissions or run as another user."


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


class FoundFile(NamedTuple):
    """A file to index, or one that is ignored (`reason` says why), or one with a `problem`."""

    real_path: str  # absolute, as the system has it; making a `Path` of it takes longer than all the rest
    uri: str  # the same as printable text, unique even where a name is no text
    size: int = 0
    mtime_ns: int = 0
    problem: IndexerError | None = None
    reason: str = ""  # why it is ignored; "": it is not

    @property
    def path(self) -> Path:
        """Where it is."""
        return Path(self.real_path)

    @property
    def ignored(self) -> bool:
        """Whether it is deliberately left out."""
        return bool(self.reason)


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
    if path.isprintable() and "\ufffd" not in path:  # as nearly all are, which is quick to tell
        return path
    return _UNPRINTABLE.sub(
        lambda match: "".join(f"\ufffd{byte:02x}" for byte in os.fsencode(match[0])), path
    )


class _Listing(NamedTuple):
    """What is still to come of a folder."""

    entries: Iterator[os.DirEntry[str]]
    rules: IgnoreRules


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
                found = self._once(root, problem=_link_problem(root, error))
            else:
                if stat.S_ISDIR(status.st_mode):
                    yield from self._walk(path, rules_above(path))
                    continue
                found = self._named_file(path, status)
            if found is not None:
                yield found

    def _named_file(self, path: str, status: os.stat_result) -> FoundFile | None:
        if stat.S_ISREG(status.st_mode):
            return self._once(path, status)
        problem = NotAFile(
            f"{file_uri(path)} is not a regular file.", hint="Only files and folders can be indexed."
        )
        return self._once(path, problem=problem)

    def _walk(self, root: str, rules: IgnoreRules) -> Iterator[FoundFile]:
        """Depth first, in the order of names, without recursion and without following links to folders."""
        stack: list[_Listing] = []
        pending: tuple[str, IgnoreRules] | None = (root, rules)
        while pending or stack:
            found: FoundFile | None = None
            if pending:
                (folder, rules), pending = pending, None
                try:
                    stack.append(self._listing(folder, rules))
                except OSError as error:
                    if isinstance(error, FileNotFoundError) and folder != root:
                        continue  # deleted since the folder above was listed
                    found = self._once(folder, problem=_folder_problem(folder, error))
            elif (entry := next(stack[-1].entries, None)) is None:
                stack.pop()
            elif entry.path in self._roots:
                continue  # named by the user: it has its own turn, whatever the rules here say
            elif _is_folder(entry):
                reason = self._folder_reason(entry, stack[-1].rules)
                if reason is None:
                    pending = (entry.path, stack[-1].rules)
                elif reason:
                    found = self._listed(entry.path, ignored=reason)
            else:
                found = self._file(entry, stack[-1].rules)
            if found is not None:
                yield found

    def _listing(self, folder: str, rules: IgnoreRules) -> _Listing:
        """The folder's entries and the rules that hold for them; none if the folder is one to leave out."""
        if folder in self._exclude or folder in self._folders:
            return _Listing(iter(()), rules)
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=attrgetter("name"))
        names = {entry.name for entry in entries}
        if "pyvenv.cfg" in names or names >= _INDEX_FILES:
            return _Listing(iter(()), rules)
        self._folders.add(folder)
        return _Listing(iter(entries), rules.within(folder, names))

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

    def _file(self, entry: os.DirEntry[str], rules: IgnoreRules) -> FoundFile | None:
        reason = rules.note(entry.path) or self._ignored(entry, rules, is_folder=False)
        if reason:
            return self._listed(entry.path, ignored=reason)
        path, is_link = entry.path, entry.is_symlink()
        try:
            if is_link:
                path = os.path.realpath(path, strict=True)
                status = os.stat(path)
            else:
                status = entry.stat(follow_symlinks=False)
        except OSError as error:
            if is_link:
                return self._once(path, problem=_link_problem(path, error))
            if isinstance(error, FileNotFoundError):
                return None  # deleted since the folder was listed
            return self._once(path, problem=_file_problem(path, error))
        if stat.S_ISREG(status.st_mode):
            if not is_link:
                return self._listed(path, status)
            if path in self._roots or os.path.dirname(path) in self._folders:
                return None  # it has its own turn where it is
            return self._once(path, status)
        if stat.S_ISDIR(status.st_mode):
            return self._listed(entry.path, ignored="A link to a folder; name that folder to index it.")
        return self._listed(entry.path, ignored="Not a regular file (a pipe, socket or device).")

    def _once(
        self, path: str, status: os.stat_result | None = None, *, problem: IndexerError | None = None
    ) -> FoundFile | None:
        """The file, unless it was listed already, and never again."""
        found = self._listed(path, status, problem=problem)
        self._seen.add(path)
        return found

    def _listed(
        self,
        path: str,
        status: os.stat_result | None = None,
        *,
        problem: IndexerError | None = None,
        ignored: str = "",
    ) -> FoundFile | None:
        """The file, unless it was listed already by way of a link or because the user named it."""
        if path in self._seen:
            return None
        uri = file_uri(path)
        if status is None:
            return FoundFile(path, uri, problem=problem, reason=ignored)
        if not os.access(path, os.R_OK):
            problem = UnreadableFile(f"{uri} may not be read.", hint=_GRANT)
        return FoundFile(path, uri, status.st_size, status.st_mtime_ns, problem)


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


def _file_problem(path: str, error: OSError) -> IndexerError:
    return UnreadableFile(
        f"{file_uri(path)} cannot be looked at ({error.strerror or error}).",
        hint="Change the permissions of its folder or run as another user.",
    )


def _folder_problem(path: str, error: OSError) -> IndexerError:
    return UnreadableFolder(
        f"The folder {file_uri(path)} cannot be listed ({error.strerror or error}).",
        hint=_GRANT,
    )
