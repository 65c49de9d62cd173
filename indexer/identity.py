"""The names that things get from their content: documents, chunks and embeddings."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from indexer.parsers.formats import name_in_document

if TYPE_CHECKING:
    from indexer.chunking import ChunkDraft
    from indexer.embedding import Embedder

_ID_DIGITS = 32  # hex digits of an id: 128 bits, so that accidents do not happen


def content_key(sha256: bytes, name: str) -> bytes:
    """What makes two files the same document: equal bytes, and names that say the same about them."""
    return _digest(b"content", sha256, name_in_document(name).encode("utf-8", "surrogatepass"))


def document_id(key: bytes, attempt: int) -> str:
    """The id of a document that is first seen with this content.

    It outlives the content, so it may be taken when the content turns up again: then comes the next attempt.
    """
    return _digest(b"document", key, str(attempt).encode()).hex()[:_ID_DIGITS]


def chunk_ids(document: str, text: str, drafts: Iterable[ChunkDraft]) -> list[str]:
    """One id a chunk, from what it says and where it belongs but not from where it starts.

    So it survives edits elsewhere in the document. Equal chunks of one document are told apart by counting.
    """
    seen: Counter[str] = Counter()
    ids = []
    for draft in drafts:
        body = text[draft.start : draft.end]
        content = json.dumps([document, draft.kind, draft.heading_path, body])
        ids.append(_digest(b"chunk", content.encode(), str(seen[content]).encode()).hex()[:_ID_DIGITS])
        seen[content] += 1
    return ids


def embedding_key(embedder_fingerprint: str, text: str) -> bytes:
    """Under what a text's vector is kept."""
    return _digest(b"embedding", embedder_fingerprint.encode(), text.encode("utf-8", "surrogatepass"))


def embedder_label(embedder: Embedder) -> str:
    """What to call an embedder in front of people: its name, if it has one, and its fingerprint."""
    name = getattr(embedder, "name", "")
    return f"{name} ({embedder.fingerprint})" if name else embedder.fingerprint


def fingerprint(parts: Sequence[str]) -> str:
    """A short name for a combination of versions and options."""
    return _digest(b"fingerprint", *(part.encode() for part in parts)).hex()[:_ID_DIGITS]


def _digest(*parts: bytes) -> bytes:
    """sha256 of the parts, each preceded by its length so that none can run into the next."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()
