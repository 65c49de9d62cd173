"""The two zips of XML that are written by hand: a history (epub) and the café's recipes (odt)."""

from __future__ import annotations

from html import escape
from pathlib import Path

from .common import MADE_AT, write_zip
from .markup import Piece, read_pieces

DAY = MADE_AT.strftime("%Y-%m-%dT%H:%M:%SZ")

CONTAINER = """<?xml version="1.0" encoding="UTF-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
  <rootfiles><rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles>
</container>
"""
PACKAGE = """<?xml version="1.0" encoding="UTF-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id" xml:lang="en">
  <metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
    <dc:identifier id="id">urn:uuid:5c0f6a52-1891-4f0e-9d0a-53454e4e0001</dc:identifier>
    <dc:title>A Short History of the Senn Ferry</dc:title>
    <dc:creator>Ines Corrow</dc:creator>
    <dc:language>en</dc:language>
    <meta property="dcterms:modified">{day}</meta>
  </metadata>
  <manifest>
    <item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
{items}
  </manifest>
  <spine>{spine}</spine>
</package>
"""
PAGE = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml"{namespace} xml:lang="en" lang="en">
<head><title>{title}</title></head>
<body>{body}</body>
</html>
"""

OFFICE_NAMESPACES = " ".join(
    f'xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
    for prefix, name in {
        "office": "office",
        "text": "text",
        "table": "table",
        "meta": "meta",
        "style": "style",
        "fo": "xsl-fo-compatible",
        "manifest": "manifest",
    }.items()
)
ODT_MIME = "application/vnd.oasis.opendocument.text"
ODT_MANIFEST = f"""<?xml version="1.0" encoding="UTF-8"?>
<manifest:manifest {OFFICE_NAMESPACES} manifest:version="1.2">
  <manifest:file-entry manifest:full-path="/" manifest:version="1.2" manifest:media-type="{ODT_MIME}"/>
  <manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml"/>
  <manifest:file-entry manifest:full-path="styles.xml" manifest:media-type="text/xml"/>
  <manifest:file-entry manifest:full-path="meta.xml" manifest:media-type="text/xml"/>
</manifest:manifest>
"""
ODT_STYLES = f"""<?xml version="1.0" encoding="UTF-8"?>
<office:document-styles {OFFICE_NAMESPACES} office:version="1.2">
  <office:styles>
    <style:style style:name="Standard" style:family="paragraph">
      <style:paragraph-properties fo:margin-bottom="0.2cm"/><style:text-properties fo:font-size="11pt"/>
    </style:style>
    <style:style style:name="Heading_20_1" style:display-name="Heading 1" style:family="paragraph">
      <style:text-properties fo:font-size="18pt" fo:font-weight="bold"/>
    </style:style>
    <style:style style:name="Heading_20_2" style:display-name="Heading 2" style:family="paragraph">
      <style:text-properties fo:font-size="14pt" fo:font-weight="bold"/>
    </style:style>
    <text:list-style style:name="Steps">
      <text:list-level-style-number text:level="1" style:num-format="1" style:num-suffix="."/>
    </text:list-style>
  </office:styles>
</office:document-styles>
"""
ODT_META = f"""<?xml version="1.0" encoding="UTF-8"?>
<office:document-meta {OFFICE_NAMESPACES} xmlns:dc="http://purl.org/dc/elements/1.1/" office:version="1.2">
  <office:meta>
    <dc:title>Recipes of the Galley</dc:title><dc:creator>Odile Marchetti</dc:creator>
    <meta:creation-date>{DAY}</meta:creation-date><dc:date>{DAY}</dc:date>
  </office:meta>
</office:document-meta>
"""
ODT_CONTENT = f"""<?xml version="1.0" encoding="UTF-8"?>
<office:document-content {OFFICE_NAMESPACES} office:version="1.2">
<office:body><office:text>{{elements}}</office:text></office:body>
</office:document-content>
"""


def write_epub(path: Path) -> None:
    """archive/short-history.epub: an EPUB 3, one chapter a heading of the second level."""
    chapters: list[tuple[str, list[str]]] = []
    for piece in read_pieces("short-history")[1:]:
        if piece.kind == "h2":
            chapters.append((escape(piece.text), []))
        else:
            chapters[-1][1].append(escape(piece.text))
    pages, items, links, spine = [], [], [], []
    for number, (title, paragraphs) in enumerate(chapters, start=1):
        file = f"chapter-{number}.xhtml"
        body = f"<h1>{title}</h1>" + "".join(f"\n<p>{text}</p>" for text in paragraphs)
        pages.append((f"OEBPS/{file}", PAGE.format(namespace="", title=title, body=body).encode()))
        items.append(f'    <item id="c{number}" href="{file}" media-type="application/xhtml+xml"/>')
        links.append(f'<li><a href="{file}">{title}</a></li>')
        spine.append(f'<itemref idref="c{number}"/>')
    contents = PAGE.format(
        namespace=' xmlns:epub="http://www.idpf.org/2007/ops"',
        title="Contents",
        body=f'<nav epub:type="toc"><h1>Contents</h1><ol>{"".join(links)}</ol></nav>',
    )
    members = [
        ("mimetype", b"application/epub+zip"),
        ("META-INF/container.xml", CONTAINER.encode()),
        ("OEBPS/content.opf", PACKAGE.format(day=DAY, items="\n".join(items), spine="".join(spine)).encode()),
        ("OEBPS/nav.xhtml", contents.encode()),
        *pages,
    ]
    write_zip(path, members, stored=frozenset({"mimetype"}))


def _odt_paragraph(text: str) -> str:
    return f'<text:p text:style-name="Standard">{escape(text)}</text:p>'


def _odt_element(piece: Piece, *, name: str) -> str:
    """The XML of one piece; `name` is what a table is called."""
    match piece.kind:
        case "h1" | "h2":
            level = piece.kind[1]
            style = f'text:outline-level="{level}" text:style-name="Heading_20_{level}"'
            return f"<text:h {style}>{escape(piece.text)}</text:h>"
        case "table":
            column = f'<table:table-column table:number-columns-repeated="{len(piece.rows[0])}"/>'
            rows = "".join(
                "<table:table-row>"
                + "".join(f"<table:table-cell>{_odt_paragraph(cell)}</table:table-cell>" for cell in row)
                + "</table:table-row>"
                for row in piece.rows
            )
            return f'<table:table table:name="{escape(name)}">{column}{rows}</table:table>'
        case "steps":
            items = "".join(
                f"<text:list-item>{_odt_paragraph(item)}</text:list-item>" for item in piece.items
            )
            return f'<text:list text:style-name="Steps">{items}</text:list>'
        case _:
            return _odt_paragraph(piece.text)


def write_odt(path: Path) -> None:
    """office/galley-recipes.odt: recipes, each with a table of ingredients and numbered steps."""
    elements, heading = [], ""
    for piece in read_pieces("galley-recipes"):
        heading = piece.text if piece.kind in ("h1", "h2") else heading
        elements.append(_odt_element(piece, name=heading))
    members = [
        ("mimetype", ODT_MIME.encode()),
        ("content.xml", ODT_CONTENT.format(elements="".join(elements)).encode()),
        ("styles.xml", ODT_STYLES.encode()),
        ("meta.xml", ODT_META.encode()),
        ("META-INF/manifest.xml", ODT_MANIFEST.encode()),
    ]
    write_zip(path, members, stored=frozenset({"mimetype"}))
