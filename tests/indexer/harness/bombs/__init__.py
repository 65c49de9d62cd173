"""Small files that are meant to take all the memory, all the time or all the stack of whoever reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from harness.bombs import archives, office, pdf, pictures, text

Maker = Callable[[], bytes]


def write(folder: Path, names: Iterable[str] | None = None) -> list[Path]:
    """Make the bombs of these names, or all; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in names if names is not None else BOMBS:
        path = folder / name
        if not path.exists():
            path.write_bytes(BOMBS[name]())
        paths.append(path)
    return paths


BOMBS: dict[str, Maker] = {
    "zip bomb.docx": office.zip_bomb,
    "lying zip.docx": office.lying_zip,
    "overlapping zip.xlsx": office.overlapping_zip,
    "many members.docx": office.many_members,
    "nested zips.zip": office.nested_zips,
    "gibibyte.tar.gz": archives.gibibyte_of_zeros,
    "zeros.tar.bz2": archives.zeros_by_bzip2,
    "zeros.tar.xz": archives.zeros_by_xz,
    "million folders.tgz": archives.million_folders,
    "million streams.tar.gz": archives.million_streams,
    "sparse.tar": archives.sparse_tebibyte,
    "endless name.tar.gz": archives.endless_name,
    "nested zips.docx": office.nested_zips,
    "shared string.xlsx": office.shared_string,
    "far cell.xlsx": office.far_cell,
    "nested tables.docx": office.nested_tables,
    "wide cell.docx": office.wide_cell,
    "spaces by number.odt": office.spaces_by_number,
    "endless groups.rtf": office.endless_groups,
    "endless commands.rtf": office.endless_commands,
    "stream bomb.pdf": pdf.stream_bomb,
    "stream bomb packed twice.pdf": pdf.stream_bomb_packed_twice,
    "five million operators.pdf": pdf.operators,
    "hundred thousand pages.pdf": pdf.hundred_thousand_pages,
    "counts wrong.pdf": pdf.counts_wrong,
    "cycles.pdf": pdf.cycles,
    "nested deep.pdf": pdf.nested_deep,
    "deep page tree.pdf": pdf.deep_page_tree,
    "giant picture.pdf": pdf.giant_picture,
    "giant page.pdf": pdf.giant_page,
    "deep.xml": text.deep_xml,
    "billion laughs.xml": text.billion_laughs,
    "quadratic entities.xml": text.quadratic_entities,
    "foreign entity.xml": text.foreign_entity,
    "deep.html": text.deep_html,
    "many attributes.html": text.many_attributes,
    "deep.json": text.deep_json,
    "long number.json": text.long_number,
    "aliases.yaml": text.yaml_aliases,
    "wide table.csv": text.wide_table,
    "open quote.csv": text.open_quote,
    "one word.txt": text.one_word,
    "marks upon marks.txt": text.marks_upon_marks,
    "sparse.txt": text.sparse_text,
    "brackets.md": text.brackets_in_markdown,
    "parentheses.py": text.parentheses_in_code,
    "deep.ipynb": text.deep_notebook,
    "nested.eml": text.nested_email,
    "nested multipart.eml": text.nested_multipart,
    "many parts.eml": text.many_parts,
    "fifty thousand pixels.png": pictures.png_header,
    "twelve thousand pixels.png": pictures.png_whole,
    "text beside.png": pictures.png_text,
    "frames.gif": pictures.gif_of_frames,
    "cycle.tiff": pictures.tiff_of_a_cycle,
}
# Made and read in a moment: what `make test` can afford.
QUICK = (
    *("lying zip.docx", "overlapping zip.xlsx", "far cell.xlsx", "nested tables.docx", "wide cell.docx"),
    *("spaces by number.odt", "counts wrong.pdf", "giant page.pdf", "billion laughs.xml"),
    *("quadratic entities.xml", "foreign entity.xml", "aliases.yaml", "deep.ipynb", "nested.eml"),
    *("fifty thousand pixels.png", "cycle.tiff", "nested zips.zip", "sparse.tar"),
)
