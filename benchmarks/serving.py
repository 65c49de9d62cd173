"""What the serving benchmarks share: an index of the example corpus and a server on it."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
CORPUS = ROOT / "examples" / "corpus"
QUESTIONS = ROOT / "examples" / "questions_more.jsonl"
RAGSERVE = [sys.executable, "-m", "ragserve"]


class Server(NamedTuple):
    url: str
    pid: int
    seconds_to_ready: float


def read_questions(path: Path = QUESTIONS) -> list[str]:
    return [json.loads(line)["question"] for line in path.read_text(encoding="utf-8").splitlines() if line]


def ingest(index: Path, corpus: Path = CORPUS) -> None:
    command = [*RAGSERVE, "ingest", str(corpus), "--index", str(index), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
    if done.returncode > 1:
        raise SystemExit(done.returncode)


@contextmanager
def running_server(index: Path, *flags: str) -> Iterator[Server]:
    """Yields a server that is ready; ends it with SIGTERM."""
    started = time.perf_counter()
    command = [*RAGSERVE, "serve", "--index", str(index), "--port", "0", "--json", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        url = json.loads(read_document(process.stdout))["url"]
        while not _is_ready(url):
            if process.poll() is not None:
                raise SystemExit(f"the server ended with {process.returncode}")
            time.sleep(0.05)
        yield Server(url, process.pid, time.perf_counter() - started)
    finally:
        process.terminate()
        process.wait(60)


def read_document(stream: Any) -> str:
    """Returns the first JSON document of a stream that stays open."""
    text = ""
    for line in stream:
        text += line
        if line.rstrip() == "}":
            break
    return text


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    with urllib.request.urlopen(_request(url, body)) as response:
        return json.load(response)


def stream(url: str, body: dict[str, Any]) -> Iterator[tuple[float, str, dict[str, Any]]]:
    """Yields (seconds since the request, event name, data)."""
    started = time.perf_counter()
    name = ""
    with urllib.request.urlopen(_request(url, {**body, "stream": True})) as response:
        for line in response:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield time.perf_counter() - started, name, json.loads(value)


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _request(url: str, body: dict[str, Any]) -> urllib.request.Request:
    return urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz") as response:
            return response.status == 200
    except OSError:
        return False
