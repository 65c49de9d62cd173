"""What can go wrong with an embedding model."""

from __future__ import annotations

from indexer.errors import IndexerError


class ModelNotFound(IndexerError):
    """There is no such folder, and no such model in the hub or, offline, in its cache."""

    code = "embedder-not-found"


class NotAnEmbedder(IndexerError):
    """The folder or hub model is there, but is no complete sentence-transformers model."""

    code = "not-an-embedder"


class NotAnImageEmbedder(IndexerError):
    """The folder or hub model is there, but does not embed both pictures and texts."""

    code = "not-an-image-embedder"


class WeightsMismatch(IndexerError):
    """The default model's weights are not the ones that were published."""

    code = "embedder-weights-mismatch"


class EmbeddingFailed(IndexerError):
    """The model loaded, but what it computes is no embedding."""

    code = "embedding-failed"


class DeviceUnavailable(IndexerError):
    """The device asked for is not there."""

    code = "device-unavailable"
