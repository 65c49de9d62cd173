"""Archives that unpack to more than anybody has, or that never end."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib

from harness.bombs.sizes import MIB


def _header(name: str, size: int, *, kind: bytes = tarfile.REGTYPE, **pax: str) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.pax_headers = size, kind, pax
    return info.tobuf(tarfile.PAX_FORMAT)


def _gzipped(head: bytes, piece: bytes, times: int) -> bytes:
    """The head, and then a piece many times over, never held unpacked."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = [packer.compress(head), *(packer.compress(piece) for _ in range(times)), packer.flush()]
    return b"".join(packed)


def gibibyte_of_zeros() -> bytes:
    """A tar of one file, packed to a thousandth."""
    return _gzipped(_header("zeros.txt", 1024 * MIB), bytes(MIB), 1024)


def zeros_by_bzip2() -> bytes:
    """200 MiB in 150 bytes: no other compression goes that far."""
    return bz2.compress(_header("zeros.txt", 200 * MIB) + bytes(200 * MIB))


def zeros_by_xz() -> bytes:
    """200 MiB of zeros, and no more than the start of a tar before them."""
    return lzma.compress(_header("zeros.txt", 200 * MIB) + bytes(200 * MIB), preset=0)


def million_folders() -> bytes:
    """A tar of nothing but folders, a million of them."""
    return _gzipped(b"", _header("folder", 0, kind=tarfile.DIRTYPE) * 1000, 1000)


def million_streams() -> bytes:
    """As many empty streams, one after the other, which count as one."""
    return gzip.compress(b"") * 1_000_000


def sparse_tebibyte() -> bytes:
    """A file of 512 bytes that says it is a tebibyte with a large hole."""
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
    return _header("hole.txt", 512, **sparse) + b"1\n0\n1\n".ljust(512, b"\0") + bytes(1024)


def endless_name() -> bytes:
    """A name that is said to be eight exbibytes long, and another one of 60 MiB that is."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("x" * (60 * MIB)))
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, (1 << 63) - 1
    return gzip.compress(buffer.getvalue()[: -20 * 512] + name.tobuf(tarfile.GNU_FORMAT), 1)
