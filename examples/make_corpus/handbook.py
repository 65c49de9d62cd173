"""handbook.pdf: the operations handbook, a digital PDF of six pages with an outline, tables and real text."""

from __future__ import annotations

import re
from pathlib import Path

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    HRFlowable,
    ListFlowable,
    ListItem,
    NextPageTemplate,
    PageBreak,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)

from .common import font_path
from .markup import Piece, read_pieces

NAVY = colors.HexColor("#14344a")
TEAL = colors.HexColor("#2c7a86")
PALE = colors.HexColor("#e8f0f2")

BODY = ParagraphStyle("body", fontName="Serif", fontSize=10.2, leading=15, spaceAfter=7)
STYLES = {
    "text": BODY,
    "h1": ParagraphStyle("h1", fontName="Sans-Bold", fontSize=19, leading=24, textColor=NAVY, spaceAfter=10),
    "h2": ParagraphStyle(
        "h2", fontName="Sans-Bold", fontSize=12.5, leading=17, textColor=TEAL, spaceBefore=9, spaceAfter=4
    ),
    "cell": ParagraphStyle("cell", fontName="Sans", fontSize=8.6, leading=11.5),
    "head": ParagraphStyle("head", fontName="Sans-Bold", fontSize=8.6, leading=11.5, textColor=colors.white),
    "caption": ParagraphStyle(
        "caption", fontName="Sans", fontSize=8.4, leading=12, textColor=TEAL, spaceAfter=9
    ),
}


class Handbook(BaseDocTemplate):
    """The template: a cover, then pages with header and footer; each heading gets an outline entry."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            str(path),
            pagesize=A4,
            invariant=1,
            lang="en",
            title="Operations Handbook, seventh edition",
            author="Senn Ferry Company",
            subject="Rules for the ferries between Marrowick and Kestle Quay",
        )
        width, height = A4
        edges = {"leftPadding": 0, "rightPadding": 0, "topPadding": 0, "bottomPadding": 0}
        cover = Frame(24 * mm, 24 * mm, width - 48 * mm, 128 * mm, id="cover", **edges)
        page = Frame(24 * mm, 24 * mm, width - 48 * mm, height - 54 * mm, id="page", **edges)
        self.addPageTemplates(
            [
                PageTemplate("cover", [cover], onPage=_draw_cover),
                PageTemplate("page", [page], onPage=_draw_margins),
            ]
        )

    def afterFlowable(self, flowable: Flowable) -> None:
        """Reportlab's hook: put each heading into the outline."""
        if isinstance(flowable, Paragraph) and flowable.style.name in ("h1", "h2"):
            title = flowable.getPlainText()
            key = f"heading-{self.seq.nextf('heading')}"
            self.canv.bookmarkPage(key)
            self.canv.addOutlineEntry(title, key, level=0 if flowable.style.name == "h1" else 1)


def _draw_cover(canvas: Canvas, _: BaseDocTemplate) -> None:
    width, height = A4
    canvas.setFillColor(NAVY)
    canvas.rect(0, height - 128 * mm, width, 128 * mm, stroke=0, fill=1)
    canvas.setFillColor(TEAL)
    for row in range(3):  # the river: three bands of waves
        base = height - (104 + 9 * row) * mm
        path = canvas.beginPath()
        path.moveTo(0, base)
        for step in range(12):
            x = step * 18 * mm
            rise = 4 * mm if step % 2 else -4 * mm
            path.curveTo(x + 6 * mm, base + rise, x + 12 * mm, base + rise, x + 18 * mm, base)
        path.lineTo(width + 20 * mm, base - 6 * mm)
        path.lineTo(0, base - 6 * mm)
        path.close()
        canvas.drawPath(path, stroke=0, fill=1)
    canvas.setFillColor(colors.white)
    canvas.setFont("Sans", 12)
    canvas.drawString(24 * mm, height - 38 * mm, "SENN FERRY COMPANY")
    canvas.setFont("Sans-Bold", 33)
    canvas.drawString(24 * mm, height - 58 * mm, "Operations Handbook")
    canvas.setFont("Serif", 13)
    canvas.drawString(24 * mm, height - 70 * mm, "Seventh edition, in force from 1 March 2025")
    canvas.setFillColor(NAVY)
    canvas.setFont("Sans", 8.5)
    canvas.drawString(24 * mm, 14 * mm, "Copy 12 of 40. Kept in the wheelhouse of the Wagtail.")


