"""64 clients stream answers from `ragserve serve` at the same time: errors, first tokens, throughput, memory.

    python benchmarks/serve_streams.py
    python benchmarks/serve_streams.py --shape qwen2.5-0.5b --clients 16

Twice: by the shipped reader, and by a checkpoint with random weights in a shape, whose answers have the
length asked for. All clients send their question together and, having its answer, the next one. Beside each
figure stands one client alone on the same server, and beside the checkpoint's rate what memory bandwidth
allows when every step serves all clients. What random weights say means nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from engine_setup import SHAPES, decode_ceiling, measure_ceilings, model_config, random_transformer
from serve_footprint import megabytes, memory
from serving import CORPUS, Server, ingest, percentile, read_questions, running_server

_SECONDS_BETWEEN_SCRAPES = 0.1


@dataclass
class Load:
    """What came of a number of clients that ask at the same time."""

    errors: list[str] = field(default_factory=list)
    first_token_s: list[float] = field(default_factory=list)
    num_answers: int = 0
    num_tokens: int = 0
    seconds: float = 0.0
    most_in_flight: int = 0
    most_waiting: int = 0  # sequences that the engine had no memory or place for

    def first_token_ms(self, share: float) -> float:
        return 1e3 * percentile(self.first_token_s or [math.nan], share)

    @property
    def tokens_per_s(self) -> float:
        return self.num_tokens / self.seconds

    @property
    def answers_per_s(self) -> float:
        return self.num_answers / self.seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2, help="questions that each client asks")
    parser.add_argument("--tokens", type=int, default=64, help="length of a checkpoint's answer")
    parser.add_argument("-k", type=int, default=3, help="passages of an answer")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.shape, arguments.dtype = "tiny", "float32"
        arguments.clients, arguments.rounds, arguments.tokens, arguments.k = 4, 1, 4, 1
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        index, model = Path(folder) / "index", Path(folder) / "model"
        ingest(index, CORPUS / "drafts" if arguments.quick else CORPUS)
        ceiling = save_random_checkpoint(model, arguments)
        print(f"{arguments.clients} clients, {arguments.rounds} questions each, {arguments.k} passages")
        for name, generator, ends_at in (("reader", "reader", None), ("checkpoint", model, arguments.tokens)):
            with environment(ends_at), running_server(index, *flags(generator, arguments)) as server:
                figures |= measure(name, server, arguments)
    print(f"checkpoint is {arguments.shape}, {arguments.dtype}; bandwidth allows {ceiling:,.0f} tokens/s")
    figures |= {
        "shape": arguments.shape,
        "dtype": arguments.dtype,
        "clients": arguments.clients,
        "rounds": arguments.rounds,
        "checkpoint_ceiling_tokens_per_second": ceiling,
        "cpus": os.cpu_count(),
    }
    print(json.dumps({"benchmark": "serve_streams", **figures}))
    return 1 if figures["reader_errors"] or figures["checkpoint_errors"] else 0


def flags(generator: str | Path, arguments: argparse.Namespace) -> list[str]:
    return ["--generator", str(generator), *([] if generator == "reader" else ["--dtype", arguments.dtype])]


@contextmanager
def environment(max_new_tokens: int | None) -> Iterator[None]:
    """Lets a server that is started now end its answers at a length; None: where they end by themselves."""
    if max_new_tokens is not None:
        os.environ["RAGSERVE_MAX_NEW_TOKENS"] = str(max_new_tokens)
    try:
        yield
    finally:
        os.environ.pop("RAGSERVE_MAX_NEW_TOKENS", None)


def save_random_checkpoint(folder: Path, arguments: argparse.Namespace) -> float:
    """Writes a model folder; returns the tokens a second that memory bandwidth allows for all clients."""
    import torch

    from generator.hardware import resolve_dtype
    from generator.training.model_folder import llama_config, save_model_folder
    from indexer.embedding import default_embedder_folder

    device = torch.device("cpu")
    dtype = resolve_dtype(arguments.dtype, device)
    tokenizer = default_embedder_folder()  # any will do; this one is always there
    changes = {"vocab_size": max(SHAPES[arguments.shape]["vocab_size"], 30522)}
    config = model_config(arguments.shape, max_positions=4096, **changes)
    model = random_transformer(config, device=device, dtype=dtype)
    folder.mkdir()
    save_model_folder(model, folder, config=llama_config(config), dtype=dtype, text_files_of=tokenizer)
    ceilings = measure_ceilings(device, dtype, quick=arguments.quick)
    return decode_ceiling(model, ceilings, num_tokens=1024, batch=arguments.clients)


def measure(name: str, server: Server, arguments: argparse.Namespace) -> dict[str, Any]:
    """One client alone, then all of them; prints both."""
    questions = read_questions()
    before = memory(server.pid)
    alone = asyncio.run(load(server, questions, num_clients=1, arguments=arguments))
    together = asyncio.run(load(server, questions, num_clients=arguments.clients, arguments=arguments))
    after = memory(server.pid)
    print(f"\n{name:<12} {'errors':>7} {'first p50':>10} {'p95':>10} {'tokens/s':>9} {'answers/s':>10}")
    for who, one in (("alone", alone), ("together", together)):
        print(
            f"{who:<12} {len(one.errors):>7} {one.first_token_ms(0.5):>7,.0f} ms "
            f"{one.first_token_ms(0.95):>7,.0f} ms {one.tokens_per_s:>9,.1f} {one.answers_per_s:>10,.2f}"
        )
    print(f"most requests in flight {together.most_in_flight}, waiting in the engine {together.most_waiting}")
    print(
        f"resident before {megabytes(before['VmRSS'])}, after {megabytes(after['VmRSS'])}, "
        f"peak {megabytes(after['VmHWM'])}"
    )
    for error in sorted(set(alone.errors + together.errors)):
        print(f"error: {error}")
    return {
        f"{name}_errors": len(alone.errors) + len(together.errors),
        f"{name}_alone_first_token_p50_ms": alone.first_token_ms(0.5),
        f"{name}_first_token_p50_ms": together.first_token_ms(0.5),
        f"{name}_first_token_p95_ms": together.first_token_ms(0.95),
        f"{name}_alone_tokens_per_second": alone.tokens_per_s,
        f"{name}_tokens_per_second": together.tokens_per_s,
        f"{name}_answers_per_second": together.answers_per_s,
        f"{name}_most_in_flight": together.most_in_flight,
        f"{name}_most_waiting": together.most_waiting,
        f"{name}_rss_before_bytes": before["VmRSS"],
        f"{name}_rss_after_bytes": after["VmRSS"],
        f"{name}_rss_peak_bytes": after["VmHWM"],
    }


async def load(
    server: Server, questions: Sequence[str], *, num_clients: int, arguments: argparse.Namespace
) -> Load:
    """Lets clients ask at the same time, each other questions than its neighbours."""
    found = Load()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=num_clients)
    async with httpx.AsyncClient(base_url=server.url, timeout=None, limits=limits) as client:

        async def one(number: int) -> None:
            for turn in range(arguments.rounds):
                question = questions[(number + turn * num_clients) % len(questions)]
                await ask(client, {"question": question, "k": arguments.k, "stream": True}, found)

        watching = asyncio.create_task(watch(client, found))
        started = time.perf_counter()
        await asyncio.gather(*(one(number) for number in range(num_clients)))
        found.seconds = time.perf_counter() - started
        watching.cancel()
    return found


async def ask(client: httpx.AsyncClient, body: dict[str, Any], found: Load) -> None:
    """Streams one answer into what was found."""
    started = time.perf_counter()
    first_token_s: float | None = None
    name, final = "", None
    try:
        async with client.stream("POST", "/ask", json=body) as response:
            if response.status_code != 200:
                found.errors.append((await response.aread()).decode())
                return
            async for line in response.aiter_lines():
                kind, _, value = line.partition(": ")
                if kind == "event":
                    name = value
                    if name == "token" and first_token_s is None:
                        first_token_s = time.perf_counter() - started
                elif kind == "data" and name == "final":
                    final = json.loads(value)
                elif kind == "data" and name == "error":
                    found.errors.append(value)
    except httpx.HTTPError as error:
        found.errors.append(f"{type(error).__name__}: {error}")
        return
    if final is None:
        found.errors.append("a stream ended without an answer")
        return
    found.first_token_s.append(first_token_s or time.perf_counter() - started)
    found.num_answers += 1
    found.num_tokens += final["usage"]["num_output_tokens"]


async def watch(client: httpx.AsyncClient, found: Load) -> None:
    """Keeps the highest figures of /metrics until it is cancelled."""
    while True:
        lines = (await client.get("/metrics")).text.splitlines()
        figures = dict(line.split() for line in lines if not line.startswith("#"))
        found.most_in_flight = max(found.most_in_flight, int(figures["ragserve_requests_in_flight"]))
        waiting = int(figures.get("ragserve_generator_waiting_sequences", 0))
        found.most_waiting = max(found.most_waiting, waiting)
        await asyncio.sleep(_SECONDS_BETWEEN_SCRAPES)


if __name__ == "__main__":
    raise SystemExit(main())
