"""Resident memory of `ragserve serve` with the embedded defaults, after every example question was asked.

    python benchmarks/serve_footprint.py

The floor that it is compared with is a Python process that has imported the same libraries and done nothing:
what is above it is the models, the index, and ours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serving import CORPUS, ingest, post, read_questions, running_server

LIMIT_BYTES = 1_200_000_000
_FLOOR = """
import os
import faiss, sentence_transformers, torch, transformers, uvicorn, fastapi
from transformers import BertModel
print(open(f"/proc/{os.getpid()}/status").read())
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the memory of a server.")
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--rounds", type=int, default=3, help="how often each question is asked")
    parser.add_argument("--clients", type=int, default=4, help="how many ask at the same time")
    arguments = parser.parse_args()
    questions = read_questions() * arguments.rounds
    with tempfile.TemporaryDirectory() as folder:
        ingest(Path(folder), arguments.corpus)
        with running_server(Path(folder)) as server:
            at_start = memory(server.pid)
            with ThreadPoolExecutor(arguments.clients) as clients:
                for question in questions:
                    clients.submit(post, f"{server.url}/ask", {"question": question})
            after = memory(server.pid)
    floor = parse_status(subprocess.check_output([sys.executable, "-c", _FLOOR], text=True))
    report(at_start, after, floor, num_questions=len(questions))
    return 0 if after["VmRSS"] <= LIMIT_BYTES else 1


def memory(pid: int) -> dict[str, int]:
    """Returns bytes by the kernel's names, of a process and of all that it has started."""
    total: dict[str, int] = {}
    for member in [pid, *_descendants(pid)]:
        for name, value in parse_status(Path(f"/proc/{member}/status").read_text()).items():
            total[name] = total.get(name, 0) + value
    return total


def parse_status(text: str) -> dict[str, int]:
    wanted = {"VmRSS", "VmHWM", "RssAnon", "RssFile"}
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name: int(value.split()[0]) * 1024 for name, value in pairs if name in wanted}


def report(
    at_start: dict[str, int], after: dict[str, int], floor: dict[str, int], *, num_questions: int
) -> None:
    print(f"imported libraries alone   {megabytes(floor['VmRSS'])}")
    print(f"server, ready              {megabytes(at_start['VmRSS'])}")
    print(f"server, {num_questions:>4} questions     {megabytes(after['VmRSS'])}")
    print(f"  peak                     {megabytes(after['VmHWM'])}")
    print(f"  anonymous                {megabytes(after['RssAnon'])}")
    print(f"  mapped files             {megabytes(after['RssFile'])}")
    verdict = "within" if after["VmRSS"] <= LIMIT_BYTES else "ABOVE"
    print(f"limit                      {megabytes(LIMIT_BYTES)}   {verdict}")
    print(f"times the libraries alone  {after['VmRSS'] / floor['VmRSS']:8.2f}")
    print(
        json.dumps(
            {
                "benchmark": "serve_footprint",
                "rss_bytes": after["VmRSS"],
                "peak_bytes": after["VmHWM"],
                "rss_at_start_bytes": at_start["VmRSS"],
                "floor_bytes": floor["VmRSS"],
                "limit_bytes": LIMIT_BYTES,
                "questions": num_questions,
                "cpus": os.cpu_count(),
            }
        )
    )


def megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:8,.0f} MB"


def _descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [member for child in map(int, children) for member in (child, *_descendants(child))]


if __name__ == "__main__":
    sys.exit(main())
