"""Small files that are meant to take all the memory, all the time or all the stack of whoever reads them."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

MIB = 1 << 20
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"

Maker = Callable[[], bytes]


def write(folder: Path, names: Iterable[str] | None = None) -> list[Path]:
    """Make the bombs of these names, or all; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in names if names is not None else BOMBS:
        path = folder / name
        if not path.exists():
            path.write_bytes(BOMBS[name]())
        paths.append(path)
    return paths


# --- zip


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


# --- PDF


def _pdf(objects: list[bytes], root: int = 1) -> bytes:
    data, offsets = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    data += b"trailer\n<< /Size %d /Root %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        root,
        start,
    )
    return bytes(data)


_FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


def _page(more: bytes, *, parent: int = 2) -> bytes:
    return b"<< /Type /Page /Parent %d 0 R /MediaBox [0 0 612 792] %s >>" % (parent, more)


def _stream(data: bytes, dictionary: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), dictionary, data)


def _one_page(content: bytes, page: bytes = b"") -> bytes:
    return _pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            _page(b"/Contents 4 0 R /Resources << /Font << /F 5 0 R >> >>" + page),
            content,
            _FONT,
        ]
    )


def pdf_stream_bomb() -> bytes:
    """A page whose description unpacks to a gibibyte."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(b" " * MIB) for _ in range(1_024)) + packer.flush()
    return _one_page(_stream(data, b"/Filter /FlateDecode"))


def pdf_stream_bomb_packed_twice() -> bytes:
    """The same in two thousand bytes: packed, and packed again."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(b" " * MIB) for _ in range(2_048)) + packer.flush()
    return _one_page(_stream(zlib.compress(data, 9), b"/Filter [/FlateDecode /FlateDecode]"))


def pdf_of_operators() -> bytes:
    """A page that shows five million letters, one at a time, all at the same place."""
    data = zlib.compress(b"BT /F 9 Tf " + b"(a) Tj " * 5_000_000 + b"ET", 9)
    return _one_page(_stream(data, b"/Filter /FlateDecode"))


def pdf_of_a_hundred_thousand_pages() -> bytes:
    """All with the same text."""
    num_pages = 100_000
    kids = b" ".join(b"%d 0 R" % (5 + number) for number in range(num_pages))
    page = _page(b"/Contents 3 0 R /Resources << /Font << /F 4 0 R >> >>")
    return _pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, num_pages),
            _stream(b"BT /F 12 Tf 72 700 Td (The ferry leaves at nine.) Tj ET"),
            _FONT,
            *([page] * num_pages),
        ]
    )


def pdf_that_counts_wrong() -> bytes:
    """One page, said to be two thousand million."""
    data = _one_page(_stream(b"BT /F 12 Tf 72 700 Td (One page.) Tj ET"))
    return data.replace(b"/Count 1 ", b"/Count 2000000000 ")


def pdf_of_cycles() -> bytes:
    """The page tree, the outline and a drawing all contain themselves."""
    return _pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R /Outlines 6 0 R /AcroForm << /Fields [8 0 R] >> >>",
            b"<< /Type /Pages /Kids [3 0 R 2 0 R 9 0 R] /Count 3 /Parent 2 0 R >>",
            _page(b"/Contents [4 0 R 4 0 R] /Resources << /XObject << /X 5 0 R >> >> /Annots [8 0 R]"),
            _stream(b"/X Do"),
            _stream(
                b"/X Do /X Do",
                b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X 5 0 R >> >>",
            ),
            b"<< /Type /Outlines /First 7 0 R /Last 7 0 R /Count 9 >>",
            b"<< /Title (again) /Parent 7 0 R /Next 7 0 R /First 7 0 R /Dest [3 0 R /Fit] >>",
            b"<< /FT /Tx /T (field) /V 8 0 R /Kids [8 0 R] /Parent 8 0 R /Subtype /Widget >>",
            b"<< /Type /Pages /Kids [2 0 R] /Count 1 /Parent 2 0 R >>",
        ]
    )


