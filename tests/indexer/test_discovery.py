from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer import discovery
from indexer.discovery import (
    BrokenLink,
    NotAFile,
    PathNotFound,
    UnreadableFile,
    UnreadableFolder,
    discover,
    file_uri,
)
from indexer.errors import IndexerError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return (tmp_path / "corpus").resolve()


def write(root: Path, *names: str, text: str = "x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def taken(*paths: Path, relative_to: Path | None = None, **options) -> list[str]:
    found = [f for f in discover(paths, **options) if not f.ignored and f.problem is None]
    return [os.path.relpath(f.path, relative_to or paths[0]) for f in found]


def ignored(*paths: Path, **options) -> dict[str, str]:
    return {os.path.relpath(f.path, paths[0]): f.reason for f in discover(paths, **options) if f.ignored}


def problems(*paths: Path, **options) -> dict[str, type[IndexerError]]:
    found = discover(paths, **options)
    return {os.path.relpath(f.path, paths[0]): type(f.problem) for f in found if f.problem}


def test_files_come_in_the_order_of_their_names(tree: Path) -> None:
    write(tree, "b.md", "a/z.md", "a/b/c.md", "c.md", "a.md")
    assert taken(tree) == ["a/b/c.md", "a/z.md", "a.md", "b.md", "c.md"]


def test_a_file_carries_its_real_path_size_and_time(tree: Path) -> None:
    write(tree, "a.md", text="hello")
    (found,) = discover([tree / "a.md"])
    assert found.path == tree / "a.md"
    assert found.uri == str(tree / "a.md")
    assert (found.size, found.mtime_ns) == (5, (tree / "a.md").stat().st_mtime_ns)


def test_files_and_folders_mix_and_each_file_comes_once(tree: Path) -> None:
    write(tree, "a/1.md", "a/2.md", "b.md")
    assert taken(tree / "a" / "2.md", tree, tree / "a", tree, relative_to=tree) == [
        "a/2.md",
        "b.md",
        "a/1.md",
    ]


def test_missing_paths_are_all_named_at_once(tree: Path) -> None:
    write(tree, "a.md")
    with pytest.raises(PathNotFound, match=r"nowhere, .*elsewhere") as caught:
        discover([tree, tree / "nowhere", tree / "elsewhere"])
    assert caught.value.code == "path-not-found"
    assert caught.value.hint


def test_an_empty_folder_has_no_files(tree: Path) -> None:
    tree.mkdir()
    assert list(discover([tree])) == []


def test_ignore_files_hold_at_their_level_and_below(tree: Path) -> None:
    write(tree, "a.log", "sub/b.log", "sub/c.md", "sub/deep/c.md", "c.md")
    (tree / ".gitignore").write_text("*.log\n")
    (tree / "sub" / ".gitignore").write_text("/c.md\n!b.log\n")
    assert taken(tree) == ["c.md", "sub/b.log", "sub/deep/c.md"]
    assert {"a.log", "sub/c.md"} <= ignored(tree).keys()


def test_an_ignored_folder_is_listed_once_and_not_entered(tree: Path) -> None:
    write(tree, "build/a.md", "build/b.md", "c.md")
    (tree / ".gitignore").write_text("build/\n!build/a.md\n")
    assert taken(tree) == ["c.md"]
    assert ignored(tree) == {
        ".gitignore": "It holds ignore rules.",
        "build": "Excluded by .gitignore or .ragserveignore.",
    }


def test_ragserveignore_has_the_last_word_over_gitignore(tree: Path) -> None:
    write(tree, "a.log", "b.log", "c.md")
    (tree / ".gitignore").write_text("*.log\n")
    (tree / ".ragserveignore").write_text("!a.log\nc.md\n")
    assert taken(tree) == ["a.log"]


def test_rules_of_the_repository_above_hold_for_a_folder_in_it(tree: Path) -> None:
    write(tree, "docs/a.md", "docs/a.tmp", "docs/sub/b.tmp", ".git/config")
    (tree / ".gitignore").write_text("*.tmp\n")
    assert taken(tree / "docs") == ["a.md"]


def test_rules_above_do_not_hold_outside_a_repository(tree: Path) -> None:
    write(tree, "docs/a.tmp")
    (tree / ".gitignore").write_text("*.tmp\n")
    assert taken(tree / "docs") == ["a.tmp"]


def test_what_the_user_names_is_taken_whatever_the_rules_say(tree: Path) -> None:
    write(tree, "build/a.md", "x.log", "node_modules/p/index.js", ".hidden/h.md", ".git/config")
    (tree / ".gitignore").write_text("build/\n*.log\n")
    named = [tree, tree / "build", tree / "x.log", tree / "node_modules", tree / ".hidden"]
    assert taken(*named) == ["build/a.md", "x.log", "node_modules/p/index.js", ".hidden/h.md"]


def test_hidden_files_are_listed_as_ignored_unless_asked_for(tree: Path) -> None:
    write(tree, ".env", ".github/ci.yml", "a.md")
    assert taken(tree) == ["a.md"]
    assert set(ignored(tree)) == {".env", ".github"}
    assert taken(tree, hidden=True) == [".env", ".github/ci.yml", "a.md"]


def test_a_negated_rule_brings_a_hidden_folder_back(tree: Path) -> None:
    write(tree, ".github/ci.yml", ".secret/key.md")
    (tree / ".ragserveignore").write_text("!.github/\n")
    assert taken(tree) == [".github/ci.yml"]


@pytest.mark.parametrize("name", [".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv", ".ragserve"])
def test_tool_folders_are_never_entered(tree: Path, name: str) -> None:
    write(tree, f"{name}/a.md", f"sub/{name}/a.md", "a.md")
    assert taken(tree, hidden=True) == ["a.md"]
    assert ignored(tree) == {}


def test_virtual_environments_and_indexes_are_recognised_under_any_name(tree: Path) -> None:
    write(tree, "env/pyvenv.cfg", "env/lib/a.py", "store/catalog.sqlite3", "store/vectors.json", "a.md")
    assert taken(tree) == ["a.md"]


def test_the_index_folder_is_left_out(tree: Path) -> None:
    write(tree, "my-index/half-written.md", "a.md")
    assert taken(tree, exclude=[tree / "my-index"]) == ["a.md"]


def test_links_to_files_are_followed_and_each_file_comes_once(tree: Path, tmp_path: Path) -> None:
    write(tree, "b.md")
    write(tmp_path, "outside.md")
    (tree / "a-link.md").symlink_to(tree / "b.md")
    (tree / "c-link.md").symlink_to(tmp_path / "outside.md")
    (tree / "d-link.md").symlink_to("c-link.md")
    assert taken(tree) == ["b.md", "../outside.md"]


def test_a_file_that_links_and_folders_lead_to_comes_once_whichever_comes_first(
    tree: Path, tmp_path: Path
) -> None:
    write(tree, "b/x.md", "b/y.md", "b/hidden.log", ".gitignore")
    (tree / ".gitignore").write_text("*.log\n")
    for name in ("a", "c"):
        (tree / name).mkdir()
        (tree / name / "to-x.md").symlink_to(tree / "b" / "x.md")
        (tree / name / "to-folder").symlink_to(tree / "b")
    assert sorted(taken(tree)) == ["b/x.md", "b/y.md"]
    assert sorted(taken(tree, tree / "b" / "x.md")) == ["b/x.md", "b/y.md"]
    assert set(ignored(tree)) == {".gitignore", "a/to-folder", "b/hidden.log", "c/to-folder"}


def test_what_is_remembered_does_not_grow_with_the_number_of_files(tree: Path) -> None:
    write(tree, *(f"{folder}/{number}.md" for folder in "ab" for number in range(100)))
    walk = discovery._Discovery([str(tree)], [], hidden=False)
    assert len(list(walk.files())) == 200
    assert len(walk._folders) == 3
    assert not walk._seen


def test_links_to_folders_are_not_followed_and_said_so(tree: Path) -> None:
    write(tree, "sub/a.md")
    (tree / "sub" / "loop").symlink_to(tree)
    assert taken(tree) == ["sub/a.md"]
    assert "link to a folder" in ignored(tree)["sub/loop"]


def test_a_folder_named_by_a_link_is_walked(tree: Path, tmp_path: Path) -> None:
    write(tree, "a.md")
    (tmp_path / "link").symlink_to(tree)
    (found,) = discover([tmp_path / "link"])
    assert found.path == tree / "a.md"


def test_broken_and_circular_links_are_problems(tree: Path) -> None:
    write(tree, "a.md")
    (tree / "broken").symlink_to(tree / "gone")
    (tree / "loop").symlink_to(tree / "loop")
    assert problems(tree) == {"broken": BrokenLink, "loop": BrokenLink}
    assert problems(tree / "broken") == {".": BrokenLink}


def test_pipes_and_sockets_are_ignored_in_a_folder_and_a_problem_by_name(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.mkdir()
    os.mkfifo(tree / "pipe")
    monkeypatch.chdir(tree)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        assert set(ignored(tree)) == {"pipe", "socket"}
    assert problems(tree / "pipe") == {".": NotAFile}


def test_unreadable_files_and_folders_are_problems(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tree, "a.md", "locked/b.md", "secret.md")
    scandir, access = os.scandir, os.access

    def refuse(path: str) -> object:
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: "secret" not in path and access(path, mode))
    assert taken(tree) == ["a.md"]
    assert problems(tree) == {"locked": UnreadableFolder, "secret.md": UnreadableFile}


class _Entry:
    """What `os.scandir` hands out, of a file that cannot be looked at."""

    def __init__(self, entry: os.DirEntry[str], error: OSError) -> None:
        self.name, self.path, self._entry, self._error = entry.name, entry.path, entry, error

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        return self._entry.is_dir(follow_symlinks=follow_symlinks)

    def is_symlink(self) -> bool:
        return self._entry.is_symlink()

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        raise self._error


def test_a_file_in_a_folder_that_may_be_listed_and_not_entered_is_unreadable_and_no_link(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tree, "a.md")
    scandir = os.scandir

    @contextmanager
    def listed_only(path: str) -> Iterator[list[_Entry]]:
        with scandir(path) as entries:
            yield [_Entry(entry, PermissionError(13, "Permission denied")) for entry in entries]

    monkeypatch.setattr(os, "scandir", listed_only)
    (found,) = discover([tree])
    assert isinstance(found.problem, UnreadableFile)
    assert "Permission denied" in found.problem.message
    assert "link" not in f"{found.problem.message} {found.problem.hint}"
    assert "permissions of its folder" in found.problem.hint


def test_a_folder_that_is_deleted_while_its_parent_is_walked_is_passed_over_as_a_file_is(tree: Path) -> None:
    write(tree, "a.md", "b/c.md", "d.md", "e.md")
    walk = discover([tree])
    assert next(walk).path == tree / "a.md"
    shutil.rmtree(tree / "b")
    (tree / "d.md").unlink()
    assert [(found.path, found.problem) for found in walk] == [(tree / "e.md", None)]


def test_a_folder_that_the_user_named_and_that_is_deleted_before_it_is_listed_is_a_problem(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tree, "a.md")
    scandir = os.scandir

    def deleted(path: str) -> object:
        os.rename(path, f"{path}.gone")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deleted)
    assert problems(tree) == {".": UnreadableFolder}


