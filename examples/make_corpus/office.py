"""The Microsoft formats: minutes (docx), a maintenance plan (xlsx) and a training talk (pptx)."""

from __future__ import annotations

import io
from datetime import date
from pathlib import Path
from typing import Any

from .common import MADE_AT, freeze_zip
from .markup import read_pieces

TASKS: list[tuple[Any, ...]] = [
    ("Task", "Boat", "Every", "Hours of work", "Last done", "Next due", "Responsible"),
    ("Grease the motor bearings", "Wagtail", "2 weeks", 1.5, date(2025, 2, 11), date(2025, 2, 25), "Rehn"),
    (
        "Measure the insulation of the battery",
        "Wagtail",
        "1 month",
        3,
        date(2025, 2, 3),
        date(2025, 3, 3),
        "Rehn",
    ),
    ("Replace the ramp cables", "Wagtail", "3 years", 22, date(2024, 11, 9), date(2027, 11, 9), "Brook"),
    (
        "Paint the hull below the water line",
        "Wagtail",
        "2 years",
        64,
        date(2024, 11, 12),
        date(2026, 11, 12),
        "Tamm",
    ),
    ("Change the engine oil", "Dipper", "250 hours", 2, date(2024, 10, 30), date(2025, 4, 1), "Brook"),
    ("Check the larch planks for rot", "Dipper", "1 year", 8, date(2024, 12, 4), date(2025, 12, 4), "Pike"),
    ("Clean the fuel filter", "Bittern", "3 months", 1, date(2025, 1, 20), date(2025, 4, 20), "Tamm"),
    ("Test the life raft", "Bittern", "1 year", 4, date(2024, 6, 18), date(2025, 6, 18), "Ellery"),
]
PARTS: list[tuple[Any, ...]] = [
    ("Part number", "Part", "Shelf", "In stock", "Reorder at", "Price in pounds", "Supplier"),
    ("WT-0412", "Ramp cable, 14 mm, 60 m", "C2", 1, 1, 612.00, "Calder Wire"),
    ("WT-0538", "Coolant pump", "A1", 2, 1, 348.50, "Nordby Marine"),
    ("WT-0551", "Charging contact, copper", "A3", 12, 6, 57.20, "Nordby Marine"),
    ("DP-0107", "Oil filter", "B4", 9, 4, 8.90, "Gannet Chandlery"),
    ("DP-0220", "Propeller, three blades", "D1", 1, 1, 1140.00, "Hollin and Daughters"),
    ("BT-0033", "Glow plug", "B2", 6, 4, 14.75, "Gannet Chandlery"),
]


def write_docx(path: Path) -> None:
    """office/liaison-minutes.docx: minutes with headings, paragraphs, a bullet list and a table."""
    from docx import Document
    from docx.shared import Pt

    document = Document()
    document.styles["Normal"].font.name = "Calibri"
    document.styles["Normal"].font.size = Pt(11)
    properties = document.core_properties
    properties.title, properties.author = "Minutes of the ferry liaison meeting", "Priya Nand"
    properties.created = properties.modified = MADE_AT
    for piece in read_pieces("liaison-minutes"):
        match piece.kind:
            case "h1" | "h2":
                document.add_heading(piece.text, level=0 if piece.kind == "h1" else 1)
            case "bullets":
                for item in piece.items:
                    document.add_paragraph(item, style="List Bullet")
            case "table":
                table = document.add_table(rows=0, cols=len(piece.rows[0]), style="Light Grid Accent 1")
                for row in piece.rows:
                    for cell, text in zip(table.add_row().cells, row, strict=True):
                        cell.text = text
            case _:
                document.add_paragraph(piece.text)
    file = io.BytesIO()
    document.save(file)
    freeze_zip(file.getvalue(), path)


def write_xlsx(path: Path) -> None:
    """office/maintenance.xlsx: one sheet of tasks and one of spare parts."""
    from openpyxl import Workbook
    from openpyxl.styles import Font, PatternFill

    workbook = Workbook()
    workbook.properties.creator, workbook.properties.title = "Tobias Rehn", "Maintenance plan 2025"
    workbook.properties.created = workbook.properties.modified = MADE_AT
    for sheet, name, rows in (
        (workbook.active, "Schedule", TASKS),
        (workbook.create_sheet(), "Spare parts", PARTS),
    ):
        sheet.title = name
        for row in rows:
            sheet.append(row)
        for cell in sheet[1]:
            cell.font, cell.fill = Font(bold=True, color="FFFFFF"), PatternFill("solid", fgColor="14344A")
        for column in sheet.columns:
            sheet.column_dimensions[column[0].column_letter].width = 2 + max(
                len(str(cell.value)) for cell in column
            )
            for cell in column[1:]:
                if isinstance(cell.value, date):
                    cell.number_format = "d mmmm yyyy"
        sheet.freeze_panes = "A2"
    file = io.BytesIO()
    workbook.save(file)
    freeze_zip(file.getvalue(), path)


def write_pptx(path: Path) -> None:
    """office/skipper-training.pptx: a title slide, then bullets and a speaker's note a heading."""
    from pptx import Presentation
    from pptx.dml.color import RGBColor
    from pptx.util import Pt

    pieces = read_pieces("skipper-training")
    talk = Presentation()
    properties = talk.core_properties
    properties.title, properties.author = pieces[0].text, "Jonas Pike"
    properties.created = properties.modified = MADE_AT
    slide = talk.slides.add_slide(talk.slide_layouts[0])
    slide.shapes.title.text, slide.placeholders[1].text = pieces[0].text, pieces[1].text
    for piece in pieces[2:]:
        if piece.kind == "h2":
            slide = talk.slides.add_slide(talk.slide_layouts[1])
            slide.shapes.title.text = piece.text
            slide.shapes.title.text_frame.paragraphs[0].runs[0].font.color.rgb = RGBColor(0x14, 0x34, 0x4A)
        elif piece.kind == "bullets":
            frame = slide.placeholders[1].text_frame
            for number, item in enumerate(piece.items):
                paragraph = frame.paragraphs[0] if number == 0 else frame.add_paragraph()
                paragraph.text, paragraph.font.size = item, Pt(24)
        else:
            slide.notes_slide.notes_text_frame.text = piece.text
    file = io.BytesIO()
    talk.save(file)
    freeze_zip(file.getvalue(), path)
