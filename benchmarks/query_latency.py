"""How long a question takes: warm in a server, cold from the shell, and `ragserve --help`.

    python benchmarks/query_latency.py

Warm retrieval is compared with the embedder alone on the same questions, one at a time, in the same run: no
retrieval can be faster. A cold query is taken apart into imports, loading, and the work itself.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from serving import RAGSERVE, Server, ingest, median, percentile, post, read_questions, running_server, stream

_PARTS = {
    "torch": ("torch",),
    "transformers": ("transformers", "tokenizers", "huggingface_hub"),
    "sentence_transformers": ("sentence_transformers", "sklearn", "scipy"),
    "faiss and numpy": ("faiss", "numpy"),
    "ours": ("ragserve", "indexer", "retriever", "generator"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the latency of questions.")
    parser.add_argument("--rounds", type=int, default=5, help="how often each question is asked")
    parser.add_argument("--cold-runs", type=int, default=5)
    arguments = parser.parse_args()
    questions = read_questions()
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder)
        ingest(index)
        figures = help_time(arguments.cold_runs) | cold(index, questions[0], arguments.cold_runs)
        with running_server(index) as server:
            figures |= warm(server, questions, arguments.rounds)
    print(json.dumps({"benchmark": "query_latency", "cpus": os.cpu_count(), **figures}))
    return 0


# --- the shell


def help_time(runs: int) -> dict[str, float]:
    nothing = median([_timed([sys.executable, "-c", "pass"]) for _ in range(runs)])
    seconds = median([_timed([*RAGSERVE, "--help"]) for _ in range(runs)])
    print(f"ragserve --help      {seconds * 1000:7.0f} ms   (python {nothing * 1000:.0f} ms, limit 300 ms)")
    return {"help_seconds": round(seconds, 4), "python_seconds": round(nothing, 4)}


def cold(index: Path, question: str, runs: int) -> dict[str, float]:
    command = [*RAGSERVE, "query", question, "--index", str(index), "--json"]
    seconds = median([_timed(command) for _ in range(runs)])
    answer = json.loads(subprocess.check_output(command, text=True))
    imports = import_seconds(command)
    print(f"ragserve query, cold {seconds * 1000:7.0f} ms")
    for part, value in sorted(imports.items(), key=lambda item: -item[1]):
        print(f"  import {part:<22} {value * 1000:7.0f} ms")
    for part, value in answer["timings"].items():
        print(f"  {part:<29} {value * 1000:7.0f} ms")
    return {
        "cold_query_seconds": round(seconds, 3),
        **{
            f"cold_import_{part.replace(' ', '_')}_seconds": round(value, 3)
            for part, value in imports.items()
        },
        **{f"cold_{part}_seconds": round(value, 3) for part, value in answer["timings"].items()},
    }


def import_seconds(command: list[str]) -> dict[str, float]:
    """Returns the time that importing took, by library; measuring slows imports down by about a tenth."""
    timed = [command[0], "-X", "importtime", *command[1:]]
    log = subprocess.run(timed, capture_output=True, text=True, check=True).stderr
    seconds = dict.fromkeys([*_PARTS, "others"], 0.0)
    for self_microseconds, module in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", log):
        top = module.partition(".")[0]
        part = next((name for name, tops in _PARTS.items() if top in tops), "others")
        seconds[part] += int(self_microseconds) / 1e6
    return seconds


def _timed(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


# --- the server


def warm(server: Server, questions: list[str], rounds: int) -> dict[str, float]:
    print(f"server ready after   {server.seconds_to_ready * 1000:7.0f} ms")
    retrieval = []
    for _ in range(rounds):
        for question in questions:
            started = time.perf_counter()
            post(f"{server.url}/search", {"query": question, "use_cache": False})
            retrieval.append(time.perf_counter() - started)
    floor = embedder_alone(questions)
    first_token, rates, totals = [], [], []
    for question in questions:
        for seconds, name, data in stream(f"{server.url}/ask", {"question": question, "use_cache": False}):
            if name == "token" and len(first_token) == len(totals):
                first_token.append(seconds)
            elif name == "final":
                totals.append(seconds)
                rates.append(data["usage"]["num_output_tokens"] / max(data["timings"]["generation"], 1e-9))
    p50, p95 = percentile(retrieval, 0.5), percentile(retrieval, 0.95)
    print(f"retrieval, warm      p50 {p50 * 1000:.1f} ms   p95 {p95 * 1000:.1f} ms   (n = {len(retrieval)})")
    print(f"  the embedder alone p50 {floor * 1000:.1f} ms   ratio {p50 / floor:.2f}")
    print(f"time to first token  p50 {percentile(first_token, 0.5) * 1000:.0f} ms")
    print(f"whole answer         p50 {percentile(totals, 0.5) * 1000:.0f} ms   {median(rates):.0f} tokens/s")
    return {
        "ready_seconds": round(server.seconds_to_ready, 3),
        "retrieval_p50_seconds": round(p50, 5),
        "retrieval_p95_seconds": round(p95, 5),
        "embedder_alone_p50_seconds": round(floor, 5),
        "first_token_p50_seconds": round(percentile(first_token, 0.5), 4),
        "answer_p50_seconds": round(percentile(totals, 0.5), 4),
        "tokens_per_second": round(median(rates), 1),
    }


def embedder_alone(questions: list[str]) -> float:
    from indexer.embedding import SentenceTransformerEmbedder

    embedder = SentenceTransformerEmbedder()
    embedder.embed_queries(questions[:1])
    seconds = []
    for question in questions:
        started = time.perf_counter()
        embedder.embed_queries([question])
        seconds.append(time.perf_counter() - started)
    return median(seconds)


if __name__ == "__main__":
    sys.exit(main())
