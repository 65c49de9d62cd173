"""The pictures of an ingest: which of them still need a vector, and the model that gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from indexer import image_vectors
from indexer.catalog import Catalog
from indexer.embedding_errors import EmbeddingFailed
from indexer.image_vectors import ImageVector, image_key
from indexer.types import Thumbnail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from indexer.catalog_writer import CatalogWriter

_UNIT_TOLERANCE = 1e-3


class PictureEmbedder(Protocol):
    """What an ingest needs of the model; indexer.image_embedding.ImageEmbedder is one."""

    name: str  # for people

    @property
    def fingerprint(self) -> str:
        """Vectors compare if and only if it is equal."""
        ...

    @property
    def dimension(self) -> int:
        """The width of a vector."""
        ...

    def embed_images(self, images: Sequence[Thumbnail]) -> np.ndarray:
        """(n, dimension) float32 unit rows."""
        ...


class PictureVectors:
    """Finds or makes the vectors of a window's pictures; a picture that is stored already is not embedded."""

    def __init__(self, catalog: Catalog, embedder: PictureEmbedder) -> None:
        self._catalog = catalog
        self._embedder = embedder

    def of(self, pictures: Mapping[str, Thumbnail]) -> dict[str, ImageVector]:
        """A vector for each picture, by the uri that it is given under. Raises EmbeddingFailed."""
        keys = {uri: image_key(self._embedder.fingerprint, picture) for uri, picture in pictures.items()}
        with self._catalog.read() as connection:
            vectors = image_vectors.known(connection, keys.values())
        new = {key: pictures[uri] for uri, key in keys.items() if key not in vectors}
        if new:
            rows = self._embedder.embed_images(list(new.values()))
            vectors |= dict(zip(new, self._checked(rows, len(new)), strict=True))
        return {uri: ImageVector(key, vectors[key]) for uri, key in keys.items()}

    def note_model(self, writer: CatalogWriter) -> None:
        """Make room for vectors and write down which model they are of; they follow in this transaction."""
        image_vectors.make_table(writer.connection)
        writer.set_meta("image_embedder", self._embedder.fingerprint)
        writer.set_meta("image_embedder_label", image_embedder_label(self._embedder))
        writer.set_meta("image_dimension", str(self._embedder.dimension))

    def _checked(self, rows: np.ndarray, count: int) -> np.ndarray:
        rows = np.asarray(rows, np.float32)
        expected = (count, self._embedder.dimension)
        norms = np.linalg.norm(rows, axis=-1)
        if rows.shape != expected or not (np.abs(norms - 1) <= _UNIT_TOLERANCE).all():
            raise EmbeddingFailed(
                f"The image embedder {self._embedder.name} returned the shape {rows.shape} for {count}"
                f" pictures instead of {expected}, or vectors whose length is not 1.",
                hint="Use another image embedder.",
            )
        return rows


def image_embedder_label(embedder: PictureEmbedder) -> str:
    """What to call an image embedder in front of people."""
    return f"{embedder.name} ({embedder.fingerprint})"