def pdf_nested_deep() -> bytes:
    """Arrays in arrays, half a million deep."""
    return _one_page(_stream(b""), b"/Annots " + b"[" * 500_000 + b"]" * 500_000)


def pdf_with_a_deep_page_tree() -> bytes:
    """Every node of the page tree has one child, 20,000 times."""
    depth = 20_000
    nodes = [
        b"<< /Type /Pages /Kids [%d 0 R] /Count 1 /Parent %d 0 R >>" % (number + 1, max(2, number - 1))
        for number in range(2, depth)
    ]
    return _pdf([b"<< /Type /Catalog /Pages 2 0 R >>", *nodes, _page(b"", parent=depth - 1)])


def pdf_with_a_giant_picture() -> bytes:
    """A page that is a picture of 30,000 x 30,000 pixels."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(30_000)) for _ in range(30_000)) + packer.flush()
    picture = _stream(
        data,
        b"/Subtype /Image /Width 30000 /Height 30000 /BitsPerComponent 8 /ColorSpace /DeviceGray"
        b" /Filter /FlateDecode",
    )
    return _pdf(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            _page(b"/Contents 4 0 R /Resources << /XObject << /X 5 0 R >> >>"),
            _stream(b"600 0 0 780 0 0 cm /X Do"),
            picture,
        ]
    )


def pdf_on_a_giant_page() -> bytes:
    """A page of the size of a country, with nothing but a line across it."""
    data = _one_page(_stream(b"0 0 m 9999999 9999999 l S"))
    return data.replace(b"[0 0 612 792]", b"[0 0 9999999 9999999]")


# --- markup and data


def deep_xml() -> bytes:
    """A million elements, each in the one before."""
    return b"<a>" * 1_000_000 + b"text" + b"</a>" * 1_000_000


def billion_laughs() -> bytes:
    """Ten entities, each ten times the one before."""
    entities = ['<!ENTITY l0 "laugh">']
    entities += [f'<!ENTITY l{level} "{f"&l{level - 1};" * 10}">' for level in range(1, 10)]
    return f"<?xml version='1.0'?><!DOCTYPE a [{''.join(entities)}]><a>&l9;</a>".encode()


def quadratic_entities() -> bytes:
    """One entity of 100,000 characters, used 30,000 times."""
    return b"<!DOCTYPE a [<!ENTITY e '" + b"x" * 100_000 + b"'>]><a>" + b"&e;" * 30_000 + b"</a>"


def foreign_entity() -> bytes:
    """An entity that would show another file."""
    return b"<!DOCTYPE a [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><a>text &e;</a>"


def deep_html() -> bytes:
    """400,000 divisions, none of them closed."""
    return b"<html><body>" + b"<div>" * 400_000 + b"text"


def many_attributes() -> bytes:
    """An element with 300,000 attributes."""
    return b"<html><body " + b"".join(b'a%d="1" ' % number for number in range(300_000)) + b">text"


def deep_json() -> bytes:
    """Two million lists in each other."""
    return b"[" * 2_000_000 + b"]" * 2_000_000


def long_number() -> bytes:
    """A number of ten million digits."""
    return b'{"number": ' + b"7" * 10_000_000 + b"}"


def yaml_aliases() -> bytes:
    """Nine lists, each of nine times the one before."""
    lines = ["a0: &a0 [word, word, word]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(lines).encode()


def wide_table() -> bytes:
    """Three rows of two million cells."""
    return (b"1," * 2_000_000 + b"\n") * 3


def open_quote() -> bytes:
    """Quotation marks that are opened and not closed, in a table of four million."""
    return b'"a,"b\n' * 4_000_000


def one_word() -> bytes:
    """A word of thirty million letters."""
    return b"a" * 30_000_000


def marks_upon_marks() -> bytes:
    """A letter with five million accents."""
    return b"e" + "\u0301".encode() * 5_000_000


def brackets_in_markdown() -> bytes:
    """A million links that begin and do not end, and as much emphasis."""
    return b"[" * 1_000_000 + b"\n\n" + b"*a _b " * 300_000 + b"\n\n" + b"`" * 500_000 + b"> " * 200_000


def parentheses_in_code() -> bytes:
    """Python with two hundred thousand open parentheses, blocks and strings."""
    return b"x = " + b"(" * 200_000 + b"\n" + b"if a:\n" * 50_000 + b'f"{' * 50_000


def deep_notebook() -> bytes:
    """A notebook whose outputs are lists in lists."""
    return (
        b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": '
        + b"[" * 200_000
        + b"]" * 200_000
        + b"}]}"
    )


# --- e-mail


def nested_email() -> bytes:
    """3,000 messages, each attached to the one before."""
    return b"Content-Type: message/rfc822\n\n" * 3_000 + b"Subject: a\n\ntext"


def nested_multipart() -> bytes:
    """2,000 parts in parts."""
    return (
        b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (number, number)
            for number in range(2_000)
        )
        + b"\ntext"
    )


def many_parts() -> bytes:
    """100,000 empty parts, and a header of five million letters."""
    head = b"Subject: " + b"=?utf-8?q?a?= " * 400_000 + b"\nContent-Type: multipart/mixed; boundary=b\n\n"
    return head + b"--b\n\n\n" * 100_000 + b"--b--\n"


# --- pictures


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


def sparse_text() -> bytes:
    """60 MiB of zeros with a text's name."""
    return bytes(60 * MIB)


