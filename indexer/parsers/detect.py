"""What a file is: by its first bytes, and by its name only where those leave a choice."""

from __future__ import annotations

import io
import re
import zipfile

from indexer.parsers.decoding import looks_like_text
from indexer.parsers.formats import (
    BINARY_FORMATS,
    CODE_FORMATS,
    EMPTY_MARKERS,
    OLE_FORMATS,
    ZIP_FORMATS,
    base_name,
    compression_of,
    extension_of,
    format_by_name,
    without_compression,
)
from indexer.parsers.unpacking import DAMAGE, TooMuch, unpacked

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
    (b"{\\rtf", "rtf"),
    (b"%!PS", "postscript"),
    (b"AT&TFORM", "djvu"),
    (b"\x00\x00\x00\x0cjP  ", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
    (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", "one"),
    (b"\xffWPC", "wpd"),
    (b"Rar!\x1a\x07", "rar"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"!BDN", "pst"),
)
_TAR_MARK = slice(257, 262)  # where a tar's first header says that it is one
_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_SAMPLE = 64 * 1024  # bytes that tell what text is
_PDF_HEADER_AREA = 1024  # readers look for %PDF- this far
_BMP_HEADER_SIZES = frozenset({12, 40, 52, 56, 64, 108, 124})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif"})
_ODF_TYPES = (("text", "odt"), ("spreadsheet", "ods"), ("presentation", "odp"))
_OOXML_FOLDERS = (("word/", "docx"), ("xl/", "xlsx"), ("ppt/", "pptx"))
_APPLE_FORMATS = frozenset({"pages", "numbers", "keynote"})
_OLE_STREAMS = (
    ("WordDocument", "doc"),
    ("Workbook", "xls"),
    ("PowerPoint Document", "ppt"),
    ("__substg1.0_", "msg"),
    ("__nameid_version1.0", "msg"),
)
_SHEBANG = re.compile(rb"#!\s*\S*?(?:/env\s+(?:-S\s+)?)?(python|bash|zsh|ksh|sh|node|ruby)[\d.]*(?:\s|$)")
_SHEBANG_FORMATS = {b"python": "python", b"node": "javascript", b"ruby": "ruby"}
_HTML = re.compile(
    rb"\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!--.{0,500}?-->\s*)?"
    rb"<(?:!doctype\s+html|html[\s>]|head[\s>]|body[\s>])",
    re.I | re.S,
)
_XML = re.compile(rb"\s*<\?xml\s")
_MAIL_HEADER = re.compile(
    rb"(?:From |(?:Return-Path|Received|Delivered-To|MIME-Version|Message-ID|X-[\w-]+|DKIM-Signature):)", re.I
)
_MAIL_FIELD = re.compile(
    rb"^(from|to|subject|date|mime-version|message-id|content-type|received):", re.I | re.M
)
_SNIFFED_OVER = (
    frozenset({"text", None}) | BINARY_FORMATS
)  # names that do not outweigh what the content looks like


def detect_format(data_head: bytes, name: str) -> str | None:
    """The format of a file, given its first bytes (64 KiB are plenty; zips are surest whole) and its name.

    None for a binary of no known kind and for files that are empty on purpose: they are skipped, not failed.
    Formats that are known and not supported are returned too; parsing them raises UnsupportedFormat.
    """
    if not data_head:
        return None if base_name(name).lower() in EMPTY_MARKERS else format_by_name(name) or "text"
    by_name = format_by_name(name)
    if data_head.startswith(_ZIP):
        return _detect_zip(data_head, by_name)
    if data_head.startswith(_OLE):
        return _detect_ole(data_head, by_name)
    sample = data_head[:_SAMPLE]
    binary = _detect_binary(sample)
    if binary is not None:
        return binary
    if _is_tar(sample, by_name):
        return "tar"
    if compression_of(sample) is not None and not looks_like_text(sample):
        return _detect_compressed(data_head, name)
    if not looks_like_text(sample):
        # A damaged or mislabelled file with a document's name is a failure to report, not a binary to skip;
        # but `.ts` is a video as well, and object files end in `.d` and `.m`.
        return None if by_name in CODE_FORMATS or by_name == "code" else by_name
    if by_name in _SNIFFED_OVER:
        return _sniff_text(sample) or ("text" if by_name is None or by_name in BINARY_FORMATS else by_name)
    if by_name == "xml" and _HTML.match(sample):
        return "html"
    if by_name == "c" and extension_of(name) == ".h" and _is_cpp_header(sample):
        return "cpp"
    return by_name


def _detect_binary(head: bytes) -> str | None:
    for magic, format in _MAGIC:
        if head.startswith(magic):
            return format
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "bmp"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return "heic"
    if head[60:68] == b"BOOKMOBI":
        return "mobi"
    # Text about PDFs may mention the mark; a PDF has it first, or after a little junk that is not words.
    position = head.find(b"%PDF-", 0, _PDF_HEADER_AREA)
    if position == 0 or (position > 0 and (b"obj" in head[position:] or not looks_like_text(head))):
        return "pdf"
    return None


def _is_tar(head: bytes, by_name: str | None) -> bool:
    """Whether it is a tar, or compressed and called one: what a compressed file holds shows only unpacked."""
    if by_name == "tar" and compression_of(head) is not None:
        return True
    return head[_TAR_MARK] == b"ustar" and b"\x00" in head[: _TAR_MARK.start]


def _detect_compressed(data: bytes, name: str) -> str | None:
    """`compressed` or `tar` by what is within; None if that is a binary of no known kind."""
    try:
        head = unpacked(data).read(_SAMPLE)
    except (*DAMAGE, TooMuch):
        head = b""  # which there is no telling what it was
    inner_name = without_compression(name)
    if not head or compression_of(head) is not None:
        return "compressed" if inner_name != name else format_by_name(name)
    format = detect_format(head, inner_name)
    return format if format in ("tar", None) else "compressed"


def _detect_zip(data: bytes, by_name: str | None) -> str | None:
    names, media_type = _zip_members(data)
    if "application/epub+zip" in media_type or "META-INF/container.xml" in names:
        return "epub"
    for kind, format in _ODF_TYPES:
        if f"opendocument.{kind}" in media_type:
            return format
    if by_name == "zip" and "[Content_Types].xml" not in names:
        return "zip"  # of whatever folders
    for folder, format in _OOXML_FOLDERS:
        if any(member.startswith(folder) for member in names):
            return format
    if any(
        member.startswith("Index/") or member == "index.apxl" or member == "index.xml" for member in names
    ):
        return by_name if by_name in _APPLE_FORMATS else None
    # Truncated archives and archives of anything else: only a document's name makes them documents.
    return by_name if by_name in ZIP_FORMATS or by_name == "zip" else None


def _zip_members(data: bytes) -> tuple[set[str], str]:
    """Member names (from the local headers where the directory is missing), and the `mimetype` member."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist()[:10_000])
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        names = set(_local_names(data[: 1 << 20]))
    first = data[30:38]
    media_type = data[38:128] if first == b"mimetype" else b""
    return names, media_type.decode("latin-1")


def _local_names(data: bytes) -> list[str]:
    names, position = [], data.find(_ZIP)
    while position >= 0 and len(names) < 10_000:
        length = int.from_bytes(data[position + 26 : position + 28], "little")
        names.append(data[position + 30 : position + 30 + length].decode("utf-8", errors="replace"))
        position = data.find(_ZIP, position + 4)
    return names


def _detect_ole(data: bytes, by_name: str | None) -> str | None:
    if by_name in OLE_FORMATS:
        return by_name
    if "EncryptedPackage".encode("utf-16-le") in data:
        return by_name if by_name in ("docx", "xlsx", "pptx") else "docx"
    for stream, format in _OLE_STREAMS:
        if stream.encode("utf-16-le") in data:
            return format
    return by_name if by_name in ZIP_FORMATS else None


def _sniff_text(head: bytes) -> str | None:
    """What text of an unhelpful name looks like; None: nothing in particular."""
    shebang = _SHEBANG.match(head)
    if shebang is not None:
        return _SHEBANG_FORMATS.get(shebang.group(1), "bash")
    body = head.lstrip(b"\xef\xbb\xbf")
    if _HTML.match(body):
        return "html"
    if _XML.match(body):
        return "xml"
    if _MAIL_HEADER.match(body) and len({match.lower() for match in _MAIL_FIELD.findall(body[:8192])}) >= 3:
        return "mbox" if body.startswith(b"From ") else "eml"
    return None


def _is_cpp_header(head: bytes) -> bool:
    return (
        re.search(rb"^\s*(?:namespace\s+\w|template\s*<|class\s+\w+[^;]*\{|using\s+\w|public:)", head, re.M)
        is not None
    )
