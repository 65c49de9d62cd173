"""Zips, and documents that are zips, that unpack to more than anybody has; RTF that never ends."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from harness.bombs.sizes import MIB

_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _deflated(content: bytes, times: int) -> tuple[bytes, int, int]:
    """Raw deflate of the content many times over, never held unpacked; with its length and checksum."""
    packer, packed, checksum = zlib.compressobj(9, zlib.DEFLATED, -15), [], 0
    for _ in range(times):
        packed.append(packer.compress(content))
        checksum = zlib.crc32(content, checksum)
    return b"".join([*packed, packer.flush()]), len(content) * times, checksum


def _zip_by_hand(
    name: str, packed: bytes, size: int, checksum: int, *, others: dict[str, bytes], entries: int = 1
) -> bytes:
    """A zip with one member that is packed already, listed as often as told: all lead to the same bytes."""
    before = _zip(others)
    with zipfile.ZipFile(io.BytesIO(before)) as archive:
        directory_start, num_others = archive.start_dir, len(archive.infolist())
    directory = before[directory_start : before.rindex(b"PK\x05\x06")]
    raw = name.encode()
    fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, checksum, len(packed), size, len(raw), 0)
    body = before[:directory_start] + b"PK\x03\x04" + fields + raw + packed
    rows = [directory]
    for number in range(entries):
        entry = raw if not number else f"{name}.{number}".encode()
        central = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, checksum, len(packed), size, len(entry), 0)
        tail = struct.pack("<HHHII", 0, 0, 0, 0, directory_start)
        rows.append(b"PK\x01\x02" + struct.pack("<H", 20) + central + tail + entry)
    directory = b"".join(rows)
    count = num_others + entries
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0)
    return body + directory + b"PK\x05\x06" + end


def _relations(*targets: tuple[str, str]) -> bytes:
    rows = "".join(
        f'<Relationship Id="r{number}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(targets)
    )
    return f'<Relationships xmlns="{_PACKAGE}">{rows}</Relationships>'.encode()


_DOCX = {"_rels/.rels": _relations(("officeDocument", "word/document.xml"))}
_XLSX = {
    "_rels/.rels": _relations(("officeDocument", "xl/workbook.xml")),
    "xl/_rels/workbook.xml.rels": _relations(
        ("worksheet", "worksheets/sheet1.xml"), ("sharedStrings", "sharedStrings.xml")
    ),
    "xl/workbook.xml": (
        f'<workbook xmlns="{_SHEET}" xmlns:r="{_OFFICE}"><sheets>'
        '<sheet name="a" sheetId="1" r:id="r0"/></sheets></workbook>'
    ).encode(),
    "[Content_Types].xml": (
        b'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        b'<Default Extension="xml" ContentType="application/vnd.openxmlformats-officedocument'
        b'.spreadsheetml.sheet.main+xml"/></Types>'
    ),
}


def _docx(body: str) -> bytes:
    document = f'<w:document xmlns:w="{_WORD}"><w:body>{body}</w:body></w:document>'
    return _zip({**_DOCX, "word/document.xml": document.encode()})


def _xlsx(sheet: str, strings: str = "") -> bytes:
    return _zip(
        {
            **_XLSX,
            "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{_SHEET}">{sheet}</worksheet>'.encode(),
            "xl/sharedStrings.xml": f'<sst xmlns="{_SHEET}">{strings}</sst>'.encode(),
        }
    )


def zip_bomb() -> bytes:
    """700 MiB of spaces where the text of a Word document should be."""
    packed, size, checksum = _deflated(b" " * MIB, 700)
    return _zip_by_hand("word/document.xml", packed, size, checksum, others=_DOCX)


def lying_zip() -> bytes:
    """200 MiB in a member whose directory entry says 200 bytes."""
    packed, _, checksum = _deflated(b"<a>" * 4096, (200 << 20) // 12288)
    return _zip_by_hand("word/document.xml", packed, 200, checksum, others=_DOCX)


def overlapping_zip() -> bytes:
    """19,000 members of 1 MiB that all lie in the same bytes."""
    packed, size, checksum = _deflated(b"<a/>" * (MIB // 4), 1)
    return _zip_by_hand("xl/sharedStrings.xml", packed, size, checksum, others=_XLSX, entries=19_000)


def many_members() -> bytes:
    """60,000 empty members."""
    return _zip({**_DOCX, **{f"word/{number}.xml": b"" for number in range(60_000)}})


def nested_zips() -> bytes:
    """A zip of zips of zips, 4**6 files of 10 MiB at the bottom."""
    data = _zip({"a.txt": b"a" * (10 * MIB)})
    for _ in range(6):
        data = _zip({f"{number}.zip": data for number in range(4)})
    return data


# --- office


def shared_string() -> bytes:
    """300,000 cells that all show the same string of 32,000 characters: 9 GiB of text."""
    row = "".join('<c t="s"><v>0</v></c>' for _ in range(1_000))
    return _xlsx(f"<sheetData>{f'<row>{row}</row>' * 300}</sheetData>", f"<si><t>{'word ' * 6_400}</t></si>")


def far_cell() -> bytes:
    """Two cells: the first and the last that a sheet can have."""
    cells = '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row>'
    return _xlsx(f'<dimension ref="A1:XFD1048576"/><sheetData>{cells}</sheetData>')


def nested_tables() -> bytes:
    """Tables in the cells of tables, 3,000 deep."""
    return _docx("<w:tbl><w:tr><w:tc>" * 3_000 + "<w:p/>" + "</w:tc></w:tr></w:tbl>" * 3_000)


def wide_cell() -> bytes:
    """A cell that spans a thousand million columns."""
    cell = '<w:tcPr><w:gridSpan w:val="1000000000"/></w:tcPr><w:p><w:r><w:t>wide</w:t></w:r></w:p>'
    return _docx(f"<w:tbl>{f'<w:tr><w:tc>{cell}</w:tc></w:tr>' * 20}</w:tbl>")


def spaces_by_number() -> bytes:
    """An OpenDocument text that abbreviates a thousand million spaces, cells and rows."""
    spaces = '<text:p>a<text:s text:c="1000000000"/>b</text:p>'
    table = (
        '<table:table><table:table-row table:number-rows-repeated="1000000000">'
        '<table:table-cell table:number-columns-repeated="1000000000"><text:p>x</text:p></table:table-cell>'
        "</table:table-row></table:table>"
    )
    names = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for name in ("office", "text", "table")
    )
    content = (
        f"<office:document-content {names}><office:body><office:text>{spaces}{table}</office:text>"
        "</office:body></office:document-content>"
    )
    return _zip({"mimetype": b"application/vnd.oasis.opendocument.text", "content.xml": content.encode()})


def endless_groups() -> bytes:
    """RTF that opens two million groups and closes none."""
    return rb"{\rtf1 " + b"{" * 2_000_000 + b"text"


def endless_commands() -> bytes:
    """RTF of picture data and control words without end."""
    return rb"{\rtf1 {\pict\bin4294967295 " + rb"\u99999?\'zz" * 300_000 + b"text}"
