"""How much of a file's text do readers find, and in how much time: documents by format, PDFs, OCR.

    python benchmarks/text_quality.py DATA [--only formats pdfs ocr] [--formats docx ...]
                                           [--peer NAME=PYTHON ...] [--quick]

DATA holds `docs` and `images`. Readers run in processes of their own; ours, pypdf, pypdfium2 and rapidocr
are installed with ragserve, tesseract is the program of that name if there is one, pdfplumber and
markitdown are peers with environments of their own. A score is the F1 of two bags of words; 95% bootstrap
intervals are over files. Seconds are of CPU.

Formats: files with silver text, which another tool made and people checked (`sources/NAME` has
`groundtruth/NAME.md`; `NAME.groundtruth.txt`). Marks (also ticked boxes and commands of LaTeX), comments and
addresses of links do not count as words. The silver text leaves out the heads and feet of Word documents,
which ours reads once; so they are left out of ours here.

PDFs: every one below `docs`, most of which are there because they break readers; OCR is off. The floor for
ours is pypdfium2 alone, which it adds boxes, reading order, headings, tables and a second reader to. How
much pypdf and pypdfium2 agree says how far either can be trusted.

OCR: receipts, photographed or scanned, whose words people typed (`sroie/box`), and the pages of
`tesseract_test` that come with text. The ceiling of ours is 1; rapidocr alone is the engine that it adds
its preparation of the picture to.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import select
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from ragserve.evaluation.bootstrap import interval

OURS = "ragserve"
SECTIONS = ("formats", "pdfs", "ocr")
OF_FORMATS = (OURS, "pypdf", "pypdfium2", "pdfplumber", "markitdown")
OF_PDFS = (OURS, "pypdf", "pypdfium2", "pdfplumber", "markitdown")
OF_PICTURES = (OURS, "rapidocr", "tesseract")
ONLY_PDF = frozenset({"pypdf", "pypdfium2", "pdfplumber"})
QUICK = 2  # files a format, receipts; ten times as many PDFs
_OCR_LIMITS = 10  # times as long for pictures
_GRACE_SECONDS = 30  # beyond its limit, after which a reader that does not listen is ended
_NO_DOCUMENTS = frozenset({"md_deepseek"})  # a model's output in markup of its own, nothing that people have
_WORD = re.compile(r"[^\W_]+")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_LINK_TARGET = re.compile(r"(?<=\])\([^()\s]*\)")
_MARK = re.compile(r"\[[xX]\]|\\[A-Za-z]+")  # a ticked box, a command of LaTeX


class Reading(NamedTuple):
    text: str
    pages: int
    seconds: float
    error: str


class Expected(NamedTuple):
    path: Path
    text: str


def main() -> int:
    arguments = parse_arguments()
    pythons = dict.fromkeys((OURS, "pypdf", "pypdfium2", "rapidocr"), sys.executable)
    if shutil.which("tesseract"):
        pythons["tesseract"] = sys.executable
    pythons |= dict(peer.split("=", 1) for peer in arguments.peer)
    few = QUICK if arguments.quick else None
    limit = arguments.seconds_per_file
    figures: dict[str, Any] = {"seconds_per_file": limit}
    docs, images = arguments.data / "docs", arguments.data / "images"
    if "formats" in arguments.only:
        expected = (pair for pair in with_silver_text(docs) if is_asked_for(pair.path, arguments.formats))
        figures |= measure_formats(expected, available(OF_FORMATS, pythons), limit, few)
    if "pdfs" in arguments.only:
        pdfs = sorted(docs.rglob("*.pdf"))
        pdfs = pdfs[:: max(1, len(pdfs) // (10 * few))] if few else pdfs
        figures |= measure_pdfs(pdfs, available(OF_PDFS, pythons), limit)
    if "ocr" in arguments.only:
        readers = available(OF_PICTURES, pythons)
        for name, pictures in {"receipts": receipts(images), "pages": typeset_pages(images)}.items():
            figures |= measure_ocr(name, list(pictures)[:few], readers, _OCR_LIMITS * limit)
    print(json.dumps(figures))
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--formats", nargs="+", metavar="EXTENSION", help="of the formats, only these")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--seconds-per-file", type=int, default=30)
    parser.add_argument("--quick", action="store_true", help="a few files, which shows that it runs")
    return parser.parse_args()


def available(names: Sequence[str], pythons: Mapping[str, str]) -> dict[str, str]:
    return {name: pythons[name] for name in names if name in pythons}


def is_asked_for(path: Path, formats: Sequence[str] | None) -> bool:
    return not formats or path.suffix[1:] in formats


# --- what is to be found


def with_silver_text(folder: Path) -> Iterator[Expected]:
    """Files that come with text which someone else took from them."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or _NO_DOCUMENTS & set(path.parts):
            continue
        silver = path.parent.parent / "groundtruth" / f"{path.name}.md"
        if path.suffix == ".pdf":
            silver = silver.with_name(f"{path.stem}.md")  # "page.odt.pdf" is a print of "page.odt"
            title = path.stem.partition("-")[0]
            books = [above.glob(f"{title}*.groundtruth.txt") for above in (path.parent, path.parent.parent)]
            silver = next(chain(*books), silver)
        if silver.is_file():
            yield Expected(path, silver.read_text(encoding="utf-8"))