def test_names_that_are_not_text_get_printable_unique_uris(tree: Path) -> None:
    tree.mkdir()
    names = [b"caf\xe9.md", "caf\ufffde9.md".encode(), "café.md".encode(), b"line\nbreak.md", b"bell\x07.md"]
    for name in names:
        (tree / os.fsdecode(name)).write_text("x")
    found = list(discover([tree]))
    assert len({f.uri for f in found}) == len(names)
    assert {os.fsencode(f.path.name) for f in found} == set(names)
    for f in found:
        f.uri.encode("utf-8")
        assert "\n" not in f.uri


@given(one=st.binary(max_size=12), other=st.binary(max_size=12))
def test_uris_of_different_paths_differ(one: bytes, other: bytes) -> None:
    uris = file_uri(os.fsdecode(one)), file_uri(os.fsdecode(other))
    assert (uris[0] == uris[1]) == (one == other)
    uris[0].encode("utf-8")


@pytest.mark.parametrize(
    "rules", ["!", "a\\", "[", "[z-a]", "*a" * 30 + "*b", "**/a/" * 9 + "b", "\ufeff", "\x00", "\xff"]
)
def test_bad_rules_are_left_out_and_the_good_ones_hold(tree: Path, rules: str) -> None:
    write(tree, "a" * 200 + ".md", "b.log", "c.md")
    (tree / ".gitignore").write_bytes(f"{rules}\r\n*.log\r\n".encode("latin-1", "ignore"))
    start = time.thread_time()
    assert taken(tree) == ["a" * 200 + ".md", "c.md"]
    assert time.thread_time() - start < 60  # a rule that is tried in every way would take years


