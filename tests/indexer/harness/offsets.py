"""Ingests a folder and checks where every chunk says it is: in its document's text, and on its page.

    PYTHONPATH=tests/indexer python -m harness.offsets FOLDER... [--files N | --index DIR] [--record]

For every chunk, the document's normalised text at [start:end) must be the chunk's text, and all its boxes
must be on its page. For PDFs, the words of the chunk are looked for in what pdfium finds inside the chunk's
boxes, each as often as the chunk has it; pages that are turned, and scans, are counted and not looked at.
PDFs of which a page or a picture was read by OCR or by pypdf have a count of their own: pdfium knows no
words of pictures, and not those of a text layer that does not say what the page shows. With `--index`, the
files are in that index already, such as the torture's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium
from store_fakes import HashingEmbedder

from harness import figures
from indexer import catalog_reader
from indexer.index import Index
from indexer.parsers import ParseOptions
from indexer.parsers.pdf_annotations import AnnotationReader
from indexer.types import Box, Chunk

# Of the words of PDFs that must lie in their boxes. Some whose letters are set far apart are not found there.
LEAST_SHARE = 0.9998
_SLACK = 1.5  # points: a glyph may reach a little out of its line
_FEW_CHARACTERS = 40  # on a page that is a scan


@dataclass(slots=True)
class WordsInBoxes:
    """Words of chunks with boxes, looked for in their boxes."""

    chunks: int = 0
    words: int = 0
    words_outside: int = 0
    characters: int = 0  # letters and digits of those chunks
    characters_in_boxes: int = 0  # and of all that lies in their boxes

    @property
    def share_inside(self) -> float:
        """Of the words."""
        return 1 - self.words_outside / self.words if self.words else 1.0

    @property
    def share_of_boxes(self) -> float:
        """How much of what lies in the boxes is of the chunks: little, if they were drawn too large."""
        return self.characters / self.characters_in_boxes if self.characters_in_boxes else 1.0


@dataclass(slots=True)
class Findings:
    """What was looked at, and what was wrong."""

    documents: int = 0
    chunks: int = 0
    pdf: WordsInBoxes = field(default_factory=WordsInBoxes)
    pdf_read_otherwise: WordsInBoxes = field(default_factory=WordsInBoxes)  # of some page or picture
    pdf_chunks_not_looked_at: int = 0
    wrong: list[str] = field(default_factory=list)  # offsets and pages
    outside: list[str] = field(default_factory=list)  # the chunks without OCR with words outside their boxes


def check(index: Index, folders: Sequence[Path] = (Path("/"),)) -> Findings:
    """Look at every chunk of the files below some folders, which must still be as they were."""
    findings = Findings()
    for read_otherwise, chunks in _documents(index):
        paths = [Path(uri) for uri in chunks[0].uris]
        here = [path for path in paths if any(path.is_relative_to(folder) for folder in folders)]
        if not here:
            continue
        findings.documents += 1
        findings.chunks += len(chunks)
        _check_text(index.document_text(chunks[0].document_id), chunks, findings)
        if here[0].suffix.lower() == ".pdf":
            _check_pdf(here[0], chunks, findings, read_otherwise=read_otherwise)
    return findings


def _documents(index: Index) -> Iterator[tuple[bool, list[Chunk]]]:
    """Of one document after the other whether anything but pdfium's text layer was read, and its chunks."""
    with index.catalog.read() as connection:
        rows = connection.execute(
            "SELECT document, parser, metadata, chunks.id FROM chunks"
            " JOIN documents ON documents.rowid = document ORDER BY document, ordinal"
        ).fetchall()
        for (_, parser, metadata), group in itertools.groupby(rows, key=lambda row: row[:3]):
            read_otherwise = parser != "pypdfium2" or "pypdf_pages" in json.loads(metadata)
            yield read_otherwise, catalog_reader.load_chunks(connection, [row[-1] for row in group])


def _check_text(text: str, chunks: Iterable[Chunk], findings: Findings) -> None:
    for chunk in chunks:
        if text[chunk.start : chunk.end] != chunk.text:
            findings.wrong.append(f"{chunk.uri} [{chunk.start}:{chunk.end}) is other text")
        pages = {box.page for box in chunk.boxes}
        if pages - {chunk.page}:
            findings.wrong.append(f"{chunk.uri} page {chunk.page}: boxes on {sorted(pages)}")


def _check_pdf(path: Path, chunks: Sequence[Chunk], findings: Findings, *, read_otherwise: bool) -> None:
    with pypdfium2.PdfDocument(path) as pdf:
        annotations = AnnotationReader(pdf)
        for page_number, group in itertools.groupby(chunks, key=lambda chunk: chunk.page):
            on_page = list(group)
            if page_number is None and pdf.count_attachments() and not any(c.boxes for c in on_page):
                continue  # what is attached to the file is on none of its pages
            if page_number is None or not 1 <= page_number <= len(pdf):
                findings.wrong.append(f"{path}: there is no page {page_number}")
                continue
            page = pdf[page_number - 1]
            letters = _Letters.of(page)
            if page.get_rotation() or len(letters.text) < _FEW_CHARACTERS:
                findings.pdf_chunks_not_looked_at += len(on_page)
                continue
            # Comments, form fields and addresses of links stand on the page without being part of it.
            noted = (*annotations.lines(page, page_number), *annotations.links(page, page_number, ""))
            beside = folded("".join(text for text, _ in noted))
            for chunk in on_page:
                _check_words(letters, beside, chunk, findings, read_otherwise=read_otherwise)