def receipts(folder: Path) -> Iterator[Expected]:
    """Pictures with the words of each box: eight coordinates, then the words."""
    for box in sorted((folder / "sroie" / "box").glob("*.csv")):
        lines = box.read_text(encoding="utf-8", errors="replace").splitlines()
        words = [line.split(",", 8)[8] for line in lines if line.count(",") >= 8]
        yield Expected(folder / "sroie" / "img" / f"{box.stem}.jpg", "\n".join(words))


def typeset_pages(folder: Path) -> Iterator[Expected]:
    for path in sorted((folder / "tesseract_test" / "testing").glob("*.tif")):
        text = path.with_suffix(".txt")
        if text.is_file():
            yield Expected(path, text.read_text(encoding="utf-8", errors="replace"))


def words(text: str) -> Counter[str]:
    text = _LINK_TARGET.sub("", html.unescape(_COMMENT.sub(" ", text)))
    return Counter(word.casefold() for word in _WORD.findall(_MARK.sub(" ", text)))


def f1(a: Counter[str], b: Counter[str]) -> float:
    shared = (a & b).total()
    return 2 * shared / (a.total() + b.total()) if a.total() + b.total() else 1.0


def scores(readings: Sequence[Reading], expected: Sequence[Expected]) -> np.ndarray:
    """(files,) word F1."""
    return np.array(
        [f1(words(found.text), words(pair.text)) for found, pair in zip(readings, expected, strict=True)]
    )


# --- the measuring


def measure_formats(
    expected: Iterator[Expected], readers: Mapping[str, str], limit: int, few: int | None
) -> dict[str, Any]:
    by_format: dict[str, list[Expected]] = {}
    for pair in expected:
        pairs = by_format.setdefault(pair.path.suffix[1:], [])
        if few is None or len(pairs) < few:
            pairs.append(pair)
    print("word F1 against silver text, by format; in brackets how many files failed")
    print(f"{'format':10} {'files':>5}" + "".join(f"{name:>18}" for name in readers))
    figures: dict[str, Any] = {}
    with Readers(readers, limit) as processes:
        for format, pairs in sorted(by_format.items()):
            line = f"{format:10} {len(pairs):5}"
            for name in readers:
                if name in ONLY_PDF and format != "pdf":
                    line += f"{'-':>18}"
                    continue
                readings = [processes.read(name, pair.path) for pair in pairs]
                failed = sum(bool(reading.error) for reading in readings)
                mean = float(scores(readings, pairs).mean())
                line += f"{mean:>18.3f}" if not failed else f"{f'{mean:.3f} ({failed})':>18}"
                figures |= {
                    f"format_{format}_{name}_f1": round(mean, 4),
                    f"format_{format}_{name}_failed": failed,
                }
            print(line, flush=True)
            figures[f"format_{format}_files"] = len(pairs)
    return figures


@dataclass
class Tally:
    """What a reader made of all PDFs."""

    seconds: float = 0.0
    pages: int = 0
    characters: int = 0
    without_text: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")

    def add(self, reading: Reading, name: str) -> None:
        self.seconds += reading.seconds
        self.pages += reading.pages
        self.characters += len(reading.text)
        self.without_text += not reading.text.strip()
        self.slowest = max(self.slowest, (reading.seconds, name))
        if reading.error:
            self.failures[reading.error] += 1


