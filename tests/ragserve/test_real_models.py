"""From end to end with the embedded models, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

RAGSERVE = [sys.executable, "-m", "ragserve"]


def run(*arguments):
    return subprocess.run(
        [*RAGSERVE, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    (folder / "bridge.md").write_text("# The bridge\n\nMara Ellison designed the Lantern bridge in 1931.\n")
    (folder / "garden.txt").write_text("The garden has forty apple trees, planted by the monks.\n")
    done = run("ingest", folder, "--index", folder / "index", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["indexed"] == 2
    return folder / "index"


def test_a_question_is_answered_from_the_right_file_with_a_verbatim_quote(index):
    done = run("query", "Who designed the Lantern bridge?", "--index", index, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["hits"][0]["chunk"]["uri"].endswith("bridge.md")
    assert "Mara Ellison" in answer["answer"]
    assert answer["supported"]
    text = (index.parent / "bridge.md").read_text()
    assert all(citation["quote"] in text for citation in answer["citations"])


def test_an_unchanged_folder_is_not_embedded_again(index):
    done = run("ingest", index.parent, "--index", index, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["indexed"], report["unchanged"], report["embedded"]) == (0, 2, 0)


@pytest.mark.parametrize("half_written", [False, True])
def test_a_generator_folder_that_is_missing_or_half_written_is_a_sentence(index, tmp_path, half_written):
    folder = tmp_path / "model"
    if half_written:
        folder.mkdir()
        (folder / "config.json").write_text("{")
    done = run("query", "Who?", "--index", index, "--generator", folder, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["hint"]
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_no_embedder_is_a_sentence(index, tmp_path):
    done = run("search", "x", "--index", index, "--embedder", tmp_path, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["hint"]
