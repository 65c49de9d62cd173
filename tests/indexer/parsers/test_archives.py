"""Archives: what is in them is read, within bounds, and their names lead nowhere."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness import bombs
from hypothesis import given
from hypothesis import strategies as st
from parsing_samples import Words, assert_promises, make_pdf, make_zip, outline_of

from indexer.chunking import chunk_document
from indexer.parsers import ParseError, ParseOptions, allowance, members, parse
from indexer.parsers.detect import detect_format
from indexer.parsers.errors import (
    DecompressionBomb,
    DocumentTooLarge,
    MalformedFile,
    NestedTooDeep,
    NoExtractableText,
    TruncatedFile,
)
from indexer.parsers.formats import extension_of, name_in_document
from indexer.tokenization import ChunkTokenizer
from indexer.types import ParsedDocument

Read = Callable[..., ParsedDocument]
MIB = 1 << 20
FILES = {
    "notes/ferry.md": b"# Ferry\n\nIt leaves at nine.\n",
    "src/tide.py": b"def tide(hour):\n    return 2.0 * hour\n",
    "logo.bin": bytes(range(256)) * 4,
}


def make_tar(files: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in more:
            tar.addfile(info)
    return buffer.getvalue()


def zeros(num_bytes: int, pack: Callable[[bytes], bytes]) -> bytes:
    return pack(make_tar({"zeros.txt": bytes(num_bytes)}))


PACKED = {
    "a.zip": make_zip(FILES),
    "a.tar": make_tar(FILES),
    "a.tar.gz": gzip.compress(make_tar(FILES)),
    "a.tgz": gzip.compress(make_tar(FILES)),
    "a.tar.bz2": bz2.compress(make_tar(FILES)),
    "a.tar.xz": lzma.compress(make_tar(FILES)),
}


@pytest.mark.parametrize("name", PACKED)
def test_each_file_in_an_archive_is_below_a_heading_of_its_path(name: str, read: Read) -> None:
    document = read(PACKED[name], name)
    assert outline_of(document) == [
        ("heading", "notes/ferry.md"),
        ("heading", "Ferry"),
        ("text", "It leaves at nine."),
        ("heading", "src/tide.py"),
        ("code", "def tide(hour):\n    return 2.0 * hour"),
    ]
    assert [block.level for block in document.blocks[:4]] == [1, 2, 0, 1]
    assert document.blocks[-1].name == "tide"
    assert document.blocks[-1].signature == "def tide(hour)"
    assert (document.format, document.parser) == (name[2:5].replace("tgz", "tar"), "archive")
    assert (document.metadata["files"], document.metadata["other_files"]) == ("2", "1")
    assert document.warnings == ()


def test_a_citation_names_the_file_in_the_archive(read: Read, minilm_tokenizer: ChunkTokenizer) -> None:
    drafts = chunk_document(read(PACKED["a.zip"], "a.zip"), minilm_tokenizer, max_tokens=256)
    assert [draft.heading_path for draft in drafts] == [
        ("notes/ferry.md", "Ferry"),
        ("src/tide.py",),
    ]


def test_documents_in_archives_are_read_as_they_are_outside(read: Read) -> None:
    pdf = make_pdf([[Words(72, 100, "The mean wind in the harbour is four knots, the record says.")]])
    broken = pdf[:200]
    document = read(
        make_zip({"a.pdf": pdf, "b.pdf": broken, "c.doc": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"}), "a.zip"
    )
    assert "four knots" in document.text
    assert [warning.partition(":")[0] for warning in document.warnings] == ["b.pdf", "c.doc"]


def test_archives_in_archives_are_read_to_the_second(read: Read) -> None:
    inner = make_zip({"deep.txt": b"Herons nest by the pond."})
    for _ in range(2):
        inner = make_zip({"in.zip": inner, "note.txt": b"Here is a note."})
    document = read(inner, "a.zip")
    assert [text for kind, text in outline_of(document) if kind == "heading"] == [
        "in.zip",
        "note.txt",
        "note.txt",
    ]
    assert "Herons" not in document.text
    assert any("nested too deep" in warning for warning in document.warnings)


def test_an_archive_that_is_attached_to_a_mail_is_read(read: Read) -> None:
    import email.message

    message = email.message.EmailMessage()
    message["Subject"] = "Tides"
    message.set_content("See the archive.")
    message.add_attachment(PACKED["a.zip"], maintype="application", subtype="zip", filename="a.zip")
    document = read(message.as_bytes(), "a.eml")
    assert "It leaves at nine." in document.text


def test_paths_in_archives_are_shown_and_never_used(read: Read, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [
        "../../escape.txt",
        "/etc/absolute.txt",
        "C:\\windows.txt",
        "a\x00b\u202e.txt",
        "x" * 3000 + ".txt",
    ]
    for data, name in (
        (make_tar({name.replace("\x00", ""): b"text here" for name in names}), "a.tar"),
        (make_zip(dict.fromkeys(names, b"text here")), "a.zip"),
    ):
        document = read(data, name)
        headings = [text for kind, text in outline_of(document) if kind == "heading"]
        assert headings[:3] == ["../../escape.txt", "etc/absolute.txt", "C:/windows.txt"]
        assert max(map(len, headings)) < 600
    assert list(tmp_path.iterdir()) == []


def test_links_devices_and_encrypted_files_are_left_out_with_a_warning(read: Read) -> None:
    def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        return info

    tar = make_tar(
        {"a.txt": b"A line."},
        special("link.txt", tarfile.SYMTYPE, "/etc/passwd"),
        special("hard.txt", tarfile.LNKTYPE, "a.txt"),
        special("pipe.txt", tarfile.FIFOTYPE),
    )
    document = read(tar, "a.tar")
    assert document.text == "a.txt\n\nA line."
    assert document.warnings == (
        "link.txt: it is a link.",
        "hard.txt: it is a link.",
        "pipe.txt: it is no ordinary file.",
    )
    plain = bytearray(make_zip({"a.txt": b"A line.", "secret.txt": b"hidden"}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags, of the second member
        plain[plain.index(mark, plain.index(mark) + 1) + offset] |= 1
    assert read(bytes(plain), "a.zip").warnings == ("secret.txt: it is encrypted.",)
    link = zipfile.ZipInfo("link.txt")
    link.external_attr = 0o120777 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("a.txt", "A line.")
        packed.writestr(link, "/etc/passwd")
    assert read(buffer.getvalue(), "a.zip").warnings == ("link.txt: it is a link.",)


def test_what_systems_hide_in_archives_is_left_out(read: Read) -> None:
    files = {"__MACOSX/._a.txt": b"junk", ".git/config": b"junk", "b/.DS_Store": b"junk", "empty.txt": b""}
    document = read(make_zip({**files, "a.txt": b"A line."}), "a.zip")
    assert document.text == "a.txt\n\nA line."
    assert document.warnings == ()


# --- limits


BOMBS = {
    "a.zip": lambda: make_zip({"spaces.txt": b" " * (120 * MIB)}),
    "a.tar.gz": lambda: zeros(120 * MIB, gzip.compress),
    "a.tar.bz2": lambda: zeros(40 * MIB, bz2.compress),
    "a.tar.xz": lambda: zeros(40 * MIB, lzma.compress),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_without_being_held_unpacked(name: str) -> None:
    data = BOMBS[name]()
    tracemalloc.start()
    try:
        with pytest.raises(DecompressionBomb) as failure:
            parse(data, name=name)
        assert tracemalloc.get_traced_memory()[1] < 90 * MIB, "some copies of the first 16"
    finally:
        tracemalloc.stop()
    assert failure.value.hint


def test_an_archive_of_folders_alone_is_left_after_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_MEMBERS", 5)
    folder = tarfile.TarInfo("folder")
    folder.type = tarfile.DIRTYPE
    with pytest.raises(NoExtractableText, match="Only the first"):
        parse(make_tar({}, *[folder] * 9), name="a.tar")


def test_streams_that_were_put_one_after_the_other_are_one(read: Read) -> None:
    tar = make_tar(FILES)
    middle = len(tar) // 2
    data = b"".join([gzip.compress(tar[:middle]), gzip.compress(b""), gzip.compress(tar[middle:])])
    assert (
        read(data, "a.tar.gz") == read(data + bytes(512), "a.tar.gz") == read(PACKED["a.tar.gz"], "a.tar.gz")
    )


def test_zips_in_zips_in_zips_are_not_followed() -> None:
    with pytest.raises(NoExtractableText, match="nested too deep"):
        parse(bombs.BOMBS["nested zips.zip"](), name="nested.zip")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_beyond_its_limits_the_rest_of_an_archive_is_left_out_with_a_warning(
    name: str, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{number}.txt": f"This is note {number}. ".encode() * 100 for number in range(6)}
    data = {"a.zip": make_zip(files), "a.tar": make_tar(files)}.get(name) or gzip.compress(make_tar(files))
    document = read(data, name, max_unpacked_bytes=8_000)
    assert "note 1." in document.text
    assert "note 5." not in document.text
    assert "to too much" in document.warnings[-1]
    document = read(data, name, max_characters=6_000)
    assert "note 5." not in document.text
    assert "too much text" in document.warnings[-1]
    document = read(data, name, max_bytes=max(len(data), 2_000))
    monkeypatch.setattr(members, "MAX_MEMBERS", 2)
    document = read(data, name)
    assert document.metadata["files"] == "2"
    assert "the first" in document.warnings[-1]


def test_an_archive_stops_when_it_takes_too_long(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 40))
    monkeypatch.setattr(allowance, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    document = read(make_zip({f"{n}.txt": b"A note." for n in range(9)}), "a.zip", soft_seconds=90.0)
    assert document.warnings == ("1.txt and what follows was not read: it took too long.",)


def test_pages_of_ocr_are_counted_over_the_whole_archive(monkeypatch: pytest.MonkeyPatch, read: Read) -> None:
    from PIL import Image

    from indexer.parsers import ocr
    from indexer.parsers.layout import Segment

    def read_picture(picture: Image.Image) -> ocr.OcrResult:
        return ocr.OcrResult([Segment("Ferry at nine", 2, 2, 20, 9, 8)], 0.99)

    monkeypatch.setattr(ocr, "read_picture", read_picture)
    buffer = io.BytesIO()
    Image.new("RGB", (30, 12), "white").save(buffer, "PNG")
    data = make_zip({f"{number}.png": buffer.getvalue() for number in range(4)})
    announced: list[int] = []
    options = ParseOptions(max_ocr_pages=2)
    document = parse(data, name="a.zip", options=options, before_ocr_page=lambda: announced.append(1))
    assert len(announced) == 2
    assert document.metadata["files"] == "2"
    assert [warning[:6] for warning in document.warnings] == ["2.png:", "3.png:"]


def test_a_sparse_file_is_not_filled_with_the_zeros_it_announces(read: Read) -> None:
    info = tarfile.TarInfo("sparse.txt")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
    info.size = 512
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(b"1\n0\n1\n".ljust(512, b"\0")))
        note = tarfile.TarInfo("a.txt")
        note.size = 7
        tar.addfile(note, io.BytesIO(b"A line."))
    assert read(buffer.getvalue(), "a.tar").text == "a.txt\n\nA line."


# --- damage


def test_of_a_damaged_archive_the_part_before_the_damage_is_read(read: Read) -> None:
    files = {
        f"{number}.txt": f"Note {number}. ".encode() + os.urandom(3000).hex().encode() for number in range(9)
    }
    for data, name in ((make_tar(files), "a.tar"), (gzip.compress(make_tar(files)), "a.tar.gz")):
        document = read(data[: len(data) // 2], name)
        assert "Note 1." in document.text
        assert "damaged or cut short" in document.warnings[-1]
    with pytest.raises(TruncatedFile):
        parse(PACKED["a.zip"][:-100], name="a.zip")
    with pytest.raises(TruncatedFile):
        parse(PACKED["a.tar.gz"][:20], name="a.tar.gz")
    with pytest.raises(MalformedFile):
        parse(gzip.compress(b"no tar at all " * 100), name="a.tgz")
    with pytest.raises(MalformedFile):
        parse(b"\x00\xff\xfe" * 2000, name="a.tar")


def test_an_archive_without_a_document_is_a_failure_that_says_why() -> None:
    with pytest.raises(NoExtractableText, match="no file that could be read"):
        parse(make_zip({"logo.bin": FILES["logo.bin"]}), name="a.zip")
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "a"
    with pytest.raises(NoExtractableText, match="it is a link"):
        parse(make_tar({}, link), name="a.tar")


@given(st.sampled_from(sorted(PACKED)), st.data())
def test_whatever_is_changed_in_an_archive_it_is_a_document_or_a_typed_failure(name: str, data) -> None:
    damaged = bytearray(PACKED[name])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(len(damaged) // 2, len(damaged))) :]
    with contextlib.suppress(ParseError):
        assert_promises(parse(bytes(damaged), name=name))


# --- what is an archive


def test_archives_are_known_by_content_and_by_name() -> None:
    tar = PACKED["a.tar"]
    assert detect_format(tar, "a.bin") == "tar"
    assert detect_format(gzip.compress(tar), "a.tar.gz") == "tar"
    assert detect_format(gzip.compress(tar), "a.bin") == "tar"
    assert detect_format(gzip.compress(b"words"), "a.log.gz") == "compressed"
    assert detect_format(gzip.compress(bytes(range(256)) * 9), "a.rds") is None
    assert detect_format(PACKED["a.zip"], "a.zip") == "zip"
    assert detect_format(PACKED["a.zip"], "a.jar") is None
    assert detect_format(make_zip({"word/a.txt": b"no Word document"}), "a.zip") == "zip"
    assert detect_format(make_zip({"index.xml": b"<a/>"}), "a.zip") == "zip"
    assert detect_format(b"just text", "a.tar") == "text"


def test_the_extension_of_a_compressed_tar_is_both() -> None:
    assert extension_of("a/B.TAR.Gz") == ".tar.gz"
    assert extension_of("a.log.gz") == ".gz"
    assert extension_of(".tar.gz") == ".gz"
    assert name_in_document("x.tar.xz") != name_in_document("x.xz")
    assert name_in_document("a.csv.gz") == name_in_document("b.csv.gz") != name_in_document("a.md.gz")
    assert name_in_document("a.png.gz") != name_in_document("b.png.gz"), "the caption is made of the name"


# --- single files that are compressed


def test_a_compressed_file_is_read_as_what_it_holds(read: Read) -> None:
    pdf = make_pdf([[Words(72, 100, "The mean wind in the harbour is four knots, the record says.")]])
    document = read(gzip.compress(pdf), "record.pdf.gz")
    assert document.metadata["compression"] == "gzip"
    assert document.blocks[0].boxes
    assert document.blocks == read(pdf, "record.pdf").blocks
    for name, pack in (("a.csv.gz", gzip.compress), ("a.csv.bz2", bz2.compress), ("a.csv.xz", lzma.compress)):
        assert outline_of(read(pack(b"port,high\nNorth,3\n"), name)) == [
            ("table", "port | high\n--- | ---\nNorth | 3")
        ]


def test_of_a_compressed_file_that_is_cut_short_the_rest_is_read_with_a_warning(read: Read) -> None:
    packed = gzip.compress(b"\n\n".join(b"Note %d of the log. " % n * 9 for n in range(900)))
    document = read(packed[: len(packed) // 2], "a.log.gz")
    assert "Note 1 of" in document.text
    assert any("cut short" in warning for warning in document.warnings)
    with pytest.raises(TruncatedFile):
        parse(packed[:12], name="a.log.gz")


def test_a_compressed_file_that_unpacks_to_too_much_is_a_typed_failure() -> None:
    with pytest.raises(DecompressionBomb):
        parse(gzip.compress(b" word" * (12 * MIB)), name="a.txt.gz")
    with pytest.raises(DocumentTooLarge):
        parse(
            gzip.compress(os.urandom(6000).hex().encode()),
            name="a.txt.gz",
            options=ParseOptions(max_bytes=9000),
        )
    data = b"The innermost words."
    for _ in range(9):
        data = gzip.compress(data)
    with pytest.raises(NestedTooDeep):
        parse(data, name="a.txt" + ".gz" * 9)
