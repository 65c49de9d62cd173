"""Files made by hand, and what every document promises."""

from __future__ import annotations

import io
import unicodedata
import zipfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from indexer.types import Block, ParsedDocument


class Words(NamedTuple):
    """Text on a page of a PDF: at x, y (points from the top left), in a size, bold or not."""

    x: float
    y: float
    text: str
    size: float = 10
    bold: bool = False


def make_pdf(
    pages: Sequence[Sequence[Words]],
    *,
    title: str = "",
    outline: Sequence[tuple[str, int]] = (),
    rotate: int = 0,
    size: tuple[int, int] = (612, 792),
) -> bytes:
    """A PDF by hand: no library decides what is in it. `outline` holds (title, page from 1)."""
    width, height = size
    escapes = str.maketrans({"\\": r"\\", "(": r"\(", ")": r"\)"})
    objects: list[bytes] = []

    def add(body: str | bytes) -> int:
        objects.append(body.encode("latin-1") if isinstance(body, str) else body)
        return len(objects)

    add("")  # 1: catalog
    add("")  # 2: pages
    plain = add("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    bold = add("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>")
    kids = []
    for page in pages:
        content = "".join(
            f"BT /F{2 if words.bold else 1} {words.size} Tf {words.x} {height - words.y} Td "
            f"({words.text.translate(escapes)}) Tj ET\n"
            for words in page
        ).encode("cp1252")
        stream = add(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
        kids.append(
            add(
                f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Rotate {rotate} "
                f"/Contents {stream} 0 R /Resources << /Font << /F1 {plain} 0 R /F2 {bold} 0 R >> >> >>"
            )
        )
    catalog = "<< /Type /Catalog /Pages 2 0 R"
    if outline:
        root = len(objects) + 1
        catalog += f" /Outlines {root} 0 R"
        add(
            f"<< /Type /Outlines /First {root + 1} 0 R /Last {root + len(outline)} 0 R "
            f"/Count {len(outline)} >>"
        )
        for i, (heading, page) in enumerate(outline):
            following = f" /Next {root + i + 2} 0 R" if i + 1 < len(outline) else ""
            add(f"<< /Title ({heading}) /Parent {root} 0 R /Dest [{kids[page - 1]} 0 R /Fit]{following} >>")
    objects[0] = f"{catalog} >>".encode()
    references = " ".join(f"{kid} 0 R" for kid in kids)
    objects[1] = f"<< /Type /Pages /Kids [{references}] /Count {len(kids)} >>".encode()
    info = add(f"<< /Title ({title}) >>")
    return assemble_pdf(objects, f"/Root 1 0 R /Info {info} 0 R")


def assemble_pdf(objects: Sequence[bytes], trailer: str) -> bytes:
    """Numbered objects with their cross-reference table."""
    data = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    data += f"trailer\n<< /Size {len(objects) + 1} {trailer} >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(data)


def make_zip(members: Mapping[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def assert_promises(document: ParsedDocument) -> None:
    """What every document promises, whatever it was made from."""
    text, position = document.text, 0
    assert document.blocks
    assert unicodedata.is_normalized("NFC", text)
    assert not {c for c in text if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"}
    for block in document.blocks:
        assert position <= block.start < block.end <= len(text), "blocks are in order and do not overlap"
        assert text[block.start : block.end].strip(), "a block has text"
        if block.boxes:
            num_lines = text.count("\n", block.start, block.end) + 1
            assert len(block.boxes) == num_lines, "a box a line"
            assert all(box.x0 <= box.x1 and box.y0 <= box.y1 and box.page >= 1 for box in block.boxes)
        position = block.end
    assert document.format
    assert document.parser


def text_of(document: ParsedDocument, block: Block) -> str:
    return document.text[block.start : block.end]


def outline_of(document: ParsedDocument) -> list[tuple[str, str]]:
    """(kind, text) of every block."""
    return [(block.kind, text_of(document, block)) for block in document.blocks]
