"""From Python: ingest a folder, search it, ask it, and check that a quote is what the document says.

python examples/python_api.py
"""

from __future__ import annotations

from pathlib import Path

from ragserve import Citation, Pipeline

HERE = Path(__file__).parent


def place(citation: Citation) -> str:
    """Where the quote stands: PDFs and slides have pages, text and code have lines, some have neither."""
    name = Path(citation.uri).name
    if citation.page is not None:
        return f"{name}, page {citation.page}"
    if citation.lines is not None:
        first, last = citation.lines
        return f"{name}, line {first}" if first == last else f"{name}, lines {first}-{last}"
    return name


def main() -> None:
    with Pipeline.open(HERE / ".ragserve") as pipeline:
        report = pipeline.ingest([HERE / "corpus"])
        print(f"{report.indexed} files indexed, {report.unchanged} unchanged, {len(report.failed)} failed")
        for failure in report.failed:
            print(f"  {failure.uri}: {failure.reason} {failure.hint}")

        print("\nThe two passages nearest to 'mooring line':")
        for hit in pipeline.search("mooring line", k=2).hits:
            print(f"  {hit.rank}. {Path(hit.chunk.uri).name}, score {hit.score:.3f}")

        answer = pipeline.ask("At what mean wind does the Wagtail stop sailing?")
        print(f"\n{answer.text}" if answer.supported else f"\nNot in the documents: {answer.text}")
        for citation in answer.citations:
            document = pipeline.index.document_text(citation.document_id)
            verbatim = document[citation.start : citation.end] == citation.quote
            print(f"  [{citation.mark}] {place(citation)}, verbatim: {verbatim}")
            print(f"      {citation.quote!r}")

        many = pipeline.search_batch(["Who is the cat?", "How much is a return ticket?"], k=1)
        print(
            "\nNearest file to each of two questions:", [Path(found.hits[0].chunk.uri).name for found in many]
        )


if __name__ == "__main__":
    main()
