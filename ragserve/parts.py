"""Which concrete parts the settings mean."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from generator.generator import READER
from ragserve.errors import InvalidSetting

if TYPE_CHECKING:
    from generator.generator import Generator
    from indexer.embedding import Embedder
    from indexer.embedding_cache import EmbeddingCache
    from indexer.image_embedding import ImageEmbedder
    from indexer.index import Index
    from indexer.parsers import ParseOptions
    from indexer.vector_settings import VectorSettings
    from indexer.worker_values import ParseLimits
    from ragserve.settings import CacheSettings, ParsingSettings, ServerSettings, Settings
    from retriever import BatchPrefetcher, Reranker, RetrievalCache, Retriever

_READER_SLOTS = 2


def open_embedder(settings: Settings) -> Embedder:
    """Returns the embedder that the settings name; its weights are read when it first embeds."""
    from indexer.embedding import SentenceTransformerEmbedder

    return SentenceTransformerEmbedder(settings.embedder, device=settings.device, dtype=settings.dtype)


def open_image_embedder(settings: Settings) -> ImageEmbedder | None:
    """Returns the model that embeds pictures, if one is named; its weights are read when first used."""
    if settings.image_embedder is None:
        return None
    from indexer.image_embedding import ImageEmbedder

    return ImageEmbedder(settings.image_embedder, device=settings.device, dtype=settings.dtype)


def open_embedding_cache(settings: Settings) -> EmbeddingCache | None:
    """Returns the cache of vectors that the settings name; its file is opened when it is first used."""
    from indexer.embedding_cache import EmbeddingCache

    if settings.embedding_cache is None:
        return None
    return EmbeddingCache(settings.embedding_cache, max_bytes=settings.embedding_cache_bytes)


def vector_settings(settings: Settings) -> VectorSettings:
    """Returns when searching vectors may stop comparing all of them."""
    from indexer.vector_settings import VectorSettings

    return VectorSettings(exact_chunks=settings.exact_chunks, recall_target=settings.recall_target)


def parse_options(settings: ParsingSettings, *, password: str | None = None) -> ParseOptions:
    """Returns the parsers' options; raises InvalidSetting when the password file cannot be read.

    A `password` takes the place of the one in the file.
    """
    from indexer.parsers import ParseOptions

    names = {field.name for field in fields(settings)} & {field.name for field in fields(ParseOptions)}
    if password is None and settings.password_file:
        password = _first_line(settings.password_file)
    return ParseOptions(**{name: getattr(settings, name) for name in names}, password=password)


def parse_limits(settings: ParsingSettings) -> ParseLimits:
    """Returns what the process that reads a file may take."""
    from indexer.worker_values import ParseLimits

    return ParseLimits(seconds=settings.timeout_s, max_memory_bytes=settings.max_memory_bytes)


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            line = file.readline(4096).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InvalidSetting(
            f"The password file {path} cannot be read: {reason}.", hint="Name a text file that you may read."
        ) from error
    if not line:
        raise InvalidSetting(
            f"The first line of the password file {path} is empty.", hint="Write the password there."
        )
    return line


def open_retriever(
    index: Index,
    embedder: Embedder,
    settings: Settings,
    *,
    image_embedder: ImageEmbedder | None = None,
    read_only: bool = False,
) -> Retriever:
    """Returns the retriever over an index, for the caller to close. Raises what `open_reranker` raises."""
    from retriever import RetrievalSettings, Retriever
    from retriever.cache_file import CACHE_FILE

    names = {field.name for field in fields(settings.ranking)} & {f.name for f in fields(RetrievalSettings)}
    ranking = RetrievalSettings(**{name: getattr(settings.ranking, name) for name in names})
    keep = settings.cache.persist and not read_only
    return Retriever(
        index,
        embedder,
        settings=ranking,
        cache=open_cache(settings.cache),
        cache_file=index.folder / CACHE_FILE if keep else None,
        reranker=open_reranker(settings, embedder),
        image_embedder=image_embedder,
    )


def open_cache(settings: CacheSettings) -> RetrievalCache:
    """Returns the empty cache that the settings describe."""
    from retriever import RetrievalCache

    options = {field.name: getattr(settings, field.name) for field in fields(settings)}
    del options["persist"]
    return RetrievalCache(**options)


def open_reranker(settings: Settings, embedder: Embedder) -> Reranker | None:
    """Returns what reranks; weights of its own are read when it is first used.

    Raises RerankerNotFound, and InvalidRetrievalSettings for an embedder without token vectors.
    """
    match settings.ranking.rerank:
        case "late-interaction":
            from retriever import LateInteractionReranker

            return LateInteractionReranker(embedder, max_bytes=settings.ranking.rerank_cache_bytes)
        case "cross-encoder":
            from retriever import CrossEncoderReranker

            assert settings.ranking.rerank_model is not None  # the settings have checked it
            return CrossEncoderReranker(
                settings.ranking.rerank_model, device=settings.device, dtype=settings.dtype
            )
        case _:
            return None


def open_batcher(retriever: Retriever, settings: ServerSettings) -> BatchPrefetcher:
    """Returns what groups the searches of many threads; the caller closes it."""
    from retriever import BatchPrefetcher

    return BatchPrefetcher(
        retriever,
        batch_size=settings.search_batch_size,
        max_wait_ms=settings.search_wait_ms,
        num_workers=settings.search_workers,
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
        quantization=settings.quantization,
    )


def generation_slots(settings: Settings) -> int:
    """Returns how many answers may be in the making at once.

    The reader computes on the thread that asks, so more than a few only slow each other down. A checkpoint's
    threads merely wait for the engine, which batches whatever is there.
    """
    if settings.server.generation_slots is not None:
        return settings.server.generation_slots
    return _READER_SLOTS if settings.generator == READER else settings.server.max_requests
