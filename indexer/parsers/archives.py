"""Zip files that hold documents, opened with bounds on what they may unpack to."""

from __future__ import annotations

import io
import posixpath
import zipfile
from typing import TYPE_CHECKING

from indexer.parsers.errors import DecompressionBomb, EncryptedFile, TruncatedFile
from indexer.parsers.failures import file_title, malformed
from indexer.parsers.options import ParseOptions
from indexer.parsers.xml import local_name, parse_xml

if TYPE_CHECKING:
    from lxml import etree

_MAX_MEMBERS = 20_000
MAX_RATIO = 500  # deflate gives at most about 1030; office XML about 20
RATIO_MATTERS = 16 << 20  # bytes unpacked, below which a member may shrink as it likes
ENCRYPTED = 0x1  # flag of a member
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


class DocumentArchive:
    """The members of a zip-based document. Member names are looked up without regard to case."""

    def __init__(self, data: bytes, *, name: str, options: ParseOptions) -> None:
        """Raises DecompressionBomb, EncryptedFile, TruncatedFile or MalformedFile."""
        self.name = name
        if data.startswith(_OLE):
            raise EncryptedFile(f"{file_title(name)} is encrypted.", hint="Save a copy without a password.")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            if b"PK\x05\x06" not in data[-66_000:]:
                raise truncated(name) from error
            raise malformed(name, "a zip-based document") from error
        members = self._zip.infolist()
        self._check_sizes(members, options)
        self._members = {info.filename.lstrip("/").lower(): info for info in members}

    def __contains__(self, member: str) -> bool:
        return member.lower() in self._members

    def names(self) -> list[str]:
        """All members, in the order of the directory."""
        return [info.filename.lstrip("/") for info in self._members.values()]

    def read(self, member: str) -> bytes:
        """A member's bytes; b"" when there is no such member.

        Never more are unpacked than the directory announces, so the check of sizes at opening holds: told
        how much to read, zipfile stops there, where its own `read` unpacks everything first.
        """
        info = self._members.get(member.lower())
        if info is None:
            return b""
        if info.flag_bits & ENCRYPTED:
            raise EncryptedFile(
                f"{file_title(self.name)} is encrypted.", hint="Save a copy without a password."
            )
        try:
            with self._zip.open(info) as member_file:
                return member_file.read(info.file_size)
        except (
            zipfile.BadZipFile,
            EOFError,
            OSError,
            ValueError,
            NotImplementedError,
            _zlib_error(),
        ) as error:
            raise truncated(self.name) from error

    def xml(self, member: str) -> etree._Element | None:
        """A member as XML; None when there is no such member."""
        data = self.read(member)
        return parse_xml(data, name=f"{file_title(self.name)}/{member}") if data else None

    def relations(self, member: str) -> dict[str, tuple[str, str]]:
        """The OOXML relations of a member: id to (kind, target member)."""
        folder, file = posixpath.split(member)
        root = self.xml(posixpath.join(folder, "_rels", f"{file}.rels"))
        relations: dict[str, tuple[str, str]] = {}
        for relation in root if root is not None else ():
            target = relation.get("Target") or ""
            if local_name(relation) == "Relationship" and relation.get("TargetMode") != "External":
                path = target.lstrip("/") if target.startswith("/") else posixpath.join(folder, target)
                kind = (relation.get("Type") or "").rpartition("/")[2]
                relations[relation.get("Id") or ""] = (kind, posixpath.normpath(path))
        return relations

    def _check_sizes(self, members: list[zipfile.ZipInfo], options: ParseOptions) -> None:
        total = sum(info.file_size for info in members)
        swollen = any(info.file_size > max(RATIO_MATTERS, MAX_RATIO * info.compress_size) for info in members)
        if total > options.max_unpacked_bytes or swollen or len(members) > _MAX_MEMBERS:
            raise DecompressionBomb(
                f"{file_title(self.name)} unpacks to {total / 2**20:,.0f} MiB in {len(members):,} parts.",
                hint="If it is honest, split it, or raise parsing.max_unpacked_bytes.",
            )


def truncated(name: str) -> TruncatedFile:
    """An archive without its end."""
    return TruncatedFile(
        f"{file_title(name)} is cut short or damaged.", hint="Copy or download it again from its source."
    )


def _zlib_error() -> type[Exception]:
    import zlib

    return zlib.error
