"""The command as a process: what only signals, pipes, sockets and a second process can show."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RAGSERVE = [sys.executable, "-m", "ragserve"]
WITH_FAKES = [sys.executable, str(HERE / "ragserve_with_fakes.py")]
QUESTION = "Who designed the Lantern bridge?"

HEAVY = {
    *(
        "torch",
        "transformers",
        "sentence_transformers",
        "tokenizers",
        "safetensors",
        "numpy",
        "scipy",
        "sklearn",
    ),
    *(
        "faiss",
        "onnxruntime",
        "rapidocr",
        "cv2",
        "PIL",
        "lxml",
        "pypdf",
        "pypdfium2",
        "docx",
        "pptx",
        "openpyxl",
    ),
    *("pyarrow", "tree_sitter", "fastapi", "starlette", "uvicorn", "pydantic", "rich", "sqlite3", "jinja2"),
}


def run(command, *arguments, **options):
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=120, check=False, **options
    )


@contextmanager
def serving(index, *flags, environ=None, until="/readyz"):
    """Yields (process, url) of a server with the small parts when a path says 200; ends it if it runs on."""
    process = subprocess.Popen(
        [*WITH_FAKES, "serve", "--index", str(index), "--port", "0", "--json", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "", **(environ or {})},
    )
    try:
        text = ""
        while not text.endswith("}\n"):
            line = process.stdout.readline()
            assert line, process.stderr.read()
            text += line
        url = json.loads(text)["url"]
        wait_until(lambda: status_of(f"{url}{until}") == 200)
        yield process, url
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=120)


def wait_until(condition, *, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.02)


def status_of(url):
    try:
        with urllib.request.urlopen(url, timeout=120) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def text_of(url):
    """What is there, or what is said of why it is not."""
    try:
        with urllib.request.urlopen(url, timeout=120) as response:
            return response.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()


def post(url, body):
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    return urllib.request.urlopen(request, timeout=120)


@contextmanager
def asking(url, body):
    """Yields the connection of a client that has its place; without a body, one that keeps its body back."""
    with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)) as connection:
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body or "{}"))}
        connection.request("POST", "/ask", body, headers)
        wait_until(lambda: "ragserve_requests_in_flight 1\n" in text_of(f"{url}/metrics"))
        yield connection


def rest_of(response):
    """What still came until the server hung up."""
    try:
        return response.read()
    except (http.client.IncompleteRead, ConnectionError) as error:
        return getattr(error, "partial", b"")


def test_help_imports_nothing_heavy():
    script = (
        "import sys\nfrom ragserve.cli import main\nmain(sys.argv[1:])\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    for arguments in (["--help"], ["query", "--help"], ["config"]):
        done = run([sys.executable, "-c", script], *arguments)
        assert done.returncode == 0
        imported = HEAVY & set(done.stderr.split())
        assert imported <= ({"pydantic"} if arguments != ["--help"] else set())  # typer reads flags with it


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error(unbuffered):
    process = subprocess.Popen(
        [*RAGSERVE, "config"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 0


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="only Linux has pipes of a size one can set")
def test_an_interrupted_command_says_nothing_and_ends_with_130(tmp_path):
    process = subprocess.Popen(
        [*RAGSERVE, "query", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, 4096)
    process.stdin.write("why? " * 2_000)  # more than fits into the pipe: this ends when it has begun to read
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["query", "eval"])
def test_ctrl_c_ends_a_command_that_keeps_nothing_at_once_even_while_a_model_is_loaded(
    index, tmp_path, command
):
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"question": QUESTION}))
    asked = {"query": QUESTION, "eval": str(questions)}[command]
    process = subprocess.Popen(
        [*WITH_FAKES, command, asked, "--index", str(index)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LOADS_FOR_EVER": "1"},
    )
    try:
        assert process.stderr.readline() == "loading\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (130, "", "")


def test_what_was_printed_before_ctrl_c_is_there_and_printed_once():
    script = (
        "import signal\nfrom ragserve.cli.exits import ending_on_sigint\n"
        "with ending_on_sigint():\n    print('half an ', end='')\n    signal.raise_signal(signal.SIGINT)\n"
        "    print('answer')"
    )
    done = run([sys.executable, "-c", script])
    assert (done.returncode, done.stdout, done.stderr) == (130, "half an ", "")


def test_json_is_all_that_stdout_has_even_in_a_terminal_that_knows_only_ascii(index, tmp_path):
    done = run(
        WITH_FAKES,
        *("query", "Où est le pont Lantern?", "--index", str(index), "--json"),
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["question"] == "Où est le pont Lantern?"
    plain = run(
        WITH_FAKES,
        *("search", "pont Lantern", "--index", str(index)),
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert plain.returncode == 0


def test_a_question_that_is_no_valid_text_is_asked_all_the_same(index):
    command = [*WITH_FAKES, "query", b"Who designed the \xff bridge?", "--index", str(index), "--json"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["question"] == "Who designed the ? bridge?"


def test_the_server_streams_in_order(index):
    with serving(index) as (_, url), post(f"{url}/ask", {"question": QUESTION, "stream": True}) as response:
        names = [
            line.split()[1] for line in response.read().decode().splitlines() if line.startswith("event")
        ]
    assert names[0] == "retrieval"
    assert names[-1] == "final"
    assert set(names[1:-1]) == {"token"}


def test_the_example_clients_talk_to_a_server(index):
    examples = HERE.parents[1] / "examples"
    with serving(index) as (_, url):
        client = run([sys.executable, str(examples / "http_client.py")], "--url", url, "--question", QUESTION)
        streaming = run([sys.executable, str(examples / "streaming.py")], "--url", url, QUESTION)
    assert client.returncode == 0, client.stderr
    assert "Mara Ellison designed the Lantern bridge in 1931. [1]" in client.stdout
    assert "bridge.md, line 3: 'Mara Ellison designed" in client.stdout
    assert "A mistake: invalid-request: " in client.stdout
    assert "Did you mean question?" in client.stdout
    assert streaming.returncode == 0, streaming.stderr
    assert "Mara Ellison designed the Lantern bridge in 1931. [1]\n1 citations" in streaming.stdout


def test_a_running_server_sees_what_another_process_has_ingested_in_its_next_search(index, corpus):
    with serving(index) as (_, url):
        found = json.load(post(f"{url}/search", {"query": "zeppelin hangar"}))
        assert all("zeppelin" not in hit["chunk"]["text"] for hit in found["hits"])
        (corpus / "airship.txt").write_text("The zeppelin hangar is open on Sundays.\n")
        assert run(WITH_FAKES, "ingest", str(corpus), "--index", str(index), "--jobs", "1").returncode == 0
        found = json.load(post(f"{url}/search", {"query": "zeppelin hangar"}))
        assert "zeppelin" in found["hits"][0]["chunk"]["text"]


def test_a_deleted_file_is_gone_from_a_running_server_with_the_first_search_after_the_ingest(index, corpus):
    question = {"query": "Herons nest by the pond every spring", "k": 3}
    with serving(index) as (_, url):
        found = json.load(post(f"{url}/search", question))
        num_chunks = len(found["hits"])
        assert "Herons" in found["hits"][0]["chunk"]["text"]
        (corpus / "garden.txt").unlink()
        flags = ("--index", str(index), "--jobs", "1", "--prune")
        assert run(WITH_FAKES, "ingest", str(corpus), *flags).returncode == 0
        found = json.load(post(f"{url}/search", question))  # the very question whose answer was cached
        assert 0 < len(found["hits"]) <= num_chunks
        assert not [hit for hit in found["hits"] if hit["chunk"]["uri"].endswith("garden.txt")]


def test_sigterm_finishes_what_has_begun_takes_nothing_new_and_ends_with_0(index, tmp_path):
    go_on = tmp_path / "go on"
    environ = {"GO_ON": str(go_on), "RAGSERVE_SERVER_DRAIN_SECONDS": "600"}
    with serving(index, environ=environ) as (process, url):
        response = post(f"{url}/ask", {"question": QUESTION, "stream": True})
        assert response.readline() == b"event: retrieval\n"
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: status_of(f"{url}/readyz") == 503)
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(f"{url}/ask", {"question": QUESTION})
        assert refused.value.code == 503
        assert json.load(refused.value)["error"]["code"] == "server-draining"
        go_on.touch()
        rest = response.read().decode()
        assert "event: final" in rest
        assert process.wait(120) == 0
        assert "Traceback" not in process.stderr.read()


def test_sigterm_does_not_wait_longer_than_it_may(index):
    environ = {"SECONDS_PER_TOKEN": "3", "RAGSERVE_SERVER_DRAIN_SECONDS": "0.3"}  # 27 seconds an answer
    with serving(index, environ=environ) as (process, url):
        response = post(f"{url}/ask", {"question": QUESTION, "stream": True})
        assert response.readline() == b"event: retrieval\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
        assert b"event: final" not in rest_of(response)
        assert "Traceback" not in process.stderr.read()


def test_who_has_no_answer_when_the_time_is_up_is_told_to_come_back(index):
    with serving(index, environ={"RAGSERVE_SERVER_DRAIN_SECONDS": "0.3"}) as (process, url):
        with asking(url, None) as silent:
            process.send_signal(signal.SIGTERM)
            response = silent.getresponse()
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            assert json.load(response)["error"]["code"] == "server-draining"
        assert process.wait(120) == 0
        assert "Traceback" not in process.stderr.read()


def test_an_idle_server_ends_at_once_by_either_signal(index):
    for sent, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        with serving(index) as (process, _):
            process.send_signal(sent)
            assert process.wait(120) == code
            assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_server_that_is_told_to_end_before_it_serves_ends_as_it_would_later(index, sent, code):
    command = [*WITH_FAKES, "serve", "--index", str(index), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "{\n"  # it listens; the signal comes at any moment from now on
        process.send_signal(sent)
        _, err = process.communicate(timeout=120)
    assert process.returncode == code
    assert "Traceback" not in err


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_server_that_is_told_to_end_does_not_wait_for_its_models(index, sent, code):
    with serving(index, environ={"LOADS_FOR_EVER": "1"}, until="/healthz") as (process, _):
        process.send_signal(sent)
        assert process.wait(120) == code
        assert "Traceback" not in process.stderr.read()


def test_a_second_signal_ends_a_server_at_once_that_waits_for_its_models(index):
    environ = {"LOADS_FOR_EVER": "1", "RAGSERVE_SERVER_DRAIN_SECONDS": "600"}
    with serving(index, environ=environ, until="/healthz") as (process, url):
        with asking(url, json.dumps({"question": QUESTION})):
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: "server-draining" in text_of(f"{url}/readyz"))
            process.send_signal(signal.SIGINT)
            assert process.wait(120) == 130
        assert "Traceback" not in process.stderr.read()


def test_two_servers_cannot_have_one_port(index):
    with serving(index) as (_, url):
        port = url.rpartition(":")[2]
        done = run(WITH_FAKES, "serve", "--index", str(index), "--port", port, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "port-in-use"


def test_a_client_that_hangs_up_frees_its_place(index, tmp_path):
    environ = {"GO_ON": str(tmp_path / "never"), "RAGSERVE_SERVER_MAX_REQUESTS": "1"}
    with serving(index, environ=environ) as (_, url):
        response = post(f"{url}/ask", {"question": QUESTION, "stream": True})
        assert response.readline() == b"event: retrieval\n"
        response.close()

        def free():
            try:
                return post(f"{url}/search", {"query": "bridge"}).status == 200
            except urllib.error.HTTPError:
                return False

        wait_until(free)


def test_many_clients_at_once_all_get_their_answers(index):
    outcomes = []

    def ask(number):
        with post(f"{url}/ask", {"question": QUESTION, "stream": number % 2 == 0}) as response:
            outcomes.append("Mara Ellison" in response.read().decode())

    with serving(index, environ={"SECONDS_PER_TOKEN": "0.002"}) as (_, url):
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert outcomes == [True] * 32


# --- watching


def test_watch_follows_changes_goes_on_after_a_failure_and_ends_quietly_with_ctrl_c(home, corpus):
    process = subprocess.Popen(
        [
            *WITH_FAKES,
            "ingest",
            "corpus",
            "--watch",
            "--prune",
            "--poll-seconds",
            "0.1",
            "--jobs",
            "1",
            "--json",
        ],
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def next_report():
        return json.loads(process.stdout.readline())

    try:
        assert next_report()["unchanged"] == 3
        (corpus / "empty.txt").touch()
        report = next_report()
        assert [Path(failure["uri"]).name for failure in report["failed"]] == ["empty.txt"]
        (corpus / "lamp.txt").write_text("The lamp is lit at dusk.\n")
        (corpus / "garden.txt").unlink()
        report = next_report()
        while not (report["indexed"] and report["removed"]):  # the two may be seen one after the other
            seen = report
            report = next_report()
            report = {**report, **{key: report[key] + seen[key] for key in ("indexed", "removed")}}
        assert (report["indexed"], report["removed"], len(report["failed"])) == (1, 1, 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 0
    finally:
        process.kill()
        process.communicate(timeout=120)
