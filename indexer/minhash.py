"""How much two texts have in common, from short signatures: MinHash by one permutation.

A text is the set of its runs of 16 characters. Each is hashed once; the hash chooses one of 128 bins, and
each bin keeps its smallest hash. Of the bins that either of two texts fills, the share on which they agree
estimates the Jaccard similarity of the sets, with a standard error of at most 0.045 where all bins are filled
(Broder, "On the resemblance and containment of documents", 1997; Li, Owen and Zhang, "One permutation
hashing", 2012).
"""

from __future__ import annotations

import numpy as np

NUM_BINS = 128
MIN_FILLED_BINS = 32  # texts of some 50 characters; shorter ones are alike by accident
_SHINGLE_CHARACTERS = 16  # a power of two
_FACTOR = 0x9E3779B97F4A7C15
_MAX_CHARACTERS = 2_000_000  # of a text that are compared: memory stays below 100 MB
_ROWS_PER_BAND = 4  # pairs of similarity 0.8 share one of the 32 bands all but surely, those of 0.2 rarely
_EMPTY = np.uint32(0xFFFFFFFF)
_PAIRS_PER_BLOCK = 1 << 16


def signature(text: str) -> np.ndarray:
    """(128,) uint32; case and the kind and amount of white space make no difference."""
    smallest = np.full(NUM_BINS, _EMPTY, np.uint32)
    words = " ".join(text[:_MAX_CHARACTERS].lower().split())
    codes = np.frombuffer(words.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    count = len(codes) - _SHINGLE_CHARACTERS + 1
    if count < 1:
        return smallest
    hashes = _polynomials(codes)
    _mix(hashes)
    bins = (hashes >> np.uint64(57)).astype(np.intp)
    values = ((hashes >> np.uint64(25)) & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    np.minimum.at(smallest, bins, values)
    return smallest


def _polynomials(codes: np.ndarray) -> np.ndarray:
    """(n - 15,) uint64: of each run of 16, the polynomial with these coefficients, modulo 2**64.

    That of a run of 2 m is made of those of its halves, h(i) * factor**m + h(i + m), so four steps do.
    """
    hashes, power, length = codes, _FACTOR, 1
    while length < _SHINGLE_CHARACTERS:
        hashes = hashes[:-length] * np.uint64(power) + hashes[length:]
        power, length = power * power % 2**64, 2 * length
    return hashes


def similar_pairs(signatures: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """(p, 2) int64 rows of (n, 128) uint32 signatures that are alike, and (p,) float32 similarities.

    Of many rows that are all alike not every pair is named, but enough to connect them.
    """
    comparable = np.flatnonzero((signatures != _EMPTY).sum(axis=1) >= MIN_FILLED_BINS)
    chosen = signatures[comparable]
    candidates = [_same_band(chosen[:, band : band + _ROWS_PER_BAND]) for band in _BANDS]
    pairs = np.unique(np.concatenate([np.zeros((0, 2), np.int64), *candidates]), axis=0)
    similarities = np.zeros(len(pairs), np.float32)
    for start in range(0, len(pairs), _PAIRS_PER_BLOCK):
        left, right = chosen[pairs[start : start + _PAIRS_PER_BLOCK]].transpose(1, 0, 2)
        filled = (left != _EMPTY) | (right != _EMPTY)
        agreeing = (left == right) & filled
        similarities[start : start + _PAIRS_PER_BLOCK] = agreeing.sum(axis=1) / filled.sum(axis=1)
    alike = similarities >= threshold
    return comparable[pairs[alike]], similarities[alike]


_BANDS = range(0, NUM_BINS, _ROWS_PER_BAND)


def _same_band(band: np.ndarray) -> np.ndarray:
    """(p, 2) int64 pairs of rows that agree on a whole band: neighbours in a run, and each with its first."""
    full = np.flatnonzero((band != _EMPTY).all(axis=1))
    hashes = np.zeros(len(full), np.uint64)
    for column in band[full].astype(np.uint64).T:
        hashes += column
        _mix(hashes)
    order = np.argsort(hashes, kind="stable")
    rows, hashes = full[order], hashes[order]
    starts = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]])) if len(rows) else rows
    first = np.repeat(rows[starts], np.diff([*starts, len(rows)]))
    same = hashes[1:] == hashes[:-1]
    pairs = np.concatenate(
        [
            np.stack([rows[:-1][same], rows[1:][same]], axis=1),
            np.stack([first, rows], axis=1)[first != rows],
        ]
    )
    return np.sort(pairs, axis=1).astype(np.int64)


def _mix(hashes: np.ndarray) -> None:
    """Spreads every bit over all of them, in place (the finaliser of splitmix64)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        hashes ^= hashes >> np.uint64(shift)
        hashes *= np.uint64(factor)
    hashes ^= hashes >> np.uint64(31)
