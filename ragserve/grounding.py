"""From a generator's evidence to citations: passage offsets become document offsets, and each is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from indexer.errors import IndexerError
from indexer.lines import lines_between
from ragserve.answers import Citation

if TYPE_CHECKING:
    from generator.types import AnswerSpan
    from retriever.types import Hit


def cite(
    spans: Iterable[AnswerSpan], hits: Sequence[Hit], document_text: Callable[[str], str]
) -> tuple[tuple[Citation, ...], int]:
    """Returns the citations that hold, without repeats and in the order given, and how many did not hold.

    A span holds when it lies inside its passage and the document has the same text at the mapped offsets. A
    document that was replaced since retrieval fails the check, as it should: what it says has changed.
    """
    by_id = {hit.chunk.id: hit for hit in hits}
    texts: dict[str, str | None] = {}
    citations: dict[Citation, None] = {}
    num_dropped = 0
    for span in spans:
        hit = by_id.get(span.passage_id)
        citation = None
        if hit is not None:
            if hit.chunk.document_id not in texts:
                texts[hit.chunk.document_id] = _text_or_none(hit.chunk.document_id, document_text)
            citation = _citation(span, hit, texts[hit.chunk.document_id])
        if citation is None:
            num_dropped += 1
        else:
            citations[citation] = None
    return tuple(citations), num_dropped


def _citation(span: AnswerSpan, hit: Hit, document: str | None) -> Citation | None:
    chunk = hit.chunk
    if document is None or not 0 <= span.start < span.end <= len(chunk.text):
        return None
    quote = chunk.text[span.start : span.end]
    start, end = chunk.start + span.start, chunk.start + span.end
    if document[start:end] != quote:
        return None
    # Of a longer passage, the chunk in which the quote begins, or that it follows: it knows the page.
    part = next((part for part in reversed(hit.parts) if part.start <= start), None)
    return Citation(
        mark=hit.rank,
        chunk_id=part.chunk_id if part is not None else chunk.id,
        document_id=chunk.document_id,
        uri=chunk.uri,
        page=part.page if part is not None else chunk.page,
        quote=quote,
        start=start,
        end=end,
        other_uris=chunk.other_uris,
        lines=lines_between(document, start, end) if chunk.lines is not None else None,
    )


def _text_or_none(document_id: str, document_text: Callable[[str], str]) -> str | None:
    try:
        return document_text(document_id)
    except IndexerError:  # deleted since it was retrieved: nothing left to quote
        return None
