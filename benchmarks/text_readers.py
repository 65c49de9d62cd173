"""The other side of text_quality.py: one reader in a process of its own, ours or a peer's.

    PYTHON text_readers.py NAME < requests > readings

A request is a JSON line {"path", "limit_seconds"}, its reading one with "text", "pages", "seconds" (of this
process's and its children's CPU) and "error" (a short reason, or ""). Nothing of ours is imported but by
the reader "ragserve".
"""

from __future__ import annotations

import io
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff"})


class Text(NamedTuple):
    text: str
    pages: int = 0


Reader = Callable[[Path], Text]


class TooSlow(BaseException):
    """Not an Exception: readers catch those."""


class Refused(Exception):
    """A reader's own word for what is wrong with a file."""


# --- the readers, each made by a function that imports it


def ragserve() -> Reader:
    """The indexer's parser; OCR for pictures only, whose caption (it is made from the name) is left out.

    So are the heads and feet of Word documents, as no other text here has them.
    """
    from indexer.parsers import ParseError, ParseOptions, parse

    def read(path: Path) -> Text:
        is_picture = path.suffix.lower() in PICTURES
        try:
            document = parse(path.read_bytes(), name=path.name, options=ParseOptions(ocr=is_picture))
        except ParseError as error:
            # The others give an empty text, the indexer a failure with a reason: count it as theirs.
            if error.code in ("no-extractable-text", "empty-file"):
                return Text("")
            raise Refused(error.code) from error
        blocks = [
            document.text[block.start : block.end]
            for block in document.blocks
            if block.name != "header or footer" and not (is_picture and block.kind == "image")
        ]
        return Text("\n\n".join(blocks), 1 if is_picture else int(document.metadata.get("pages", "0")))

    return read


def pypdf() -> Reader:
    import pypdf

    def read(path: Path) -> Text:
        reader = pypdf.PdfReader(io.BytesIO(path.read_bytes()), strict=False)
        if reader.is_encrypted and not reader.decrypt(""):
            raise PermissionError("encrypted")
        texts = [page.extract_text() for page in reader.pages]
        return Text("\n".join(texts), len(texts))

    return read


def pypdfium2() -> Reader:
    import pypdfium2

    def read(path: Path) -> Text:
        with pypdfium2.PdfDocument(path.read_bytes()) as pdf:
            texts = []
            for page in pdf:
                textpage = page.get_textpage()
                texts.append(textpage.get_text_range())
                textpage.close()
                page.close()
            return Text("\n".join(texts).replace("\ufffe", ""), len(texts))

    return read


def pdfplumber() -> Reader:
    import pdfplumber

    def read(path: Path) -> Text:
        with pdfplumber.open(path) as pdf:
            texts = []
            for page in pdf.pages:
                texts.append(page.extract_text())
                page.close()  # else all pages stay in memory
            return Text("\n".join(texts), len(texts))

    return read


def markitdown() -> Reader:
    from markitdown import MarkItDown  # installed as markitdown[docx,pptx,xlsx,pdf]

    converter = MarkItDown(enable_plugins=False)
    return lambda path: Text(converter.convert(path).text_content)


def rapidocr() -> Reader:
    """With its defaults."""
    from rapidocr import RapidOCR

    engine = RapidOCR(params={"Global.log_level": "critical"})
    return lambda path: Text("\n".join(engine(str(path)).txts or ()), 1)


def tesseract() -> Reader:
    """The program of that name, with its defaults."""

    def read(path: Path) -> Text:
        command = ["tesseract", str(path), "stdout"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
        return Text(done.stdout.decode("utf-8", "replace"), 1)

    return read


READERS: dict[str, Callable[[], Reader]] = {
    make.__name__: make for make in (ragserve, pypdf, pypdfium2, pdfplumber, markitdown, rapidocr, tesseract)
}


# --- the process


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    # Libraries print: what they print must not get among the readings.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    read = READERS[sys.argv[1]]()
    for line in sys.stdin:
        request = json.loads(line)
        found = reading(read, Path(request["path"]), request["limit_seconds"])
        print(json.dumps(found), file=out, flush=True)


def reading(read: Reader, path: Path, limit_seconds: int) -> dict[str, object]:
    """What one file came to."""
    started = _cpu_seconds()
    found, error = Text(""), ""
    try:
        with time_limit(limit_seconds):
            found = read(path)
    except TooSlow:
        error = "too slow"
    except Refused as refusal:
        error = str(refusal)
    except Exception as failure:  # noqa: BLE001 - any failure of a reader is what is counted here
        error = type(failure).__name__
    return {**found._asdict(), "seconds": _cpu_seconds() - started, "error": error}


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooSlow

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def _cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