def measure_pdfs(paths: Sequence[Path], readers: Mapping[str, str], limit: int) -> dict[str, Any]:
    print(f"\n{len(paths)} PDFs, {sum(path.stat().st_size for path in paths) / 1e6:.1f} MB, without OCR")
    tallies = {name: Tally() for name in readers}
    agreements: list[float] = []
    with Readers(readers, limit) as processes:
        for path in paths:
            found = {name: processes.read(name, path) for name in readers}
            for name, reading in found.items():
                tallies[name].add(reading, path.name)
            bags = [words(found[name].text) for name in ("pypdf", "pypdfium2")]
            if all(bags):
                agreements.append(f1(*bags))
    pages = tallies["pypdfium2"].pages  # those that markitdown reads are not told
    print(f"{'reader':<11} {'CPU s':>8} {'pages/s':>8} {'characters':>11} {'no text':>8}  failures")
    figures: dict[str, Any] = {"pdf_files": len(paths), "pdf_pages": pages}
    for name, tally in tallies.items():
        rate = (tally.pages or pages) / max(tally.seconds, 1e-9)
        print(
            f"{name:<11} {tally.seconds:>8.2f} {rate:>8.1f} {tally.characters:>11,} {tally.without_text:>8}"
            f"  {tally.failures.total()} {dict(tally.failures.most_common(6)) if tally.failures else ''}"
        )
        print(f"{'':<11} slowest: {tally.slowest[1]} ({tally.slowest[0]:.2f} s)")
        figures |= {
            f"pdf_{name}_cpu_seconds": round(tally.seconds, 2),
            f"pdf_{name}_pages_per_second": round(rate, 1),
            f"pdf_{name}_without_text": tally.without_text,
            f"pdf_{name}_failures": tally.failures.total(),
        }
    if agreements:
        figures["pdf_agreement_f1"] = round(float(np.mean(agreements)), 4)
        print(f"word F1 of pypdf and pypdfium2: {np.mean(agreements):.3f} ({len(agreements)} files)")
    share = tallies["pypdfium2"].seconds / max(tallies[OURS].seconds, 1e-9)
    print(f"ours takes {1 / max(share, 1e-9):.1f} times as long as pypdfium2 alone, its floor")
    return figures | {"pdf_share_of_floor": round(share, 3)}


def measure_ocr(
    name: str, expected: Sequence[Expected], readers: Mapping[str, str], limit: int
) -> dict[str, Any]:
    print(f"\nOCR of {len(expected)} {name}: word F1, 95% interval, CPU seconds a picture")
    figures: dict[str, Any] = {f"ocr_{name}": len(expected)}
    if not expected:
        return figures
    by_reader: dict[str, np.ndarray] = {}
    with Readers(readers, limit) as processes:
        for reader in readers:
            processes.read(reader, expected[0].path)  # loads the models
            readings = [processes.read(reader, pair.path) for pair in expected]
            found = by_reader[reader] = scores(readings, expected)
            low, high = interval(found)
            failures = Counter(reading.error for reading in readings if reading.error)
            taken = float(np.mean([reading.seconds for reading in readings]))
            print(
                f"{reader:<11} {found.mean():.3f}  {low:.3f} to {high:.3f}  {taken:6.2f} s"
                + (f"  failed: {dict(failures)}" if failures else ""),
                flush=True,
            )
            figures |= {
                f"ocr_{name}_{reader}_f1": round(float(found.mean()), 4),
                f"ocr_{name}_{reader}_f1_low": round(low, 4),
                f"ocr_{name}_{reader}_f1_high": round(high, 4),
                f"ocr_{name}_{reader}_cpu_seconds": round(taken, 3),
                f"ocr_{name}_{reader}_failed": failures.total(),
            }
    for reader in [name for name in by_reader if name != OURS]:
        better = by_reader[OURS] - by_reader[reader]
        low, high = interval(better)
        difference = float(better.mean())
        print(f"ours - {reader:<11} {difference:+.3f}, {low:+.3f} to {high:+.3f}")
        figures[f"ocr_{name}_ours_minus_{reader}_f1"] = round(difference, 4)
    return figures


# --- the readers' processes


class Readers:
    """One process a reader, started when first needed and again when it has died. A context manager."""

    def __init__(self, pythons: Mapping[str, str], limit_seconds: int) -> None:
        self._pythons = pythons
        self._limit_seconds = limit_seconds
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._have_read: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for name in list(self._processes):
            self._end(name)

    def read(self, name: str, path: Path) -> Reading:
        """What a reader finds in a file. Ends everything if it does not even start."""
        process = self._processes.get(name) or self._start(name)
        assert process.stdin is not None
        assert process.stdout is not None
        request = {"path": str(path.absolute()), "limit_seconds": self._limit_seconds}
        line, too_slow = "", False
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], self._limit_seconds + _GRACE_SECONDS)
            too_slow = not ready
            line = process.stdout.readline() if ready else ""
        if line:
            self._have_read.add(name)
            return Reading(**json.loads(line))
        self._end(name)
        if name not in self._have_read:
            raise SystemExit(f"{name} does not start with {self._pythons[name]}: is it installed there?")
        return Reading("", 0, 0.0, "too slow" if too_slow else "crashed")

    def _start(self, name: str) -> subprocess.Popen[str]:
        command = [self._pythons[name], str(Path(__file__).with_name("text_readers.py")), name]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, **pipes, text=True, encoding="utf-8")
        self._processes[name] = process
        return process

    def _end(self, name: str) -> None:
        process = self._processes.pop(name)
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


if __name__ == "__main__":
    raise SystemExit(main())
