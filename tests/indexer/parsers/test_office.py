from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import pytest
from docx import Document
from docx.enum.text import WD_BREAK
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from parsing_samples import make_zip, outline_of
from pptx import Presentation
from pptx.util import Inches

from indexer.parsers import parse
from indexer.parsers.errors import (
    EncryptedFile,
    ForbiddenEntities,
    MalformedFile,
    NoExtractableText,
    TruncatedFile,
)
from indexer.types import ParsedDocument

Read = Callable[..., ParsedDocument]


def saved(document: object) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def word_document() -> bytes:
    document = Document()
    document.core_properties.title = "Ferry handbook"
    document.core_properties.author = "A. Writer"
    document.add_heading("Handbook", level=0)
    document.add_heading("Boarding", level=1)
    document.add_paragraph("Come early.\tBring a ticket.")
    for text in ("Cars", "Bicycles"):
        document.add_paragraph(text, style="List Bullet")
    document.add_paragraph("In order:")
    for text in ("first", "second"):
        document.add_paragraph(text, style="List Number")
    table = document.add_table(rows=3, cols=3)
    for row, values in enumerate([("who", "low", "high"), ("adult", "5", "6"), ("child", "2", "3")]):
        for column, value in enumerate(values):
            table.cell(row, column).text = value
    table.cell(1, 1).merge(table.cell(2, 1))
    document.sections[0].header.paragraphs[0].text = "Northern Ferries"
    paragraph = document.add_paragraph("Kept ")
    paragraph._p.append(parse_xml(f"<w:del {nsdecls('w')}><w:r><w:delText>removed</w:delText></w:r></w:del>"))
    paragraph._p.append(
        parse_xml(f"<w:moveFrom {nsdecls('w')}><w:r><w:t>moved away</w:t></w:r></w:moveFrom>")
    )
    paragraph._p.append(parse_xml(f"<w:ins {nsdecls('w')}><w:r><w:t>and added</w:t></w:r></w:ins>"))
    return saved(document)


def test_word_documents_keep_headings_lists_tables_and_headers(read: Read) -> None:
    document = read(word_document(), "a.docx")
    outline = outline_of(document)
    assert outline[:7] == [
        ("heading", "Handbook"),
        ("heading", "Boarding"),
        ("text", "Come early.\tBring a ticket."),
        ("list", "- Cars\n- Bicycles"),
        ("text", "In order:"),
        ("list", "1. first\n2. second"),
        ("table", outline[6][1]),
    ]
    assert outline[6][1].split("\n")[0] == "who | low | high"
    assert outline[6][1].split("\n")[3].endswith("| 3")
    assert ("text", "Kept and added") in outline
    assert outline[-1] == ("text", "Northern Ferries")
    assert document.title == "Ferry handbook"
    assert document.metadata["author"] == "A. Writer"


def numbered(text: str, list_id: int, depth: int = 0, *, heading: int | None = None) -> str:
    outline = f'<w:outlineLvl w:val="{heading}"/>' if heading is not None else ""
    place = f'<w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="{list_id}"/></w:numPr>'
    return f"<w:p><w:pPr>{outline}{place}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def test_headings_and_items_have_the_numbers_that_word_shows(read: Read) -> None:
    def level(depth: int, form: str, text: str, start: int = 1) -> str:
        return (
            f'<w:lvl w:ilvl="{depth}"><w:start w:val="{start}"/><w:numFmt w:val="{form}"/>'
            f'<w:lvlText w:val="{text}"/></w:lvl>'
        )

    levels = level(0, "upperRoman", "%1.") + level(1, "decimal", "%1.%2") + level(2, "lowerLetter", "(%3)", 2)
    numbering = (
        f'<w:numbering xmlns:w="w"><w:abstractNum w:abstractNumId="0">{levels}</w:abstractNum>'
        f'<w:abstractNum w:abstractNumId="1">{level(0, "bullet", "o")}</w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>'
        '<w:num w:numId="2"><w:abstractNumId w:val="0"/></w:num>'
        '<w:num w:numId="3"><w:abstractNumId w:val="0"/><w:lvlOverride w:ilvl="0">'
        '<w:startOverride w:val="1"/></w:lvlOverride></w:num>'
        '<w:num w:numId="4"><w:abstractNumId w:val="1"/></w:num></w:numbering>'
    )
    paragraphs = [
        numbered("Terms", 1, heading=0),
        numbered("Boats", 1, 1, heading=1),
        numbered("hull", 1, 2),
        numbered("mast", 1, 2),
        numbered("Ports", 2, 1, heading=1),  # another list of the same kind goes on
        numbered("quay", 1, 2),  # below another heading it begins anew
        numbered("Fares", 1, heading=0),
        numbered("Of its own", 3, heading=0),
        numbered("Bullet", 4, heading=0),
        numbered("None", 0, heading=0),
    ]
    body = f'<w:document xmlns:w="w"><w:body>{"".join(paragraphs)}</w:body></w:document>'
    document = read(make_zip({"word/document.xml": body, "word/numbering.xml": numbering}), "a.docx")
    assert [text for _, text in outline_of(document)] == [
        "I. Terms",
        "I.1 Boats",
        "(b) hull\n    (c) mast",
        "I.2 Ports",
        "(b) quay",
        "II. Fares",
        "I. Of its own",
        "Bullet",
        "None",
    ]


