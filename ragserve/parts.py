"""Which concrete parts the settings mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from generator.generator import READER
from ragserve.errors import InvalidSetting

if TYPE_CHECKING:
    from generator.generator import Generator
    from indexer.embedding import Embedder
    from indexer.index import Index
    from ragserve.settings import ServerSettings, Settings
    from retriever import BatchPrefetcher, Retriever


def open_embedder(settings: Settings) -> Embedder:
    """Returns the embedder that the settings name; its weights are read when it first embeds."""
    from indexer.embedding import SentenceTransformerEmbedder

    return SentenceTransformerEmbedder(settings.embedder, device=settings.device, dtype=settings.dtype)


def open_retriever(index: Index, embedder: Embedder) -> Retriever:
    """Returns the retriever over an index."""
    from retriever import Retriever

    return Retriever(index, embedder)


def open_batcher(retriever: Retriever, settings: ServerSettings) -> BatchPrefetcher:
    """Returns what groups the searches of many threads; the caller closes it."""
    from retriever import BatchPrefetcher

    return BatchPrefetcher(
        retriever, batch_size=settings.search_batch_size, max_wait_ms=settings.search_wait_ms
    )


def open_generator(settings: Settings) -> Generator:
    """Loads the generator that the settings name; the reader shares the embedder's word embeddings."""
    from generator.generator import Generator

    embeddings_folder: Path | None = None
    if settings.generator == READER:
        if settings.adapter is not None:
            raise InvalidSetting(
                "An adapter was given, but the reader takes none.",
                hint="Name its base model: --generator MODEL.",
            )
        from indexer.embedding import default_embedder_folder

        embeddings_folder = default_embedder_folder()
    return Generator.load(
        settings.generator,
        device=settings.device,
        dtype=settings.dtype,
        embeddings_folder=embeddings_folder,
        adapter=settings.adapter,
    )
