"""Streaming: print an answer while it is made, from Python or from a running server.

python examples/streaming.py "Who is the cat?"
python examples/streaming.py --url http://127.0.0.1:8000 "Who is the cat?"
"""

from __future__ import annotations

import argparse
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragserve import FinalEvent, Pipeline, RetrievalEvent, TokenEvent

HERE = Path(__file__).parent


def from_python(question: str) -> None:
    with Pipeline.open(HERE / ".ragserve") as pipeline:
        pipeline.ingest([HERE / "corpus"])
        for event in pipeline.ask_stream(question):
            match event:
                case RetrievalEvent():
                    print(f"({len(event.result.hits)} passages)")
                case TokenEvent():
                    print(event.text, end="", flush=True)
                case FinalEvent():
                    print(f"\n{len(event.answer.citations)} citations, supported: {event.answer.supported}")


def from_server(url: str, question: str) -> None:
    for name, data in server_events(url, question):
        match name:
            case "retrieval":
                print(f"({len(data['hits'])} passages)")
            case "token":
                print(data["text"], end="", flush=True)
            case "final":
                print(f"\n{len(data['citations'])} citations, supported: {data['supported']}")
            case "error":
                print(f"\n{data['error']['message']} {data['error']['hint']}")


def server_events(url: str, question: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (name, data) of each server-sent event."""
    request = urllib.request.Request(
        f"{url}/ask",
        data=json.dumps({"question": question, "stream": True}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
        name = ""
        for line in response:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)


def main() -> None:
    parser = argparse.ArgumentParser(description="Print an answer while it is made.")
    parser.add_argument("question", nargs="?", default="Who is the cat?")
    parser.add_argument("--url", help="ask this server instead of opening the index here")
    arguments = parser.parse_args()
    if arguments.url:
        from_server(arguments.url, arguments.question)
    else:
        from_python(arguments.question)


if __name__ == "__main__":
    main()
