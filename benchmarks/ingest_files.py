"""A folder of mixed files to ingest: real ones as far as they go, synthetic ones for the rest.

Only files that every system can be expected to read: UTF-8 where it is text, PDFs that pypdf (which most
peers read them with) finds text in, none larger than 300 kB, so that no single book is the benchmark. Some
of the synthetic text files each hold one fact that no other file has; questions for these facts show that
an index was really made.
"""

from __future__ import annotations

import csv
import hashlib
import html
import io
import logging
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from synthetic_index import sentences

SHARES = {"txt": 0.20, "md": 0.20, "pdf": 0.15, "html": 0.15, "docx": 0.10, "py": 0.10, "csv": 0.10}
MAX_BYTES = 300_000
_MIN_PDF_CHARACTERS = 200
_NUM_FACTS = 20
_PLACES = (
    *("Kestrel Harbour", "Oldmere", "Saint Brannoc", "Tollgate Hill", "Wexcombe", "Lower Pelham", "Ravensby"),
    *("Quarry End", "Marrow Bay", "Dunfallow", "Ashgrove", "Hollin Bridge", "Castle Penn", "Vetchling"),
    *("Northcote Mill", "Sandling", "Upper Thorne", "Brackenfold", "Eelmarsh", "Whitlow"),
)
_THINGS = (
    *("copper turbine", "glass observatory", "tidal sluice", "organ loft", "salt warehouse", "rope bridge"),
    *("ice cellar", "printing press", "signal tower", "herb garden", "clock workshop", "coal barge"),
    *("wind pump", "silk loom", "lamp store", "grain elevator", "bell foundry", "post coach", "dry dock"),
    *("map archive",),
)


class Corpus(NamedTuple):
    files: list[Path]
    questions: list[tuple[str, str]]  # and the name of the file that holds the answer
    num_real: int

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)


def gather(folders: Sequence[Path], number: int, into: Path) -> Corpus:
    """So many files in the folder `into`, in the shares above; the same ones each time."""
    into.mkdir(parents=True)
    rng = random.Random(0)
    words = sentences()
    files: list[Path] = []
    questions: list[tuple[str, str]] = []
    num_real = 0
    for suffix, share in SHARES.items():
        wanted = max(1, round(share * number))
        # Half of the text files stay synthetic: that is where the facts are.
        real = wanted // 2 if suffix in ("txt", "md") else wanted
        for source in _real_files(folders, suffix, real):
            files.append(into / f"{len(files):05d}-{source.stem[:40]}.{suffix}")
            shutil.copyfile(source, files[-1])
            wanted -= 1
            num_real += 1
        for _ in range(wanted if suffix != "pdf" else 0):
            path = into / f"{len(files):05d}-synthetic.{suffix}"
            fact = ""
            if suffix == "txt" and len(questions) < _NUM_FACTS:
                fact, question = _fact(len(questions))
                questions.append((question, path.name))
            _write(path, suffix, rng, words, fact)
            files.append(path)
    return Corpus(files, questions, num_real)


def _fact(number: int) -> tuple[str, str]:
    place, thing = _PLACES[number], _THINGS[number]
    return f"The warden of {place} inspected the {thing}.", f"What did the warden of {place} inspect?"


def _real_files(folders: Sequence[Path], suffix: str, number: int) -> Iterator[Path]:
    """In an order that has nothing to do with their names; each content once."""
    found = [path for folder in folders for path in folder.rglob(f"*.{suffix}") if path.is_file()]
    found.sort(key=lambda path: hashlib.sha256(path.name.encode()).digest())
    seen: set[bytes] = set()
    for path in found:
        if number <= 0:
            return
        if not 0 < path.stat().st_size <= MAX_BYTES:
            continue
        data = path.read_bytes()
        digest = hashlib.sha256(data).digest()
        if digest not in seen and _is_readable(data, suffix):
            seen.add(digest)
            number -= 1
            yield path


def _is_readable(data: bytes, suffix: str) -> bool:
    if suffix == "docx":
        return data.startswith(b"PK")
    if suffix == "pdf":
        return _pdf_has_text(data)
    try:
        return len(data.decode().strip()) >= 20 and b"\0" not in data
    except UnicodeDecodeError:
        return False


def _pdf_has_text(data: bytes) -> bool:
    import pypdf

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted:
            return False
        text = "".join(page.extract_text() for page in reader.pages)
    except Exception:  # noqa: BLE001 - whatever it is, pypdf does not read the file
        return False
    return len(text.strip()) >= _MIN_PDF_CHARACTERS


# --- synthetic files


def _write(path: Path, suffix: str, rng: random.Random, words: Sequence[str], fact: str) -> None:
    """150 to 900 words, about, in two to six sections."""
    sections = [
        [" ".join(rng.choices(words, k=rng.randint(2, 5))) for _ in range(rng.randint(1, 3))]
        for _ in range(rng.randint(2, 6))
    ]
    if fact:
        sections[-1].append(fact)
    title = f"Report {path.stem.split('-')[0]}"
    if suffix == "docx":
        _write_docx(path, title, sections)
        return
    text = {"txt": _as_text, "md": _as_markdown, "html": _as_html, "py": _as_python, "csv": _as_csv}[suffix]
    path.write_text(text(title, sections), encoding="utf-8")


def _as_text(title: str, sections: Sequence[Sequence[str]]) -> str:
    return "\n\n".join([title, *("\n\n".join(paragraphs) for paragraphs in sections)]) + "\n"


def _as_markdown(title: str, sections: Sequence[Sequence[str]]) -> str:
    parts = [f"# {title}"]
    for number, paragraphs in enumerate(sections, 1):
        parts += [f"## Part {number}", *paragraphs]
    return "\n\n".join(parts) + "\n"


def _as_html(title: str, sections: Sequence[Sequence[str]]) -> str:
    body = "".join(
        f"<h2>Part {number}</h2>" + "".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in paragraphs)
        for number, paragraphs in enumerate(sections, 1)
    )
    return (
        f"<!doctype html><html><head><title>{title}</title><style>p {{ margin: 1em }}</style></head><body>"
        f"<nav><a href='/'>Home</a></nav><main><h1>{title}</h1>{body}</main></body></html>"
    )


def _as_python(title: str, sections: Sequence[Sequence[str]]) -> str:
    parts = [f'"""{title}."""']
    for number, paragraphs in enumerate(sections, 1):
        doc = "\n    ".join(paragraph.replace('"', "'").replace("\\", "/") for paragraph in paragraphs)
        parts.append(f'def part_{number}(value: int) -> int:\n    """{doc}"""\n    return value + {number}')
    return "\n\n\n".join(parts) + "\n"


def _as_csv(title: str, sections: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["report", "part", "remark"])
    for number, paragraphs in enumerate(sections, 1):
        writer.writerows([title, number, paragraph] for paragraph in paragraphs)
    return out.getvalue()


def _write_docx(path: Path, title: str, sections: Sequence[Sequence[str]]) -> None:
    import docx

    document = docx.Document()
    document.add_heading(title, 1)
    for number, paragraphs in enumerate(sections, 1):
        document.add_heading(f"Part {number}", 2)
        for paragraph in paragraphs:
            document.add_paragraph(paragraph)
    document.save(str(path))
