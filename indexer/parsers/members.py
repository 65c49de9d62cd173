"""The files in a zip or a tar, one by one and within bounds. Their names are shown, and never used."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from indexer.parsers.archives import ENCRYPTED, MAX_RATIO, RATIO_MATTERS, truncated
from indexer.parsers.errors import DecompressionBomb
from indexer.parsers.failures import file_title, malformed
from indexer.parsers.formats import compression_of
from indexer.parsers.normalise import normalise_text, one_line
from indexer.parsers.options import ParseOptions
from indexer.parsers.unpacking import DAMAGE, TooMuch, unpacked

MAX_MEMBERS = 10_000
_LONGEST_PATH = 500  # characters
_PIECE = 1 << 20  # bytes that are unpacked at a time
_LEFT_OUT = frozenset({"__MACOSX", "__pycache__", "node_modules"})
_END_OF_ZIP = b"PK\x05\x06"
_BAD_ZIP = (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError, RuntimeError, zlib.error)


class Member(NamedTuple):
    """A file in an archive: its bytes, or in one sentence why there are none."""

    path: str
    data: bytes = b""
    problem: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to read, and no harm in that."""
        return not (self.data or self.problem)


class Stopped(NamedTuple):
    """The rest of an archive was not looked at: why, in one sentence. Nothing comes after it."""

    reason: str


_TOO_MANY = Stopped(f"Only the first {MAX_MEMBERS:,} entries of the archive were looked at.")


def members(data: bytes, format: str, *, name: str, options: ParseOptions) -> Iterator[Member | Stopped]:
    """The files of a `zip` or `tar`, in its order. Hidden files and folders, and empty files, are left out.

    Unpacks one at a time, together no more than `options.max_unpacked_bytes`. Links and devices are not
    followed. Raises DecompressionBomb, TruncatedFile and MalformedFile.
    """
    read = _zip_members if format == "zip" else _tar_members
    for member in read(data, name, options):
        if isinstance(member, Stopped) or not (_is_left_out(member.path) or member.is_empty):
            yield member


def _is_left_out(path: str) -> bool:
    parts = path.split("/")
    return any((part.startswith(".") and part.strip(".")) or part in _LEFT_OUT for part in parts)


def _shown(path: str) -> str:
    """A member's name as text for people: it may be anything, and is never opened."""
    path = one_line(normalise_text(path.replace("\\", "/"))).lstrip("/").removeprefix("./")
    return path if len(path) <= _LONGEST_PATH else f"...{path[-_LONGEST_PATH:]}"


def _too_large(num_bytes: int, options: ParseOptions) -> str:
    limit = options.max_bytes / 2**20
    return f"it has {num_bytes / 2**20:,.0f} MiB, more than the limit of {limit:,.0f} MiB."


def _bomb(name: str, what: str) -> DecompressionBomb:
    return DecompressionBomb(f"{file_title(name)} unpacks to {what}.", hint="If it is honest, unpack it.")


# --- zip


def _zip_members(data: bytes, name: str, options: ParseOptions) -> Iterator[Member | Stopped]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _BAD_ZIP as error:
        if _END_OF_ZIP not in data[-66_000:]:
            raise truncated(name) from error
        raise malformed(name, "a zip archive") from error
    infos = [info for info in archive.infolist() if not info.is_dir()]
    total = sum(info.file_size for info in infos)
    if total > max(RATIO_MATTERS, MAX_RATIO * len(data)):
        raise _bomb(name, f"{total / 2**20:,.0f} MiB, {total // max(1, len(data)):,} times its size")
    num_bytes = 0
    for count, info in enumerate(infos):
        if count == MAX_MEMBERS:
            yield _TOO_MANY
            return
        path = _shown(info.filename)
        problem = _zip_problem(info, options)
        if not problem and num_bytes + info.file_size > options.max_unpacked_bytes:
            yield Stopped(f"{path} and what follows were not read: the archive unpacks to too much.")
            return
        if problem:
            yield Member(path, problem=problem)
            continue
        try:
            with archive.open(info) as file:
                content = file.read(info.file_size)  # told how much, it stops there, whatever else there is
        except _BAD_ZIP:
            yield Member(path, problem="it could not be unpacked.")
            continue
        num_bytes += len(content)
        yield Member(path, content)


def _zip_problem(info: zipfile.ZipInfo, options: ParseOptions) -> str:
    if info.flag_bits & ENCRYPTED:
        return "it is encrypted."
    if (info.external_attr >> 16) & 0o170000 == 0o120000:
        return "it is a link."
    if info.file_size > options.max_bytes:
        return _too_large(info.file_size, options)
    if info.file_size > max(RATIO_MATTERS, MAX_RATIO * info.compress_size):
        return "it unpacks to far more than it could honestly hold."
    return ""


# --- tar


def _tar_members(data: bytes, name: str, options: ParseOptions) -> Iterator[Member | Stopped]:
    """Reads forward only; what is skipped of a compressed one is unpacked all the same, and thrown away."""
    stream = _Bounded(unpacked(data), options.max_unpacked_bytes)
    num_found = 0
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 16, tarinfo=_Header) as archive:
            for info in archive:
                if num_found == MAX_MEMBERS:
                    yield _TOO_MANY
                    return
                archive.members = []  # it would keep them all
                num_found += 1
                if not info.isdir():
                    yield _tar_member(archive, info, options)
    except TooMuch:
        raise _bomb(name, f"more than {MAX_RATIO} times its size") from None
    except _LimitReached:
        yield Stopped(f"What follows the first {num_found:,} entries was not read: it unpacks to too much.")
    except (tarfile.TarError, UnicodeError, *DAMAGE) as error:
        if num_found:
            yield Stopped(f"The archive is damaged or cut short after {num_found:,} entries.")
        elif compression_of(data) is not None and isinstance(error, EOFError):
            raise truncated(name) from error
        else:
            raise malformed(name, "a tar archive") from error


class _Header(tarfile.TarInfo):
    """A header that is none is an error anywhere: tarfile takes all but the first for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # what an archive ends with
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo, options: ParseOptions) -> Member:
    path = _shown(info.name)
    if info.issym() or info.islnk():
        return Member(path, problem="it is a link.")
    if not info.isreg() or info.issparse():  # a sparse file says itself how many zeros it has
        return Member(path, problem="it is no ordinary file.")
    if info.size > options.max_bytes:
        return Member(path, problem=_too_large(info.size, options))
    file = archive.extractfile(info)
    pieces, missing = [], info.size
    while file is not None and missing:
        piece = file.read(min(missing, _PIECE))  # told the whole size, it makes room for it first
        if not piece:
            raise EOFError("the archive is cut short")
        pieces.append(piece)
        missing -= len(piece)
    return Member(path, b"".join(pieces))


class _LimitReached(Exception):
    """More would be unpacked than may be."""


class _Bounded:
    """A stream that may be read so far. It has what tarfile asks of one that it reads forward only."""

    def __init__(self, stream: io.BufferedIOBase | io.RawIOBase, max_bytes: int) -> None:
        self._stream = stream
        self._left = max_bytes

    def read(self, size: int) -> bytes:
        if not self._left and self._stream.read(1):
            raise _LimitReached
        piece = self._stream.read(min(size, self._left)) or b""
        self._left -= len(piece)
        return piece
