"""Pictures in an index: embedded with what shows them, stored with their document, gone with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer import image_vectors
from indexer.errors import EmbedderMismatch
from indexer.index import Index
from indexer.parsers import ParseOptions, parse
from indexer.parsers.errors import NoExtractableText
from indexer.parsers.thumbnail import make_thumbnail
from indexer.types import Filters, Thumbnail

WITHOUT_OCR = ParseOptions(ocr=False)
RED, GREEN, BLUE = (220, 10, 10), (10, 220, 10), (10, 10, 220)


class ColourEmbedder:
    """A picture's vector is its mean colour, a text's the colours that it names. Counts what it embeds."""

    dimension = 3
    name = "colours"

    def __init__(self, fingerprint: str = "colours-3") -> None:
        self.fingerprint = fingerprint
        self.images: Counter[tuple[int, int]] = Counter()
        self.before_embedding: Callable[[], None] = lambda: None

    def embed_images(self, images: Sequence[Thumbnail]) -> np.ndarray:
        self.before_embedding()
        self.images.update((image.width, image.height) for image in images)
        means = [np.frombuffer(image.rgb, np.uint8).reshape(-1, 3).mean(axis=0) + 1 for image in images]
        return _unit(np.array(means))


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def draw(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (60, 40)) -> Path:
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def colours() -> ColourEmbedder:
    return ColourEmbedder()


@pytest.fixture
def pictures(corpus: Path) -> Path:
    """The corpus with two pictures that hold no text."""
    draw(corpus / "red-boat.png", RED)
    draw(corpus / "green-hill.jpg", GREEN)
    return corpus


@pytest.fixture
def opened(tmp_path: Path, embedder, colours: ColourEmbedder, parsed: list[str]) -> Iterator[Index]:
    with Index.open(tmp_path / "index", embedder=embedder, image_embedder=colours) as index:
        yield index


def shown(index: Index) -> dict[str, np.ndarray]:
    """By file name, the vectors of the pictures that a search would see."""
    with index.view() as view:
        numbers, vectors = view.images()
        names = [Path(chunk.uri).name for chunk in view.chunks(numbers)] if len(numbers) else []
    return dict(zip(names, vectors, strict=True))


def ingest(index: Index, folder: Path, **options):
    return index.ingest([folder], parse_options=WITHOUT_OCR, **options)


# --- what becomes of a picture


def test_a_picture_without_text_fails_unless_it_can_be_found_by_what_it_shows(index, opened, pictures):
    report = ingest(index, pictures)
    assert {Path(failure.uri).name for failure in report.failed} == {"red-boat.png", "green-hill.jpg"}
    assert not ingest(opened, pictures).failed


def test_it_is_one_chunk_of_the_kind_image_with_its_caption(opened, pictures):
    ingest(opened, pictures)
    with opened.view() as view:
        numbers = view.matching(Filters(kinds=frozenset({"image"})))
        chunks = view.chunks(numbers)
        assert view.images()[0].tolist() == numbers.tolist()
    assert {chunk.text for chunk in chunks} == {"Image: red boat", "Image: green hill"}


def test_of_a_picture_with_text_the_chunk_with_the_caption_stands_for_it(opened, pictures, monkeypatch):
    def read_text(builder, image, *, page, **_) -> int:
        for line in range(40):
            builder.add("text", f"The boat number {line} left the harbour at nine in the morning.", page=page)
        return 40

    monkeypatch.setattr("indexer.parsers.image.add_picture", read_text)
    opened.ingest([pictures])
    with opened.view() as view:
        numbers, _ = view.images()
        chunks = view.chunks(numbers)
        assert view.count() > 8  # of one page several chunks
    assert sorted(chunk.text.splitlines()[0] for chunk in chunks) == ["Image: green hill", "Image: red boat"]
    assert len({chunk.document_id for chunk in chunks}) == 2


def test_its_vector_is_that_of_its_pixels(opened, pictures):
    ingest(opened, pictures)
    vectors = shown(opened)
    assert set(vectors) == {"red-boat.png", "green-hill.jpg"}
    np.testing.assert_allclose(vectors["red-boat.png"], _unit(np.array([RED]) + 1.0)[0], atol=1e-6)
    assert vectors["green-hill.jpg"].argmax() == 1


def test_a_picture_without_a_telling_name_is_called_by_its_size(opened, corpus):
    draw(corpus / "red.png", RED).rename(corpus / "scan.dat")
    ingest(opened, corpus)
    with opened.view() as view:
        assert [chunk.text for chunk in view.chunks(view.images()[0])] == ["Image of 60 x 40 pixels"]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((60, 40), (60, 40)),
        ((3000, 2000), (576, 384)),
        ((400, 1200), (384, 1152)),
        ((4000, 10), (30, 10)),  # a model would blow a strip up until its shorter side fits
        ((1, 900), (1, 3)),
    ],
)
def test_what_a_model_gets_is_small_whatever_the_picture(size, expected):
    thumbnail = make_thumbnail(Image.new("RGB", size, RED))
    assert (thumbnail.width, thumbnail.height) == expected
    assert thumbnail.rgb == bytes(RED) * (expected[0] * expected[1])


def test_of_a_strip_the_middle_is_seen():
    strip = Image.new("RGB", (90, 10), RED)
    strip.paste(GREEN, (30, 0, 60, 10))
    assert make_thumbnail(strip).rgb == bytes(GREEN) * 300


def test_the_limit_of_pixels_holds_before_anything_is_decoded(opened, corpus):
    draw(corpus / "red.png", RED, size=(400, 300))
    report = opened.ingest([corpus], parse_options=ParseOptions(ocr=False, max_pixels=100_000))
    assert [failure.code for failure in report.failed] == ["decompression-bomb"]
    assert shown(opened) == {}


# --- as long as the document


def test_a_picture_is_embedded_once(opened, pictures, colours):
    ingest(opened, pictures)
    assert colours.images.total() == 2
    again = ingest(opened, pictures)
    assert (again.unchanged, again.indexed) == (5, 0)
    (pictures / "red-boat.png").touch()
    ingest(opened, pictures)
    (pictures / "red-boat.png").rename(pictures / "red-ship.png")  # a new caption for the same picture
    assert ingest(opened, pictures, prune=True).indexed == 1
    assert colours.images.total() == 2
    assert set(shown(opened)) == {"red-ship.png", "green-hill.jpg"}


def test_a_removed_picture_takes_its_vector_along(opened, pictures):
    ingest(opened, pictures)
    (pictures / "red-boat.png").unlink()
    ingest(opened, pictures, prune=True)
    assert set(shown(opened)) == {"green-hill.jpg"}
    assert opened.stats().images == 1
    assert opened.verify().ok


def test_another_picture_under_the_same_name_is_another_state_of_the_corpus(opened, pictures):
    ingest(opened, pictures)
    before = opened.generation
    draw(pictures / "red-boat.png", BLUE)
    ingest(opened, pictures)
    assert shown(opened)["red-boat.png"].argmax() == 2
    assert opened.generation > before  # its chunk is the same, letter by letter
    assert opened.stats().images == 2


def test_a_text_in_the_place_of_a_picture_has_no_vector(opened, pictures):
    ingest(opened, pictures)
    (pictures / "red-boat.png").write_text("The boat was sold.\n")
    ingest(opened, pictures)
    assert set(shown(opened)) == {"green-hill.jpg"}


# --- one model an index


def test_another_model_is_refused_by_name(opened, pictures, embedder):
    ingest(opened, pictures)
    with pytest.raises(EmbedderMismatch, match=r"colours \(colours-3\), not colours \(other\)"):
        Index.open(opened.folder, embedder=embedder, image_embedder=ColourEmbedder("other"))


def test_an_ingest_without_the_model_is_refused_and_changes_nothing(opened, pictures, embedder):
    ingest(opened, pictures)
    with Index.open(opened.folder, embedder=embedder) as without:
        with pytest.raises(EmbedderMismatch, match="no image embedder was given"):
            ingest(without, pictures)
        assert without.search_text(["ferry"], 1)[0]  # searching by text needs none


def test_the_index_remembers_model_and_dimension(opened, pictures):
    ingest(opened, pictures)
    stats = opened.stats()
    assert (stats.images, stats.image_embedder) == (2, "colours (colours-3)")


def test_an_index_without_pictures_takes_any_model_later(opened, corpus, embedder):
    ingest(opened, corpus)
    assert opened.stats().image_embedder is None
    Index.open(opened.folder, embedder=embedder, image_embedder=ColourEmbedder("other")).close()


# --- switching it on


def test_without_a_model_nothing_is_different(index, pictures):
    ingest(index, pictures)
    with index.catalog.read() as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert not any("image" in name for name in tables)
    assert shown(index) == {}


def test_switching_it_on_reads_the_pictures_and_nothing_else(index, pictures, embedder, colours, parsed):
    ingest(index, pictures)
    parsed.clear()
    with Index.open(index.folder, embedder=embedder, image_embedder=colours) as on:
        report = ingest(on, pictures)
        assert (report.indexed, report.unchanged) == (2, 3)
        assert sorted(parsed) == ["green-hill.jpg", "red-boat.png"]
        assert set(shown(on)) == {"red-boat.png", "green-hill.jpg"}


def test_pictures_that_were_indexed_for_their_text_get_their_vector(index, pictures, embedder, colours):
    """With OCR a picture may be a document already; what it lacks is only its vector."""
    as_indexed_before = ColourEmbedder("before")
    with Index.open(index.folder, embedder=embedder, image_embedder=as_indexed_before) as before:
        ingest(before, pictures)
        with before.catalog.write() as writer:
            writer.connection.execute("DELETE FROM image_embeddings")
            writer.connection.execute("DELETE FROM meta WHERE key LIKE 'image_%'")
    with Index.open(index.folder, embedder=embedder, image_embedder=colours) as on:
        ids = {hit.chunk_id for hit in on.search_text(["boat"], 5)[0]}
        generation = on.generation
        assert ingest(on, pictures).unchanged == 3
        assert set(shown(on)) == {"red-boat.png", "green-hill.jpg"}
        assert {hit.chunk_id for hit in on.search_text(["boat"], 5)[0]} == ids  # the same chunks as before
        assert on.generation > generation


# --- one transaction


def test_a_model_that_fails_leaves_no_half_of_a_picture(opened, pictures, colours):
    def fail() -> None:
        raise MemoryError("no memory")

    colours.before_embedding = fail
    with pytest.raises(MemoryError):
        ingest(opened, pictures)
    assert not opened.search_text(["boat"], 5)[0]
    assert shown(opened) == {}
    colours.before_embedding = lambda: None
    ingest(opened, pictures)
    assert len(shown(opened)) == 2
    assert opened.verify().ok


def test_a_crash_while_a_picture_is_stored_leaves_neither_document_nor_vector(opened, pictures, monkeypatch):
    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(image_vectors, "put", crash)
        with pytest.raises(KeyboardInterrupt):
            ingest(opened, pictures)
    with opened.catalog.read() as connection:
        assert connection.execute("SELECT count(*) FROM documents").fetchone() == (0,)
        assert image_vectors.image_model(connection) is None
    ingest(opened, pictures)
    assert len(shown(opened)) == 2


# --- taking care of it


def test_verify_finds_a_vector_that_is_none(opened, pictures):
    ingest(opened, pictures)
    with opened.catalog.write() as writer:
        writer.connection.execute(
            "UPDATE image_embeddings SET vector = zeroblob(12) WHERE document ="
            " (SELECT min(document) FROM image_embeddings)"
        )
    findings = opened.verify().findings
    assert [finding.check for finding in findings] == ["embeddings"]
    assert "no unit vector" in findings[0].message


def test_a_snapshot_brings_the_vectors_back(opened, pictures):
    ingest(opened, pictures)
    opened.create_snapshot("both")
    (pictures / "red-boat.png").unlink()
    ingest(opened, pictures, prune=True)
    opened.restore_snapshot("both")
    assert set(shown(opened)) == {"red-boat.png", "green-hill.jpg"}
    assert opened.verify().ok


def test_a_snapshot_from_before_the_first_picture_can_be_gone_on_from(opened, corpus, colours):
    ingest(opened, corpus)
    opened.create_snapshot("texts")
    draw(corpus / "red-boat.png", RED)
    ingest(opened, corpus)
    opened.restore_snapshot("texts")
    assert shown(opened) == {}
    ingest(opened, corpus)
    assert set(shown(opened)) == {"red-boat.png"}


def test_an_export_leaves_the_vectors_out_and_the_next_ingest_makes_them(
    opened, pictures, tmp_path, embedder, colours
):
    ingest(opened, pictures)
    opened.export(tmp_path / "all.jsonl", vectors=True)
    with Index.open(tmp_path / "other", embedder=embedder, image_embedder=colours) as other:
        other.import_export(tmp_path / "all.jsonl")
        assert shown(other) == {}
        assert other.search_text(["boat"], 1)[0]
        report = ingest(other, pictures)
        assert (report.indexed, report.unchanged) == (2, 3)
        assert set(shown(other)) == {"red-boat.png", "green-hill.jpg"}
        assert other.verify().ok


def test_off_a_picture_without_text_is_still_an_error_of_the_parser():
    import io

    file = io.BytesIO()
    Image.new("RGB", (20, 20), RED).save(file, "PNG")
    with pytest.raises(NoExtractableText):
        parse(file.getvalue(), name="red.png", options=WITHOUT_OCR)
