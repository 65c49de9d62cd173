"""Compressed bytes as a stream that is unpacked as it is read, no further than an honest one would go."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from typing import Protocol

from indexer.parsers.archives import MAX_RATIO, RATIO_MATTERS
from indexer.parsers.formats import compression_of

_FED = 1 << 14  # bytes at a time; what follows the end of a stream is fed again
_PIECE = 1 << 16  # bytes that are asked for at a time
_MAX_DICTIONARY = 256 << 20  # bytes that xz may look back
DAMAGE = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)
"""What reading a damaged stream raises."""


class TooMuch(Exception):
    """A stream unpacks to more than it could honestly hold."""


class _Decompressor(Protocol):
    """What bz2 and lzma have, and zlib has under other names."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def unpacked(data: bytes) -> io.BufferedIOBase | io.RawIOBase:
    """The bytes as a stream, unpacked if they are compressed. Reading it raises DAMAGE and TooMuch."""
    compression = compression_of(data)
    return io.BytesIO(data) if compression is None else _Unpacked(data, compression)


class _Unpacked(io.RawIOBase):
    """Reads forward only. Streams that were put one after the other are one, as their tools have it."""

    def __init__(self, data: bytes, compression: str) -> None:
        self._data = memoryview(data)
        self._compression = compression
        self._decompressor = _decompressor(compression)
        self._position = 0  # in the packed bytes
        self._num_unpacked = 0
        self._pending = b""
        self._error: Exception | None = None  # what is to be raised next

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to so many bytes; fewer only at the end, or before an error, which the next call raises."""
        pieces, missing = [], size if size >= 0 else None
        while missing is None or missing > 0:
            piece = self._pending or self._piece_before_error(raises=not pieces)
            if not piece:
                break
            taken = piece if missing is None else piece[:missing]
            self._pending = piece[len(taken) :]
            pieces.append(taken)
            missing = None if missing is None else missing - len(taken)
        return b"".join(pieces)

    def _piece_before_error(self, *, raises: bool) -> bytes:
        """The next piece; an error is kept for later unless it is to be raised."""
        if self._error is None:
            try:
                return self._next_piece()
            except (*DAMAGE, TooMuch) as error:
                self._error = error
        if raises:
            raise self._error
        return b""

    def _next_piece(self) -> bytes:
        while True:
            if self._decompressor.eof:
                # What follows is another stream, or padding that nobody minds.
                self._position -= len(self._decompressor.unused_data)
                if compression_of(bytes(self._data[self._position : self._position + 6])) is None:
                    return b""
                self._decompressor = _decompressor(self._compression)
            fed = b""
            if self._decompressor.needs_input:
                fed = bytes(self._data[self._position : self._position + _FED])
                self._position += len(fed)
            piece = self._decompressor.decompress(fed, _PIECE)
            if not (piece or fed or self._decompressor.eof) and self._decompressor.needs_input:
                raise EOFError("the stream is cut short")
            self._num_unpacked += len(piece)
            if self._num_unpacked > max(RATIO_MATTERS, MAX_RATIO * self._position):
                raise TooMuch
            if piece:
                return piece


def _decompressor(compression: str) -> _Decompressor:
    match compression:
        case "bzip2":
            return bz2.BZ2Decompressor()
        case "xz":
            return lzma.LZMADecompressor(memlimit=_MAX_DICTIONARY)
        case _:
            return _Gzip()


class _Gzip:
    """zlib's decompressor in the manner of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail and not self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail or data, max_length)
