"""Files that are written whole or not at all, and what is noted of them to know them again."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol


class FileStamp(Protocol):
    """A file's name within the index folder, its size and its digest."""

    @property
    def file(self) -> str:
        """The name."""
        ...

    @property
    def bytes(self) -> int:
        """The size."""
        ...

    @property
    def sha256(self) -> str:
        """The digest, in hexadecimal digits."""
        ...


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as it was written."""

    file: str
    bytes: int
    sha256: str


class HashingWriter:
    """Writes to a file and digests what it writes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, piece: bytes) -> int:
        """Write all of it, as files do."""
        self.digest.update(piece)
        return self._file.write(piece)


def store(folder: Path, name: str, write: Callable[[HashingWriter], object]) -> StoredFile:
    """Write a file, in one step that survives a loss of power."""
    written: list[HashingWriter] = []

    def observed(file: BinaryIO) -> None:
        written.append(HashingWriter(file))
        write(written[0])

    replace_file(folder / name, observed)
    return StoredFile(name, (folder / name).stat().st_size, written[0].digest.hexdigest())


def matches(folder: Path, stamp: FileStamp) -> bool:
    """Whether a file is, byte for byte, what was written."""
    try:
        with (folder / stamp.file).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == stamp.sha256
    except OSError:
        return False


def has_its_size(folder: Path, stamp: FileStamp) -> bool:
    """Whether a file is there and as long as what was written."""
    try:
        return (folder / stamp.file).stat().st_size == stamp.bytes
    except OSError:
        return False


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Put a new file in the place of an old one, in one step that survives a loss of power."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have a folder's list of names on disk, where its file system can be asked for that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # which some that are mounted from elsewhere say of every folder
            raise
    finally:
        os.close(descriptor)
