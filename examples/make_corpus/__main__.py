"""Write every binary file of the corpus, or those whose names are given."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

from . import books, handbook, inspection, office, photos
from .common import MADE_AT

CORPUS = Path(__file__).resolve().parent.parent / "corpus"
MAKERS: dict[str, Callable[[Path], None]] = {
    "handbook.pdf": handbook.write,
    "archive/inspection-1931.pdf": inspection.write,
    "archive/short-history.epub": books.write_epub,
    "office/galley-recipes.odt": books.write_odt,
    "office/liaison-minutes.docx": office.write_docx,
    "office/maintenance.xlsx": office.write_xlsx,
    "office/skipper-training.pptx": office.write_pptx,
    "photos/quay-notice.jpg": photos.write_notice,
    "photos/chandlery-receipt.jpg": photos.write_receipt,
    "photos/charger-terminal.png": photos.write_terminal,
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in MAKERS]
    if unknown:
        print(f"No such file: {', '.join(unknown)}. Choose from: {', '.join(MAKERS)}.", file=sys.stderr)
        return 2
    made_at = MADE_AT.replace(tzinfo=UTC).timestamp()
    os.environ["SOURCE_DATE_EPOCH"] = str(int(made_at))  # what reportlab dates its files with
    for name in names or MAKERS:
        path = CORPUS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        MAKERS[name](path)
        print(f"{path.stat().st_size:9,} bytes  {name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
