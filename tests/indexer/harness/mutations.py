"""Damages files as disks, transfers and attackers do; the same way for the same seed."""

from __future__ import annotations

import io
import random
import re
import zipfile
from collections.abc import Callable
from contextlib import suppress

_EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_DIGITS = re.compile(rb"\d{1,10}")
_SEARCHED_BYTES = 1 << 16  # after a random place, for something that looks like a length
_MOST_REPEATED_BYTES = 1 << 20


def flip_bits(data: bytearray, rng: random.Random, donor: bytes) -> None:
    """One bit in up to every hundredth byte."""
    for _ in range(rng.choice((1, 8, max(1, len(data) // 10_000), max(1, len(data) // 100)))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut_short(data: bytearray, rng: random.Random, donor: bytes) -> None:
    """The end is missing, as after a broken download."""
    del data[rng.randrange(len(data)) :]


def splice(data: bytearray, rng: random.Random, donor: bytes) -> None:
    """A stretch of another file in the place of a stretch of this one."""
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    first, last = sorted(rng.randrange(len(donor) + 1) for _ in range(2))
    data[start:end] = donor[first:last]


def damage_lengths(data: bytearray, rng: random.Random, donor: bytes) -> None:
    """Numbers become extreme: in digits, as in a PDF or XML, or in two or four bytes."""
    for _ in range(rng.randint(1, 8)):
        position = rng.randrange(len(data))
        value = rng.choice(_EXTREMES)
        digits = _DIGITS.search(data, position, position + _SEARCHED_BYTES)
        if digits and rng.random() < 0.5:
            data[digits.start() : digits.end()] = str(value).encode()
        else:
            width = rng.choice((2, 4))
            order = rng.choice(("little", "big"))
            data[position : position + width] = (value % (1 << 8 * width)).to_bytes(width, order)


def repeat(data: bytearray, rng: random.Random, donor: bytes) -> None:
    """A stretch again and again: deep nesting and long lists come from this."""
    start = rng.randrange(len(data))
    stretch = bytes(data[start : start + rng.choice((1, 16, 256, 4096))])
    data[start:start] = stretch * min(rng.choice((10, 1000, 100_000)), _MOST_REPEATED_BYTES // len(stretch))


def blank(data: bytearray, rng: random.Random, donor: bytes) -> None:
    """A stretch of zeros, as a disk leaves after a loss of power."""
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    data[start:end] = bytes(end - start)


Mutation = Callable[[bytearray, random.Random, bytes], None]
MUTATIONS: dict[str, Mutation] = {
    "bits flipped": flip_bits,
    "cut short": cut_short,
    "spliced": splice,
    "lengths damaged": damage_lengths,
    "repeated": repeat,
    "blanked": blank,
}


def mutate(data: bytes, rng: random.Random, donor: bytes) -> tuple[str, bytes]:
    """The name of what was done, and the damaged file.

    Zip-based documents are damaged inside every second time, or their checksums would give it away at once.
    """
    name = rng.choice(list(MUTATIONS))
    if data.startswith(b"PK\x03\x04") and rng.random() < 0.5:
        with suppress(zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, RuntimeError):
            return name, _mutate_member(data, MUTATIONS[name], rng, donor)
    return name, _mutated(data, MUTATIONS[name], rng, donor)


def _mutated(data: bytes, mutation: Mutation, rng: random.Random, donor: bytes) -> bytes:
    damaged = bytearray(data or b"\0")
    mutation(damaged, rng, donor)
    return bytes(damaged)


def _mutate_member(data: bytes, mutation: Mutation, rng: random.Random, donor: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w") as target:
        members = source.infolist()
        chosen = rng.choice(members)
        for info in members:
            content = source.read(info)
            damaged = _mutated(content, mutation, rng, donor) if info is chosen else content
            target.writestr(info.filename, damaged, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
