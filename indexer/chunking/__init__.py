"""Structure-aware chunking: split what is too long, merge what is small, keep exact offsets."""

from indexer.chunking.chunker import CHUNKER_VERSION, chunk_document
from indexer.chunking.values import ChunkDraft, embedding_text

__all__ = ["CHUNKER_VERSION", "ChunkDraft", "chunk_document", "embedding_text"]
