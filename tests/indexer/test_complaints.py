"""What users of other systems complain about most, each made impossible here. One test a complaint."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pypdf
import pytest
from PIL import Image
from store_fakes import HashingEmbedder

from indexer import ingest as ingest_module
from indexer.errors import EmbedderMismatch, IndexCorrupt, IndexNotFound
from indexer.index import Index
from indexer.parsers import ParseOptions, ocr
from indexer.parsers.layout import Segment
from indexer.types import Chunk, IngestProgress
from indexer.worker_values import ParseLimits

sys.path.insert(0, str(Path(__file__).parent / "parsers"))  # for parsing_samples

from parsing_samples import Words, make_pdf

Answers = list[tuple[str, float]]


def query(text: str) -> np.ndarray:
    return HashingEmbedder().embed_queries([text])


def chunks_found(index: Index, text: str, k: int = 100) -> list[Chunk]:
    (hits,) = index.search(query(text), k)
    return index.chunks([hit.chunk_id for hit in hits])


def test_stuck_at_99_percent_with_no_resume(
    tmp_path: Path, corpus: Path, embedder: HashingEmbedder, monkeypatch: pytest.MonkeyPatch
):
    """The last file hangs whoever reads it: it is given up at its limit, listed, and costs the rest nothing.
    A run that was stopped is taken up where it was: no file is read again, and no text embedded.

    That this holds for `kill -9` at any moment is in test_durability.py.
    """
    library = tmp_path / "library"
    library.mkdir()
    hang = """
        import time
        def load_workbook(file, **options):
            time.sleep(1000)
    """
    (library / "openpyxl.py").write_text(textwrap.dedent(hang))
    monkeypatch.syspath_prepend(library)
    with zipfile.ZipFile(corpus / "zz-hangs.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "")
    monkeypatch.setattr(ingest_module, "WINDOW_FILES", 1)
    progress: list[IngestProgress] = []

    def stop(now: IngestProgress) -> None:
        if now.files_done == 2:
            raise KeyboardInterrupt

    with Index.open(tmp_path / "index", embedder=embedder) as index:
        with pytest.raises(KeyboardInterrupt):
            index.ingest([corpus], jobs=1, progress=stop)
        assert index.stats().files == {"indexed": 2}
        limits = ParseLimits(seconds=5)
        report = index.ingest([corpus], jobs=1, parse_limits=limits, progress=progress.append)
        assert (report.indexed, report.unchanged) == (1, 2)
        assert [failure.code for failure in report.failed] == ["parser-timed-out"]
        assert progress[-1].files_done == progress[-1].files_found == 4
        assert set(embedder.texts.values()) == {1}
        (status,) = index.doctor()
        assert (Path(status.uri).name, status.code) == ("zz-hangs.xlsx", "parser-timed-out")
        assert status.hint
        assert chunks_found(index, "herons")
        again = index.ingest([corpus], jobs=1, parse_limits=limits)
    assert (again.indexed, again.unchanged, again.embedded, len(again.failed)) == (0, 3, 0, 1)


def test_scanned_pdfs_that_silently_give_nothing(index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch):
    """What OCR reads in a scan is found on its page. Where it finds nothing, and where it is off, the file is
    a failure with a remedy; of a file that has text as well, the pages that were not read are named."""
    pictures = {"blank.pdf": Image.new("L", (600, 800), 255), "sky.pdf": Image.linear_gradient("L")}
    for name, picture in pictures.items():
        picture.resize((600, 800)).save(corpus / name, "PDF")
    mixed = pypdf.PdfWriter()
    lines = [Words(72, 80 + 14 * row, f"Row {row} of a page that has its text.") for row in range(9)]
    for data in (make_pdf([lines]), (corpus / "sky.pdf").read_bytes()):
        mixed.append(io.BytesIO(data))
    mixed.write(corpus / "mixed.pdf")

    nothing = ocr.OcrResult([], 0.0)
    monkeypatch.setattr(ocr, "read_picture", lambda image: nothing)
    for options, hint in ((ParseOptions(), "higher resolution"), (ParseOptions(ocr=False), "Switch OCR on")):
        report = index.ingest([corpus], parse_options=options)
        assert (report.indexed, report.partial) == (4, 1)
        assert [(Path(failure.uri).name, failure.code) for failure in report.failed] == [
            ("blank.pdf", "no-extractable-text"),
            ("sky.pdf", "no-extractable-text"),
        ]
        assert all(hint in failure.hint for failure in report.failed)
        assert [Path(status.uri).name for status in index.doctor()] == ["blank.pdf", "sky.pdf"]
        (partial,) = index.partial_files()
        assert Path(partial.uri).name == "mixed.pdf"
        assert partial.warnings[0].startswith("Page 2: ")

    said = ocr.OcrResult([Segment("The quay is closed for the winter", 10, 10, 200, 30, 20)], 0.99)
    monkeypatch.setattr(ocr, "read_picture", lambda image: said)
    report = index.ingest([corpus], retry_failed=True)
    assert (report.indexed, report.partial, len(report.failed)) == (5, 0, 1)
    found = {(Path(c.uri).name, c.page) for c in chunks_found(index, "quay") if "quay is closed" in c.text}
    assert found == {("sky.pdf", 1), ("mixed.pdf", 2)}


def test_deleted_files_still_retrieved(index: Index, corpus: Path):
    """Not by what has had the index open all along, by meaning or by words, and k results remain."""
    index.ingest([corpus])
    with Index.open(index.folder, read_only=True) as server:
        before = len(chunks_found(server, "herons nest by the pond"))
        (corpus / "heron.txt").unlink()
        assert index.ingest([corpus], prune=True).removed == 1
        after = chunks_found(server, "herons nest by the pond")
        assert len(after) == before - 1
        assert all("heron" not in chunk.uri for chunk in after)
        assert server.search_text(["herons"], 10) == [[]]
        for k in range(1, len(after) + 1):
            assert len(chunks_found(server, "herons nest by the pond", k)) == k
        assert server.verify().ok


def _cut_short(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _emptied(data: bytes) -> bytes:
    return b""


def _blanked_at_the_end(data: bytes) -> bytes:
    """As a loss of power leaves a file whose blocks were never written."""
    return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


def _with_a_bit_flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("tear", [_cut_short, _emptied, _blanked_at_the_end, _with_a_bit_flipped])
def test_torn_index_files(index: Index, corpus: Path, tmp_path: Path, tear: Callable[[bytes], bytes]):
    """Torn vectors are made anew from the catalog; a torn catalog is an error. Never a wrong answer."""
    index.ingest([corpus])
    expected = answers(index)
    index.close()
    for path in sorted(index.folder.iterdir()):
        if path.name == "writer.lock" or not path.stat().st_size:
            continue
        torn = tmp_path / "torn"
        shutil.copytree(index.folder, torn)
        (torn / path.name).write_bytes(tear(path.read_bytes()))
        if path.name.startswith("vectors"):
            with Index.open(torn, read_only=True) as opened:
                assert answers(opened) == expected, path.name
        else:
            assert path.name == "catalog.sqlite3"
            _check_torn_catalog(torn, expected)
        shutil.rmtree(torn)


def _check_torn_catalog(folder: Path, expected: Answers) -> None:
    """It cannot be opened or searched, or `verify` finds what is torn, or it was nothing that mattered."""
    with contextlib.suppress(IndexCorrupt, IndexNotFound), Index.open(folder, read_only=True) as opened:
        report = opened.verify()
        assert answers(opened) == expected or report.findings


def answers(index: Index) -> Answers:
    found = [(chunk.text, chunk.uri) for chunk in chunks_found(index, "ferry herons tide")]
    (hits,) = index.search(query("ferry herons tide"), 100)
    return [(f"{uri} {text}", hit.score) for (text, uri), hit in zip(found, hits, strict=True)]


def test_a_model_change_that_breaks_search_silently(index: Index, corpus: Path):
    """Another embedder is an error that names both and the way out, for ingests and searches alike."""
    index.ingest([corpus])
    other = HashingEmbedder("other-32")
    for read_only in (False, True):
        with pytest.raises(EmbedderMismatch) as refused:
            Index.open(index.folder, embedder=other, read_only=read_only)
        assert "hashing-32" in refused.value.message
        assert "other-32" in refused.value.message
        assert "ingest into a new index folder" in refused.value.hint
    assert chunks_found(index, "herons")[0].text == "Herons nest by the pond."


def test_citations_to_the_wrong_page(index: Index, corpus: Path):
    """Each word of the PDF is on one page only, paragraphs run on over its end: every chunk is of one page,
    holds only words of that page, and its boxes are there."""
    num_pages = 12
    pages = [
        [
            Words(72, 60 + 14 * row, " ".join(f"p{page}r{row}w{word}" for word in range(6)))
            for row in range(45)
        ]
        for page in range(1, num_pages + 1)
    ]
    (corpus / "pages.pdf").write_bytes(make_pdf(pages))
    index.ingest([corpus])
    seen = set()
    for chunk in chunks_found(index, "p3r1w1"):
        if chunk.uri.endswith("pages.pdf"):
            of_words = {int(word[1:].partition("r")[0]) for word in chunk.text.split()}
            assert of_words == {chunk.page} == {box.page for box in chunk.boxes}
            assert index.document_text(chunk.document_id)[chunk.start : chunk.end] == chunk.text
            seen.add(chunk.page)
    assert seen == set(range(1, num_pages + 1))
