"""PDFs that unpack without end, contain themselves, or are as large as a field."""

from __future__ import annotations

import zlib

from harness.bombs.sizes import MIB


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


def stream_bomb() -> bytes:
    """A page whose description unpacks to a gibibyte."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(b" " * MIB) for _ in range(1_024)) + packer.flush()
    return _one_page(_stream(data, b"/Filter /FlateDecode"))


def stream_bomb_packed_twice() -> bytes:
    """The same in two thousand bytes: packed, and packed again."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(b" " * MIB) for _ in range(2_048)) + packer.flush()
    return _one_page(_stream(zlib.compress(data, 9), b"/Filter [/FlateDecode /FlateDecode]"))


def operators() -> bytes:
    """A page that shows five million letters, one at a time, all at the same place."""
    data = zlib.compress(b"BT /F 9 Tf " + b"(a) Tj " * 5_000_000 + b"ET", 9)
    return _one_page(_stream(data, b"/Filter /FlateDecode"))


def hundred_thousand_pages() -> bytes:
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


def counts_wrong() -> bytes:
    """One page, said to be two thousand million."""
    data = _one_page(_stream(b"BT /F 12 Tf 72 700 Td (One page.) Tj ET"))
    return data.replace(b"/Count 1 ", b"/Count 2000000000 ")


def cycles() -> bytes:
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


def nested_deep() -> bytes:
    """Arrays in arrays, half a million deep."""
    return _one_page(_stream(b""), b"/Annots " + b"[" * 500_000 + b"]" * 500_000)


def deep_page_tree() -> bytes:
    """Every node of the page tree has one child, 20,000 times."""
    depth = 20_000
    nodes = [
        b"<< /Type /Pages /Kids [%d 0 R] /Count 1 /Parent %d 0 R >>" % (number + 1, max(2, number - 1))
        for number in range(2, depth)
    ]
    return _pdf([b"<< /Type /Catalog /Pages 2 0 R >>", *nodes, _page(b"", parent=depth - 1)])


def giant_picture() -> bytes:
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


def giant_page() -> bytes:
    """A page of the size of a country, with nothing but a line across it."""
    data = _one_page(_stream(b"0 0 m 9999999 9999999 l S"))
    return data.replace(b"[0 0 612 792]", b"[0 0 9999999 9999999]")