def test_cells_merged_downwards_are_repeated(read: Read) -> None:
    table = next(text for kind, text in outline_of(read(word_document(), "a.docx")) if kind == "table")
    adult, child = (line.split(" | ")[1] for line in table.split("\n")[2:4])
    assert adult == child == "5 2"


def test_pages_of_word_documents_come_from_where_word_last_broke_them(read: Read) -> None:
    document = Document()
    document.add_paragraph("on one")
    run = document.add_paragraph().add_run()
    run.add_break(WD_BREAK.PAGE)
    second = document.add_paragraph().add_run("on two")
    second._r.insert(0, parse_xml(f"<w:lastRenderedPageBreak {nsdecls('w')}/>"))
    pages = {text: block.page for block, (_, text) in _blocks(read(saved(document), "a.docx"))}
    assert pages == {"on one": 1, "on two": 2}


def _blocks(document: ParsedDocument) -> list:
    return list(zip(document.blocks, outline_of(document), strict=True))


def test_text_boxes_and_content_controls_are_read_once(read: Read) -> None:
    document = Document()
    paragraph = document.add_paragraph("outside")
    paragraph._p.append(
        parse_xml(
            f"<w:r {nsdecls('w')}><w:pict><w:txbxContent><w:p><w:r><w:t>inside</w:t></w:r></w:p>"
            "</w:txbxContent></w:pict></w:r>"
        )
    )
    document.element.body.insert(
        0,
        parse_xml(
            f"<w:sdt {nsdecls('w')}><w:sdtContent><w:p><w:r><w:t>controlled</w:t></w:r></w:p>"
            "</w:sdtContent></w:sdt>"
        ),
    )
    assert outline_of(read(saved(document), "a.docx")) == [
        ("text", "controlled"),
        ("text", "outside"),
        ("text", "inside"),
    ]


def test_the_strict_variant_of_word_is_read(read: Read) -> None:
    namespace = "http://purl.oclc.org/ooxml/wordprocessingml/main"
    paragraph = "<w:p><w:r><w:t>strict</w:t></w:r></w:p>"
    body = f'<w:document xmlns:w="{namespace}"><w:body>{paragraph}</w:body></w:document>'
    assert read(make_zip({"word/document.xml": body}), "a.docx").text == "strict"


def run(text: str) -> str:
    return f"<m:r><m:rPr><m:sty/></m:rPr><m:t>{text}</m:t></m:r>"


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (f"<m:f><m:num>{run('a+b')}</m:num><m:den>{run('2')}</m:den></m:f>", r"\frac{a+b}{2}"),
        (f"<m:sSup><m:e>{run('r')}</m:e><m:sup>{run('2')}</m:sup></m:sSup>", "r^{2}"),
        (f"<m:rad><m:deg/><m:e>{run('x')}</m:e></m:rad>", r"\sqrt{x}"),
        (
            '<m:nary><m:naryPr><m:chr m:val="∑"/></m:naryPr>'
            f"<m:sub>{run('i')}</m:sub><m:sup>{run('n')}</m:sup><m:e>{run('i')}</m:e></m:nary>",
            r"\sum_{i}^{n} i",
        ),
        (
            f"<m:func><m:fName>{run('log')}</m:fName><m:e><m:d><m:e>{run('x')}</m:e></m:d></m:e></m:func>",
            r"\log (x)",
        ),
        (
            f"<m:m><m:mr><m:e>{run('1')}</m:e><m:e>{run('2')}</m:e></m:mr>"
            f"<m:mr><m:e>{run('3')}</m:e><m:e>{run('4')}</m:e></m:mr></m:m>",
            r"\begin{matrix}1 & 2 \\ 3 & 4\end{matrix}",
        ),
        ("<m:box><m:e>" * 90 + run("deep") + "</m:e></m:box>" * 90, "deep"),
    ],
)
def test_formulas_are_read_as_latex(formula: str, expected: str, read: Read) -> None:
    body = f"<w:p><w:r><w:t>So </w:t></w:r><m:oMath>{formula}</m:oMath></w:p>"
    xml = f'<w:document xmlns:w="w" xmlns:m="m"><w:body>{body}</w:body></w:document>'
    assert read(make_zip({"word/document.xml": xml}), "a.docx").text == f"So ${expected}$"