def _check_words(
    letters: _Letters, beside: str, chunk: Chunk, findings: Findings, *, read_otherwise: bool
) -> None:
    if not chunk.boxes:
        findings.pdf_chunks_not_looked_at += 1
        return
    found = findings.pdf_read_otherwise if read_otherwise else findings.pdf
    inside = folded(letters.inside(chunk.boxes))
    words = Counter(word for word in map(folded, chunk.text.split()) if word)
    missing = {word: count - inside.count(word) - beside.count(word) for word, count in words.items()}
    outside = [word for word, count in missing.items() for _ in range(count)]
    found.chunks += 1
    found.words += words.total()
    found.words_outside += len(outside)
    found.characters += len(folded(chunk.text))
    found.characters_in_boxes += len(inside)
    if outside and not read_otherwise:
        findings.outside.append(f"{chunk.uri} page {chunk.page}: {' '.join(outside[:8])}")


@dataclass(frozen=True, slots=True)
class _Letters:
    """What is printed on a page in the order in which pdfium gives them, and where their middles are."""

    text: str
    x: np.ndarray  # (n,) points, from the left
    y: np.ndarray  # (n,) points, from the top

    @classmethod
    def of(cls, page: pypdfium2.PdfPage) -> Self:
        left, _, _, top = page.get_bbox()
        textpage = page.get_textpage()
        letters, middles = [], []
        for index in range(textpage.count_chars()):
            letter = chr(pdfium.FPDFText_GetUnicode(textpage, index))
            if not letter.isspace():
                x0, y0, x1, y1 = textpage.get_charbox(index)
                letters.append(letter)
                middles.append(((x0 + x1) / 2 - left, top - (y0 + y1) / 2))
        x, y = np.array(middles, float).reshape(-1, 2).T
        return cls("".join(letters), x, y)

    def inside(self, boxes: Iterable[Box]) -> str:
        """What is in any of some boxes."""
        found = np.zeros(len(self.text), bool)
        for box in boxes:
            found |= (
                (self.x >= box.x0 - _SLACK)
                & (self.x <= box.x1 + _SLACK)
                & (self.y >= box.y0 - _SLACK)
                & (self.y <= box.y1 + _SLACK)
            )
        return "".join(itertools.compress(self.text, found))


def folded(text: str) -> str:
    """Letters and digits only, without case or ligatures: words may be broken and put together otherwise."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text)).casefold()


def main() -> int:
    parser = argparse.ArgumentParser(prog="harness.offsets", description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--files", type=int, default=None, help="take a sample of this many files")
    parser.add_argument("--index", type=Path, default=None, help="where the files have been ingested")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--no-ocr", action="store_true")
    parser.add_argument("--record", action="store_true", help="write the figures into docs/reliability.md")
    arguments = parser.parse_args()
    folders = [folder.resolve() for folder in arguments.folders]
    started = time.perf_counter()
    if arguments.index is not None:
        with Index.open(arguments.index, read_only=True) as index:
            findings = check(index, folders)
    else:
        findings = _check_anew(folders, arguments)
    pdf, otherwise = findings.pdf, findings.pdf_read_otherwise
    lines = [
        f"{findings.chunks:,} chunks of {findings.documents:,} documents: {len(findings.wrong)} with a wrong"
        " place.",
        f"{pdf.chunks:,} chunks of PDFs: {pdf.share_inside:.2%} of {pdf.words:,} words lie inside their"
        f" chunk's boxes, and {pdf.share_of_boxes:.2%} of what lies in the boxes is of the chunks.",
        f"{otherwise.chunks:,} chunks of PDFs of which a page or a picture was read by OCR or by pypdf:"
        f" {otherwise.share_inside:.2%} of {otherwise.words:,} words are in the text layer inside their"
        " boxes; it has no words of pictures.",
        f"{findings.pdf_chunks_not_looked_at:,} more chunks are on turned pages or scans, or have no boxes.",
        f"{time.perf_counter() - started:,.0f} s.",
    ]
    print(*lines, sep="\n")
    print(*findings.outside[:50], *findings.wrong, sep="\n", file=sys.stderr)
    summary = {
        "chunks": findings.chunks,
        "wrong": len(findings.wrong),
        "share_inside": round(pdf.share_inside, 5),
        "share_of_boxes": round(pdf.share_of_boxes, 5),
    }
    print(json.dumps({"harness": "offsets", **summary}))
    if arguments.record:
        figures.record("offsets", lines)
    return 1 if findings.wrong or pdf.share_inside < LEAST_SHARE else 0


def _check_anew(folders: Sequence[Path], arguments: argparse.Namespace) -> Findings:
    """Ingest the files, or a sample of them, and look."""
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    if arguments.files is not None:
        paths = random.Random(arguments.seed).sample(paths, min(arguments.files, len(paths)))
    with (
        tempfile.TemporaryDirectory() as folder,
        Index.open(Path(folder) / "index", embedder=HashingEmbedder()) as index,
    ):
        index.ingest(paths, jobs=arguments.jobs, parse_options=ParseOptions(ocr=not arguments.no_ocr))
        return check(index)


if __name__ == "__main__":
    sys.exit(main())