def test_the_lines_left_out_are_named(tree: Path) -> None:
    write(tree, "a.md")
    (tree / ".gitignore").write_text("*.log\n!\n")
    assert ignored(tree)[".gitignore"].endswith("Left out as invalid: line 2.")


def test_an_ignore_file_that_is_a_pipe_or_a_folder_does_not_hang_the_walk(tree: Path) -> None:
    write(tree, "a.md", "sub/.gitignore/x.md")
    os.mkfifo(tree / ".gitignore")
    assert taken(tree) == ["a.md"]


def test_deep_trees_are_walked_without_recursion(tree: Path) -> None:
    folder = tree
    for _ in range(300):
        folder = folder / "dddddd"
    folder.mkdir(parents=True)
    (folder / "a.md").write_text("x")
    assert len(taken(tree)) == 1


def test_a_file_deleted_during_the_walk_is_left_out(tree: Path) -> None:
    write(tree, "a.md", "b.md")
    found = discover([tree])
    assert next(found).path.name == "a.md"
    (tree / "b.md").unlink()
    assert list(found) == []


NAMES = st.sampled_from(["a", "b", "ab", "a.md", "b.log", "build", "x y", "a]", "-"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
# fmt: off
PATTERNS = [
    "*", "!*", "*/", "!*/", "a", "!a", "/a", "a/", "!a/", "a/b", "**/a", "a/**", "!a/**", "a/**/b", "*.md",
    "!*.md", "/build/", "!/build/", "b*", "?", "[ab]", "[!a]", "[^a]", "#a", "a/*", "!a/b", "\\a", "", "x y",
    "x y  ", "a\\ ", "**", "/**", "**/", "a/**/**/b", "***/b", "a**", "*b*", "/*", "!/*/", "[a-b].md", "[]a]",
    "[a", "[z-a]", "[[:alpha:]]", "[[:nope:]]", "a[]]", "[a-]", "[\\]a]", "*/*/a", "*/**/a", "**/b/**", "!",
    "!!a", "\\!a", "a//b", "/", "//", "a.m[!d]",
]
# fmt: on
RULES = st.lists(
    st.one_of(
        st.sampled_from(PATTERNS),
        st.builds(lambda negated, path: ("!" if negated else "") + path, st.booleans(), PATHS),
        st.text(alphabet="ab*?/![]\\-^ .", max_size=8),
    ),
    max_size=4,
)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is the model that this is compared with")
@given(
    files=st.lists(PATHS, min_size=1, max_size=10),
    rules=st.dictionaries(st.sampled_from(["", "a", "b", "build", "a/b"]), RULES, min_size=1, max_size=3),
)
@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_rules_select_the_same_files_as_git_does(
    tmp_path_factory: pytest.TempPathFactory, files: list[str], rules: dict[str, list[str]]
) -> None:
    root = tmp_path_factory.mktemp("repository").resolve()
    environment = {"PATH": os.environ["PATH"], "HOME": str(root), "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", "init", "-q", str(root)], check=True, env=environment)
    for name in files:
        path = root / name
        if not any(parent.is_file() for parent in path.parents) and not path.is_dir():
            write(root, name)
    for folder, lines in rules.items():
        if (root / folder).is_dir():
            (root / folder / ".gitignore").write_text("\n".join(lines) + "\n")
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "--others", "--exclude-standard", "-z"],
        check=True,
        env=environment,
        capture_output=True,
    )
    expected = {name for name in os.fsdecode(listed.stdout).split("\0") if name and ".gitignore" not in name}
    assert set(taken(root)) == expected
