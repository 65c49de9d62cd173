"""Files that are indexed, but not whole: counted by an ingest, and kept with what is missing."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

from indexer.index import Index


def archive_with_a_broken_file(note: str = "The mean wind is four knots.") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("note.txt", note)
        packed.writestr("broken.pdf", "%PDF-1.7\nnothing of a PDF\n%%EOF")
    return buffer.getvalue()


def test_a_file_that_is_not_whole_is_counted_and_told_with_what_is_missing(index: Index, corpus: Path):
    (corpus / "a.zip").write_bytes(archive_with_a_broken_file())
    report = index.ingest([corpus])
    assert (report.indexed, report.partial, report.failed) == (4, 1, ())
    (partial,) = index.partial_files()
    assert partial.uri == str(corpus / "a.zip")
    (warning,) = partial.warnings
    assert warning.startswith("broken.pdf: ")
    assert index.doctor() == [], "it is searchable"
    again = index.ingest([corpus])
    assert (again.unchanged, again.partial) == (4, 0), "what was not read again is not told again"
    assert index.partial_files() == [partial]


def test_a_copy_is_as_little_whole_as_the_file_is(index: Index, corpus: Path):
    (corpus / "a.zip").write_bytes(archive_with_a_broken_file())
    index.ingest([corpus])
    shutil.copy(corpus / "a.zip", corpus / "b.zip")
    report = index.ingest([corpus])
    assert (report.indexed, report.partial) == (1, 1)
    assert [Path(partial.uri).name for partial in index.partial_files()] == ["a.zip", "b.zip"]


def test_a_file_that_was_mended_is_whole(index: Index, corpus: Path):
    path = corpus / "a.zip"
    path.write_bytes(archive_with_a_broken_file())
    index.ingest([corpus])
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("note.txt", "The mean wind is four knots.")
    assert index.ingest([corpus]).partial == 0
    assert index.partial_files() == []