BOMBS: dict[str, Maker] = {
    "zip bomb.docx": zip_bomb,
    "lying zip.docx": lying_zip,
    "overlapping zip.xlsx": overlapping_zip,
    "many members.docx": many_members,
    "nested zips.zip": nested_zips,
    "nested zips.docx": nested_zips,
    "shared string.xlsx": shared_string,
    "far cell.xlsx": far_cell,
    "nested tables.docx": nested_tables,
    "wide cell.docx": wide_cell,
    "spaces by number.odt": spaces_by_number,
    "endless groups.rtf": endless_groups,
    "endless commands.rtf": endless_commands,
    "stream bomb.pdf": pdf_stream_bomb,
    "stream bomb packed twice.pdf": pdf_stream_bomb_packed_twice,
    "five million operators.pdf": pdf_of_operators,
    "hundred thousand pages.pdf": pdf_of_a_hundred_thousand_pages,
    "counts wrong.pdf": pdf_that_counts_wrong,
    "cycles.pdf": pdf_of_cycles,
    "nested deep.pdf": pdf_nested_deep,
    "deep page tree.pdf": pdf_with_a_deep_page_tree,
    "giant picture.pdf": pdf_with_a_giant_picture,
    "giant page.pdf": pdf_on_a_giant_page,
    "deep.xml": deep_xml,
    "billion laughs.xml": billion_laughs,
    "quadratic entities.xml": quadratic_entities,
    "foreign entity.xml": foreign_entity,
    "deep.html": deep_html,
    "many attributes.html": many_attributes,
    "deep.json": deep_json,
    "long number.json": long_number,
    "aliases.yaml": yaml_aliases,
    "wide table.csv": wide_table,
    "open quote.csv": open_quote,
    "one word.txt": one_word,
    "marks upon marks.txt": marks_upon_marks,
    "sparse.txt": sparse_text,
    "brackets.md": brackets_in_markdown,
    "parentheses.py": parentheses_in_code,
    "deep.ipynb": deep_notebook,
    "nested.eml": nested_email,
    "nested multipart.eml": nested_multipart,
    "many parts.eml": many_parts,
    "fifty thousand pixels.png": png_header,
    "twelve thousand pixels.png": png_whole,
    "text beside.png": png_text,
    "frames.gif": gif_of_frames,
    "cycle.tiff": tiff_of_a_cycle,
}
# Made and read in a moment: what `make test` can afford.
QUICK = (
    *("lying zip.docx", "overlapping zip.xlsx", "far cell.xlsx", "nested tables.docx", "wide cell.docx"),
    *("spaces by number.odt", "counts wrong.pdf", "giant page.pdf", "billion laughs.xml"),
    *("quadratic entities.xml", "foreign entity.xml", "aliases.yaml", "deep.ipynb", "nested.eml"),
    *("fifty thousand pixels.png", "cycle.tiff"),
)
