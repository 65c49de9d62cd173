"""What the makers share: the fonts, and zip files that come out the same each time."""

from __future__ import annotations

import io
import re
import zipfile
from datetime import datetime
from pathlib import Path

MADE_AT = datetime(2025, 3, 1, 9, 0, 0)
"""The date in every file's metadata."""


def font_path(name: str) -> str:
    """Path of a TrueType font in matplotlib's wheel, such as `"DejaVuSans-Bold"`."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    if not path.is_file():
        raise FileNotFoundError(f"matplotlib carries no font {name!r}.")
    return str(path)


def write_zip(path: Path, members: list[tuple[str, bytes]], *, stored: frozenset[str] = frozenset()) -> None:
    """Write a zip whose bytes depend on its members alone; those in `stored` are not compressed."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name, date_time=MADE_AT.timetuple()[:6])
            info.compress_type = zipfile.ZIP_STORED if name in stored else zipfile.ZIP_DEFLATED
            archive.writestr(info, content, compresslevel=9)


def freeze_zip(data: bytes, path: Path) -> None:
    """Write a finished office file again without the times at which it was saved and packed."""
    saved_at = MADE_AT.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    core = "docProps/core.xml"
    members[core] = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>" + saved_at, members[core])
    write_zip(path, list(members.items()))
