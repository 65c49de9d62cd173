"""What every command keeps to: its help, its width, its settings, its page."""

from __future__ import annotations

from pathlib import Path


def test_everything_fits_into_80_columns(filled, corpus):
    (corpus / "empty.txt").touch()
    (corpus / "long.txt").write_text("A paragraph that goes on. " * 60)
    commands = [
        ["ingest", "corpus"],
        ["search", "paragraph"],
        ["query", "Which paragraph goes on?"],
        ["query", "Quidditch?", "--explain"],
        ["doctor"],
        ["stats"],
        ["verify"],
        ["export", "all.jsonl"],
        ["import", "all.jsonl"],
        ["snapshot", "create", "before-the-audit"],
        ["snapshot", "list"],
        ["rollback", "before-the-audit"],
        ["config"],
        ["query", ""],
    ]
    for command in commands:
        found = filled(*command)
        assert max(map(len, (found.out + found.err).splitlines())) <= 80, command


def test_every_command_explains_itself_in_80_columns(ragserve):
    overview = ragserve("--help")
    names = [line.split()[0] for line in overview.out.partition("Commands:\n")[2].splitlines()]
    assert names == [
        *("ingest", "query", "search", "serve", "stats", "verify", "doctor", "export", "import"),
        *("config", "train", "eval", "rollback", "snapshot"),
    ]
    parts = ("create", "list", "restore", "delete")
    for name in [[name] for name in names[:-1]] + [["snapshot", part] for part in parts]:
        found = ragserve(*name, "--help")
        assert found.code == 0
        assert "--json" in found.out
        assert max(map(len, found.out.splitlines())) <= 80


def test_config_says_where_each_value_comes_from(ragserve, home, monkeypatch):
    (home / "ragserve.toml").write_text("k = 3\n")
    monkeypatch.setenv("RAGSERVE_JOBS", "2")
    document = ragserve("config", "--json", "--device", "cpu").document
    assert document["k"] == {"value": 3, "origin": "ragserve.toml"}
    assert document["jobs"] == {"value": 2, "origin": "RAGSERVE_JOBS"}
    assert document["device"] == {"value": "cpu", "origin": "flag"}
    assert document["index"] == {"value": ".ragserve", "origin": "default"}
    assert "k = 3  (ragserve.toml)\n" in ragserve("config").out


def test_the_version_is_the_package_s(ragserve):
    assert ragserve("--version").out.startswith("ragserve 0.")


def test_the_pages_about_the_command_line_are_up_to_date():
    from ragserve.cli.reference import regenerated

    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
    assert "<!-- begin ragserve query -->" in page
    assert regenerated(page) == page, "run: python -m ragserve.cli.reference docs/cli.md"
