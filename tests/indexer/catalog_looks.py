"""Short documents into a catalog, and what became of them."""

from __future__ import annotations

from store_fakes import HashingEmbedder

from indexer import catalog_reader
from indexer.catalog import Catalog
from indexer.catalog_writer import Conversion, SourceFile
from indexer.chunking import ChunkDraft
from indexer.identity import content_key, embedding_key
from indexer.types import Box, ParsedDocument


def conversion(text: str, *, name: str = "a.txt", context: str = "", version: str = "v1") -> Conversion:
    """One chunk a line."""
    drafts, position = [], 0
    for line in text.split("\n"):
        end = position + len(line)
        boxes = (Box(1, 0.0, 0.5, 10.0, 12.25),)
        drafts.append(ChunkDraft(position, end, 1, boxes, ("Title", "Überschrift"), "text", context))
        position = end + 1
    keys = [embedding_key("e", context + text[draft.start : draft.end]) for draft in drafts]
    document = ParsedDocument(text=text, blocks=(), title="Title", format="text", metadata={"author": "Ida"})
    return Conversion(content_key(text.encode(), name), version, document, drafts, keys)


def source(uri: str, *, size: int = 1, mtime_ns: int = 1) -> SourceFile:
    return SourceFile(uri, uri.encode(), size, mtime_ns, checked_ns=10**18)


def store(catalog: Catalog, uri: str, text: str, *, context: str = "", version: str = "v1") -> str:
    converted = conversion(text, context=context, version=version)
    with catalog.write() as writer:
        writer.set_meta("dimension", "32")
        texts = [context + text[draft.start : draft.end] for draft in converted.drafts]
        vectors = [HashingEmbedder.vector(body) for body in texts]
        writer.add_embeddings(dict(zip(converted.embedding_keys, vectors, strict=True)))
        return writer.store(source(uri), converted)


def generation(catalog: Catalog) -> int:
    with catalog.read() as connection:
        return catalog_reader.version(connection).generation


def chunks(catalog: Catalog) -> dict[str, tuple[int, str]]:
    """Number and id of each chunk, by text. Texts that occur twice are not for this."""
    with catalog.read() as connection:
        rows = connection.execute("SELECT text, rowid, id FROM chunks").fetchall()
    return {text: (number, id_) for text, number, id_ in rows}


def count(catalog: Catalog, table: str) -> int:
    with catalog.read() as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def ids_of(catalog: Catalog) -> list[str]:
    return [id_ for _, id_ in chunks(catalog).values()]