def test_presentations_are_read_slide_by_slide_with_notes(read: Read) -> None:
    show = Presentation()
    slide = show.slides.add_slide(show.slide_layouts[1])
    slide.shapes.title.text = "Fares"
    slide.placeholders[1].text = "Adults pay\nChildren do not"
    slide.notes_slide.notes_text_frame.text = "Say it slowly."
    table = slide.shapes.add_table(2, 2, Inches(1), Inches(1), Inches(4), Inches(1)).table
    for cell, text in zip(table.iter_cells(), ["who", "crowns", "adult", "5"], strict=True):
        cell.text = text
    show.slides.add_slide(show.slide_layouts[6])  # blank
    last = show.slides.add_slide(show.slide_layouts[6])
    last.shapes.add_textbox(Inches(1), Inches(1), Inches(3), Inches(1)).text_frame.text = "The end"
    document = read(saved(show), "a.pptx")
    assert [(block.page, *pair) for block, pair in _blocks(document)] == [
        (1, "heading", "Fares"),
        (1, "list", "- Adults pay\n- Children do not"),
        (1, "table", "who | crowns\n--- | ---\nadult | 5"),
        (1, "text", "Say it slowly."),
        (3, "heading", "Slide 3"),
        (3, "text", "The end"),
    ]
    assert document.blocks[3].name == "Notes of slide 1"


@pytest.mark.parametrize("form", ["old", "new"])
def test_comments_on_slides_are_read_with_their_author(form: str, read: Read) -> None:
    show = Presentation()
    for title in ("Fares", "Times"):
        show.slides.add_slide(show.slide_layouts[5]).shapes.title.text = title
    with zipfile.ZipFile(io.BytesIO(saved(show))) as archive:
        members = {
            name: archive.read(name).decode("latin-1") for name in archive.namelist() if name[-4:] != "jpeg"
        }
    kind, comments, authors = {
        "old": (
            "commentAuthors",
            '<cmLst><cm authorId="7"><text>Too dear</text></cm><cm authorId="9"><text>Not so</text></cm>'
            "</cmLst>",
            '<cmAuthorLst><cmAuthor id="7" name="Ann"/></cmAuthorLst>',
        ),
        "new": (
            "authors",
            '<cmLst><cm authorId="7"><replyLst><reply authorId="9"><txBody><p><r><t>Not so</t></r></p>'
            "</txBody></reply></replyLst><txBody><p><r><t>Too</t></r></p><p><r><t>dear</t></r></p></txBody>"
            "</cm></cmLst>",
            '<authorLst><author id="7" name="Ann"/></authorLst>',
        ),
    }[form]
    members |= {"ppt/comments/c.xml": comments, "ppt/people.xml": authors}
    relation = '<Relationship Id="rc" Type="x/%s" Target="%s"/></Relationships>'
    for part, added in (
        ("ppt/slides/_rels/slide2.xml.rels", relation % ("comments", "../comments/c.xml")),
        ("ppt/_rels/presentation.xml.rels", relation % (kind, "people.xml")),
    ):
        members[part] = members[part].replace("</Relationships>", added)
    document = read(make_zip(members), "a.pptx")
    last = document.blocks[-1]
    assert (last.page, last.name) == (2, "Comments on slide 2")
    assert document.text[last.start :].split("\n") == ["Comment by Ann: Too dear", "Not so"]


ODF = (
    '<office:document-content xmlns:office="o" xmlns:text="t" xmlns:table="b" xmlns:draw="d" '
    'xmlns:presentation="p"><office:body>%s</office:body></office:document-content>'
)


def odf(kind: str, body: str) -> bytes:
    media_type = f"application/vnd.oasis.opendocument.{kind}"
    meta = '<m xmlns:dc="x"><dc:title>An ODF</dc:title></m>'
    return make_zip({"mimetype": media_type, "content.xml": ODF % body, "meta.xml": meta})