def _draw_margins(canvas: Canvas, document: BaseDocTemplate) -> None:
    width, height = A4
    canvas.setStrokeColor(TEAL)
    canvas.setLineWidth(0.6)
    canvas.line(24 * mm, height - 20 * mm, width - 24 * mm, height - 20 * mm)
    canvas.setFont("Sans", 8)
    canvas.setFillColor(NAVY)
    canvas.drawString(24 * mm, height - 17.5 * mm, "Senn Ferry Company")
    canvas.drawRightString(width - 24 * mm, height - 17.5 * mm, "Operations Handbook, seventh edition")
    canvas.drawRightString(width - 24 * mm, 14 * mm, f"Page {document.page}")


def _rich(text: str) -> str:
    """Markdown's *italic* and **bold** as the tags that reportlab reads."""
    return re.sub(r"\*(.+?)\*", r"<i>\1</i>", re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text))


def _table(rows: tuple[tuple[str, ...], ...]) -> list[Flowable]:
    cells = [
        [Paragraph(text, STYLES["cell" if number else "head"]) for text in row]
        for number, row in enumerate(rows)
    ]
    needed = [
        max(stringWidth(text, "Sans-Bold", 8.6) for text in column) for column in zip(*rows, strict=True)
    ]
    spare = (A4[0] - 48 * mm - sum(needed)) / len(needed)
    table = Table(cells, colWidths=[width + spare for width in needed], repeatRows=1, hAlign="LEFT")
    table.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, 0), NAVY),
                ("ROWBACKGROUNDS", (0, 1), (-1, -1), [colors.white, PALE]),
                ("LINEBELOW", (0, -1), (-1, -1), 0.8, NAVY),
                ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
                ("TOPPADDING", (0, 0), (-1, -1), 4),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 4),
            ]
        )
    )
    return [Spacer(1, 4), table, Spacer(1, 3)]


def _steps(items: tuple[str, ...]) -> list[Flowable]:
    steps = ListFlowable(
        [ListItem(Paragraph(_rich(item), BODY), leftIndent=18) for item in items],
        bulletType="1",
        bulletFormat="%s.",
        bulletFontName="Sans-Bold",
        bulletFontSize=9.5,
        bulletColor=TEAL,
        leftIndent=18,
    )
    return [steps, Spacer(1, 4)]


def _flowables(piece: Piece) -> list[Flowable]:
    match piece.kind:
        case "table":
            return _table(piece.rows)
        case "steps":
            return _steps(piece.items)
        case "line":
            return [Spacer(1, 26), HRFlowable(width="70%", thickness=0.6, color=NAVY, hAlign="LEFT")]
        case kind:
            return [Paragraph(_rich(piece.text), STYLES[kind])]


def write(path: Path) -> None:
    """Write the handbook; each heading of the first level begins a page."""
    fonts = {
        "Sans": "DejaVuSans",
        "Sans-Bold": "DejaVuSans-Bold",
        "Serif": "DejaVuSerif",
        "Serif-Italic": "DejaVuSerif-Italic",
    }
    for name, font in fonts.items():
        pdfmetrics.registerFont(TTFont(name, font_path(font)))
    pdfmetrics.registerFontFamily("Serif", normal="Serif", bold="Sans-Bold", italic="Serif-Italic")
    story: list[Flowable] = []
    for piece in read_pieces("handbook"):
        if piece.kind == "h1" and story:
            story += [NextPageTemplate("page"), PageBreak()]
        story += _flowables(piece)
    Handbook(path).build(story)
