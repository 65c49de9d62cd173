"""Where a chunk says it is, it is: in its document's text, and on the page inside its boxes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from harness import offsets

from indexer.index import Index
from indexer.parsers import ParseOptions

sys.path.insert(0, str(Path(__file__).parent / "parsers"))  # for parsing_samples

from parsing_samples import Words, make_pdf

CORPUS = Path(__file__).parents[2] / "examples" / "corpus"


def columns(page: int) -> list[Words]:
    """A page of two columns of words that no other place has, with a word that is broken at a line's end."""
    lines = []
    for column, x in enumerate((72, 330)):
        lines.append(Words(x, 80, f"Heading p{page}c{column}", size=16, bold=True))
        for row in range(12):
            text = " ".join(f"p{page}c{column}r{row}w{word}" for word in range(3))
            lines.append(Words(x, 110 + 14 * row, f"{text} har-" if row == 11 else text))
        lines.append(Words(x, 110 + 14 * 12, "bour master."))
    return lines


@pytest.fixture
def pdf(tmp_path: Path) -> Path:
    path = tmp_path / "pdfs" / "columns.pdf"
    path.parent.mkdir()
    path.write_bytes(make_pdf([columns(page) for page in range(1, 5)]))
    return path


def test_every_chunk_of_the_example_corpus_is_where_it_says(index: Index, parsed: list[str]):
    index.ingest([CORPUS], parse_options=ParseOptions(ocr=False))
    findings = offsets.check(index)
    assert findings.documents > 15
    assert findings.chunks > findings.documents
    assert findings.wrong == []
    assert findings.outside == []
    assert findings.pdf.chunks > 0


def test_the_words_of_a_pdf_lie_in_their_boxes_on_their_page(index: Index, pdf: Path):
    index.ingest([pdf])
    findings = offsets.check(index)
    assert findings.wrong == []
    assert findings.outside == []
    assert findings.pdf.chunks == findings.chunks >= 8
    assert findings.pdf.words >= 4 * 2 * 36
    assert findings.pdf.share_inside == 1
    assert findings.pdf.share_of_boxes > 0.95


def test_only_the_files_below_the_folders_are_looked_at(index: Index, pdf: Path, corpus: Path):
    index.ingest([pdf, corpus])
    assert offsets.check(index).documents == 4
    assert offsets.check(index, [corpus]).documents == 3
    assert offsets.check(index, [pdf.parent / "columns"]).documents == 0


def test_the_check_would_notice_words_outside_their_boxes_and_boxes_on_another_page(
    index: Index, pdf: Path, monkeypatch: pytest.MonkeyPatch
):
    index.ingest([pdf])
    real = offsets.catalog_reader.load_chunks

    def moved(connection: object, ids: object) -> list:
        import dataclasses

        chunks = real(connection, ids)
        shift = [box._replace(y0=box.y0 + 300, y1=box.y1 + 300) for box in chunks[0].boxes]
        chunks[0] = dataclasses.replace(chunks[0], boxes=tuple(shift))
        turned = [box._replace(page=box.page + 1) for box in chunks[1].boxes]
        chunks[1] = dataclasses.replace(chunks[1], boxes=tuple(turned), start=chunks[1].start + 1)
        page = [box._replace(x0=0, y0=0, x1=612, y1=792) for box in chunks[2].boxes]
        twice = f"{chunks[2].text} {max(chunks[2].text.split(), key=len)}"
        chunks[2] = dataclasses.replace(chunks[2], boxes=tuple(page[:1]), text=twice)
        return chunks

    monkeypatch.setattr(offsets.catalog_reader, "load_chunks", moved)
    findings = offsets.check(index)
    assert len(findings.outside) == 2  # one is elsewhere, one has a word once too often
    assert [line.rpartition(" ")[2] for line in findings.wrong] == ["text", "[2]", "text"]
    assert findings.pdf.share_inside < 1
    assert findings.pdf.share_of_boxes < 0.95  # the boxes of one are the whole page


def test_folding_undoes_ligatures_case_and_breaks():
    assert offsets.folded("ofﬁce-\nHours 2") == "officehours2"
