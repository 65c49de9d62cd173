"""Pictures that say they are larger than they are, and pictures that are."""

from __future__ import annotations

import struct
import zlib

from harness.bombs.sizes import MIB


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header() -> bytes:
    """A header that says 50,000 x 50,000 pixels, and a few bytes of them."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000))
    return b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", pixels)


def png_whole() -> bytes:
    """12,000 x 12,000 white pixels, all there: just under the limit."""
    packer = zlib.compressobj(9)
    row = b"\0" + b"\xff" * 12_000
    pixels = b"".join(packer.compress(row) for _ in range(12_000)) + packer.flush()
    header = struct.pack(">IIBBBBB", 12_000, 12_000, 8, 0, 0, 0, 0)
    parts = _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", pixels) + _png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def png_text() -> bytes:
    """A picture of one pixel with 100 MiB of compressed text beside it."""
    text = _png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * (100 * MIB), 9))
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixels = _png_chunk(b"IDAT", zlib.compress(b"\0\0"))
    return b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header) + text + pixels + _png_chunk(b"IEND", b"")


def gif_of_frames() -> bytes:
    """30,000 frames of 2,000 x 2,000 pixels in a few bytes each."""
    header = b"GIF89a" + struct.pack("<HHBBB", 2_000, 2_000, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"," + struct.pack("<HHHHB", 0, 0, 2_000, 2_000, 0) + b"\x02\x02\x44\x01\x00"
    return header + frame * 30_000 + b";"


def tiff_of_a_cycle() -> bytes:
    """A TIFF whose second page is its first."""
    entries = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 200), (277, 3, 1, 1), (278, 3, 1, 8), (279, 4, 1, 64)]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 8)).ljust(200, b"\0") + bytes(64)
