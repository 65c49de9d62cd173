"""How vectors can lie: spread evenly, in clusters, in copies, on a lattice, in a narrow cone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Shape = Callable[[int], np.ndarray]  # so many (n, dimension) unit vectors

_MOST_LENGTH_ERROR = 9e-4  # the indexer lets 1e-3 pass


def unit(vectors: np.ndarray) -> np.ndarray:
    """(n, dimension) float32 rows of length 1, whatever their length was."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)


def noise(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    """(n, dimension) directions, none preferred."""
    return unit(rng.standard_normal((count, dimension)))


def moved(rng: np.random.Generator, vectors: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Each vector so far away in any direction."""
    return unit(vectors + distances[:, None] * noise(rng, *vectors.shape))


def even(rng: np.random.Generator, dimension: int) -> Shape:
    """All over the sphere."""
    return lambda count: noise(rng, count, dimension)


def clustered(rng: np.random.Generator, dimension: int) -> Shape:
    """Around some centres, closer or further."""
    centres = noise(rng, int(rng.integers(2, 9)), dimension)
    spreads = rng.uniform(0.1, 0.9, len(centres))

    def make(count: int) -> np.ndarray:
        which = rng.integers(len(centres), size=count)
        return moved(rng, centres[which], spreads[which])

    return make


def copied(rng: np.random.Generator, dimension: int) -> Shape:
    """A few texts over and over: the same vector to the last bit, or nearly."""
    originals = noise(rng, 40, dimension)
    distances = np.array([0, 0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3])
    return lambda count: moved(rng, originals[rng.integers(40, size=count)], rng.choice(distances, count))


def lattice(rng: np.random.Generator, dimension: int) -> Shape:
    """Coordinates of -1, 0 and 1 before they are brought to length 1: ties without number."""

    def make(count: int) -> np.ndarray:
        points = rng.integers(-1, 2, (count, dimension)).astype(np.float64)
        points[~points.any(axis=1), 0] = 1
        return unit(points)

    return make


def cone(rng: np.random.Generator, dimension: int) -> Shape:
    """All so alike that their similarities differ by about what rounding takes."""
    axis = noise(rng, 1, dimension)
    spread = 10 ** rng.uniform(-2.5, -0.7)
    return lambda count: moved(rng, np.repeat(axis, count, axis=0), rng.uniform(0, spread, count))


def loose(rng: np.random.Generator, dimension: int) -> Shape:
    """Clusters whose vectors are only about as long as they should be."""
    make = clustered(rng, dimension)

    def lengthened(count: int) -> np.ndarray:
        return (make(count) * (1 + rng.uniform(-1, 1, (count, 1)) * _MOST_LENGTH_ERROR)).astype(np.float32)

    return lengthened


SHAPES: dict[str, Callable[[np.random.Generator, int], Shape]] = {
    "even": even,
    "clusters": clustered,
    "copies": copied,
    "lattice": lattice,
    "cone": cone,
    "loose lengths": loose,
}