def test_opendocument_text_keeps_headings_lists_tables_and_notes(read: Read) -> None:
    body = (
        '<office:text><text:h text:outline-level="2">Part</text:h>'
        '<text:p>One<text:s text:c="2"/>two<text:note text:note-class="footnote"><text:p>Aside</text:p>'
        "</text:note>.</text:p>"
        "<text:list><text:list-item><text:p>a</text:p><text:list><text:list-item><text:p>b</text:p></text:list-item>"
        "</text:list></text:list-item></text:list>"
        "<table:table><table:table-row><table:table-cell><text:p>x</text:p></table:table-cell>"
        "<table:table-cell><text:p>y</text:p></table:table-cell></table:table-row><table:table-row><table:table-cell>"
        "<text:p>1</text:p></table:table-cell><table:table-cell><text:p>2</text:p></table:table-cell></table:table-row>"
        "</table:table></office:text>"
    )
    document = read(odf("text", body), "a.odt")
    assert outline_of(document) == [
        ("heading", "Part"),
        ("text", "One two."),
        ("text", "Aside"),
        ("list", "- a\n  - b"),
        ("table", "x | y\n--- | ---\n1 | 2"),
    ]
    assert document.blocks[0].level == 2
    assert document.title == "An ODF"


def test_a_sheet_that_claims_a_million_rows_is_bounded(read: Read) -> None:
    cell = '<table:table-cell table:number-columns-repeated="900000"><text:p>x</text:p></table:table-cell>'
    row = f'<table:table-row table:number-rows-repeated="900000">{cell}</table:table-row>'
    body = f'<office:spreadsheet><table:table table:name="S">{row}</table:table></office:spreadsheet>'
    assert len(read(odf("spreadsheet", body), "a.ods").text) < 100_000


def test_opendocument_presentations_have_a_page_a_slide(read: Read) -> None:
    page = (
        '<draw:page><draw:frame presentation:class="title"><draw:text-box><text:p>Hello</text:p>'
        "</draw:text-box></draw:frame><draw:frame><draw:text-box><text:p>World</text:p></draw:text-box></draw:frame></draw:page>"
    )
    document = read(odf("presentation", f"<office:presentation>{page}</office:presentation>"), "a.odp")
    assert [(block.page, *pair) for block, pair in _blocks(document)] == [
        (1, "heading", "Hello"),
        (1, "text", "World"),
    ]


def test_books_are_read_in_the_order_of_their_spine(read: Read) -> None:
    opf = (
        '<package xmlns:dc="x"><metadata><dc:title>A Book</dc:title></metadata><manifest>'
        '<item id="b" href="two.xhtml" media-type="application/xhtml+xml"/>'
        '<item id="a" href="one%20a.xhtml" media-type="application/xhtml+xml"/>'
        '<item id="n" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/></manifest>'
        '<spine><itemref idref="n"/><itemref idref="a"/><itemref idref="b"/></spine></package>'
    )
    container = '<container><rootfiles><rootfile full-path="OEBPS/x.opf"/></rootfiles></container>'
    book = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": container,
        "OEBPS/x.opf": opf,
        "OEBPS/one a.xhtml": "<html><body><h1>One</h1><p>first&nbsp;words</p></body></html>",
        "OEBPS/two.xhtml": "<html><body><h1>Two</h1><p>last words</p></body></html>",
        "OEBPS/nav.xhtml": "<html><body><p>contents</p></body></html>",
    }
    document = read(make_zip(book), "a.epub")
    assert document.text == "One\n\nfirst words\n\nTwo\n\nlast words"
    assert document.title == "A Book"
    with pytest.raises(EncryptedFile):
        parse(make_zip(book | {"META-INF/rights.xml": "<r/>"}), name="a.epub")


def test_rich_text_gives_its_visible_text(read: Read) -> None:
    rtf = (
        rb"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 Arial;}}{\*\generator X;}\pard Caf\'e9 {\b bold}\par\par "
        rb"\u8364?5 \{braces\}\par\par a\cell b\cell\row c\cell d\cell\row}"
    )
    document = read(rtf, "a.rtf")
    assert document.text == "Café bold\n\n€5 {braces}\n\na | b\nc | d"


@pytest.mark.parametrize(
    "make", [word_document, lambda: odf("text", "<office:text><text:p>x</text:p></office:text>")]
)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_office_files_are_typed_failures(make: Callable[[], bytes], share: float) -> None:
    data = make()
    with pytest.raises(TruncatedFile):
        parse(data[: int(len(data) * share)], name="a.docx")


def test_office_files_without_text_and_with_nonsense_are_typed_failures() -> None:
    with pytest.raises(NoExtractableText):
        parse(saved(Document()), name="a.docx")
    with pytest.raises(MalformedFile):
        parse(make_zip({"word/document.xml": "<w:document"}), name="a.docx")
    bomb = '<!DOCTYPE x [<!ENTITY a "b">]><w><body>&a;</body></w>'
    with pytest.raises(ForbiddenEntities):
        parse(make_zip({"word/document.xml": bomb}), name="a.docx")
