"""Over HTTP, with nothing but the standard library: ask a question, search, and see how an error looks.

ragserve serve --index examples/.ragserve &
python examples/http_client.py
"""

from __future__ import annotations

import argparse
import json
import urllib.error
import urllib.request
from typing import Any


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """Returns the JSON that the server answers, be it a result or {"error": {"code", "message", "hint"}}."""
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        return json.load(error)


def place(citation: dict[str, Any]) -> str:
    """Where the quote stands: PDFs and slides have pages, text and code have lines, some have neither."""
    if citation["page"] is not None:
        return f"{citation['uri']}, page {citation['page']}"
    if citation["lines"] is not None:
        first, last = citation["lines"]
        return (
            f"{citation['uri']}, line {first}"
            if first == last
            else f"{citation['uri']}, lines {first}-{last}"
        )
    return citation["uri"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a running server.")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--question", default="At what mean wind does the Wagtail stop sailing?")
    arguments = parser.parse_args()

    answer = post(f"{arguments.url}/ask", {"question": arguments.question, "k": 5})
    print(answer["answer"], "" if answer["supported"] else "(not supported by the documents)")
    for citation in answer["citations"]:
        print(f"  [{citation['mark']}] {place(citation)}: {citation['quote']!r}")

    found = post(f"{arguments.url}/search", {"query": "mooring line", "k": 2, "filters": {"kinds": ["code"]}})
    print("\nNearest code:", [hit["chunk"]["uri"] for hit in found["hits"]])

    error = post(f"{arguments.url}/ask", {"questoin": "?"})["error"]
    print(f"\nA mistake: {error['code']}: {error['message']} {error['hint']}")


if __name__ == "__main__":
    main()
