from __future__ import annotations

from collections.abc import Callable, Iterator

import pypdfium2
import pypdfium2.raw as pdfium
import pytest
from parsing_samples import assemble_pdf

from indexer.parsers.pdf_drawing import is_blank, pictures_on

WHITE, GREY, FAINT, BLACK = "1", "0.5", "0.95", "0"
Open = Callable[..., pypdfium2.PdfPage]


def square(grey: str, number: int = 0) -> str:
    """One of many objects on a page, each with a place of its own."""
    return f"{grey} g {10 + 20 * (number % 25)} {10 + 20 * (number // 25)} 15 15 re f\n"


@pytest.fixture
def load() -> Iterator[Open]:
    """A page of that content. /P is a picture; /Form is `form`, where /Form is a form with the same content,
    and so on, each twice as wide as it says and moved by (5, 7). `annotation` is what a stamp shows."""
    opened: list[pypdfium2.PdfDocument] = []

    def load(content: str, *, form: str = "", annotation: str = "") -> pypdfium2.PdfPage:
        picture = b"<< /Type /XObject /Subtype /Image /Width 9 /Height 1 /ColorSpace /DeviceGray"
        objects = [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R"
            b" /Annots [%s] /Resources << /XObject << /P 5 0 R /Form 6 0 R >> >> >>"
            % (annotation and "11 0 R").encode(),
            stream(content),
            picture + b" /BitsPerComponent 8 /Length 9 >>\nstream\n123456789\nendstream",
            *(
                stream(
                    form,
                    "/Type /XObject /Subtype /Form /BBox [0 0 999 999] /Matrix [2 0 0 1 5 7]"
                    f" /Resources << /XObject << /P 5 0 R /Form {min(number + 1, 10)} 0 R >> >>",
                )
                for number in range(6, 11)
            ),
            b"<< /Type /Annot /Subtype /Stamp /Rect [0 0 600 800] /F 4 /AP << /N 12 0 R >> >>",
            stream(annotation, "/Type /XObject /Subtype /Form /BBox [0 0 600 800]"),
        ]
        opened.append(pypdfium2.PdfDocument(assemble_pdf(objects, "/Root 1 0 R")))
        return opened[-1][0]

    yield load
    for document in opened:
        document.close()


def stream(content: str, entries: str = "") -> bytes:
    return f"<< /Length {len(content)} {entries} >>\nstream\n{content}\nendstream".encode()


@pytest.mark.parametrize(
    ("content", "blank"),
    [
        (square(BLACK), False),
        (square(GREY), False),
        (square(WHITE), True),
        (square(FAINT), True),
        (f"{GREY} g 0 0 600 800 re f\n", True),  # all of one colour
        ("".join(square(WHITE, number) for number in range(500)), True),
        ("".join(square(WHITE, number) for number in range(500)) + square(BLACK), False),
        ("q 600 0 0 800 0 0 cm /P Do Q\n", True),  # nine shades that hardly differ
        ("BT 10 10 Td ET\n", True),
    ],
)
def test_a_page_is_blank_if_all_of_it_looks_the_same(content: str, blank: bool, load: Open) -> None:
    assert is_blank(load(content)) is blank


def test_a_page_with_nothing_but_a_stamp_is_not_blank(load: Open) -> None:
    assert not is_blank(load("", annotation=square(BLACK)))
    assert is_blank(load("", annotation=square(WHITE)))


def never(*_: object) -> int:
    raise AssertionError("drawn")


def test_a_page_without_anything_on_it_is_not_drawn(monkeypatch: pytest.MonkeyPatch, load: Open) -> None:
    monkeypatch.setattr(pdfium, "FPDF_RenderPageBitmap_Start", never)
    assert is_blank(load(""))


def test_a_page_is_drawn_no_further_than_to_its_first_ink(
    monkeypatch: pytest.MonkeyPatch, load: Open
) -> None:
    monkeypatch.setattr(pdfium, "FPDF_RenderPage_Continue", never)
    page = load("".join(square(BLACK, number) for number in range(500)))
    for _ in range(2):  # the drawing was closed
        assert not is_blank(page)


def test_pictures_are_found_where_they_stand_but_not_in_forms_without_end(load: Open) -> None:
    picture = "q 30 0 0 20 100 200 cm /P Do Q\n"
    page = load(f"{square(BLACK)}{picture}/Form Do\n{picture}", form=f"{picture}/Form Do\n")
    places = [tuple(round(edge) for edge in bounds) for _, bounds in pictures_on(page)]
    on_page = (100, 200, 130, 220)
    in_form = (2 * 100 + 5, 200 + 7, 2 * 130 + 5, 220 + 7)
    in_form_in_form = (2 * in_form[0] + 5, in_form[1] + 7, 2 * in_form[2] + 5, in_form[3] + 7)
    assert places[:3] == [on_page, in_form, in_form_in_form]
    assert (len(places), places[-1]) == (5, on_page), "four levels are looked at, the page among them"
