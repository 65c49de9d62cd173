"""Which reader gives the text of PDFs, how fast, and how much of it do two readers agree on?

    python benchmarks/pdf_readers.py FOLDER [--seconds-per-file 30]

Reads every PDF below FOLDER three times: with pypdf, with pypdfium2, and with the indexer's own parser (OCR
off), which is pypdfium2 plus boxes, reading order, headings, and pypdf where pdfium's text is garbage.
Seconds are of this process's CPU. Agreement is the F1 of the bags of words. The floor for the indexer is
pypdfium2 alone. Where a folder has silver text (`NAME.groundtruth.txt` above it, or `groundtruth/NAME.md`),
each reader's word F1 against it is printed as well. The last line is JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from indexer.parsers import ParseOptions, parse
from indexer.parsers.errors import ParseError

WORD = re.compile(r"[^\W_]+")


class TooSlow(BaseException):
    """Not an Exception: readers catch those."""


@dataclass
class Tally:
    seconds: float = 0.0
    pages: int = 0
    characters: int = 0
    without_text: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")


def with_pypdf(data: bytes, name: str) -> tuple[str, int]:
    import pypdf

    reader = pypdf.PdfReader(io.BytesIO(data), strict=False)
    if reader.is_encrypted and not reader.decrypt(""):
        raise PermissionError("encrypted")
    texts = [page.extract_text() for page in reader.pages]
    return "\n".join(texts), len(texts)


def with_pypdfium2(data: bytes, name: str) -> tuple[str, int]:
    import pypdfium2

    with pypdfium2.PdfDocument(data) as pdf:
        texts = []
        for page in pdf:
            textpage = page.get_textpage()
            texts.append(textpage.get_text_range())
            textpage.close()
            page.close()
        return "\n".join(texts).replace("\ufffe", ""), len(texts)


def with_indexer(data: bytes, name: str) -> tuple[str, int]:
    document = parse(data, name=name, options=ParseOptions(ocr=False))
    return document.text, int(document.metadata.get("pages", "0"))


READERS: dict[str, Callable[[bytes, str], tuple[str, int]]] = {
    "pypdf": with_pypdf,
    "pypdfium2": with_pypdfium2,
    "indexer": with_indexer,
}


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


def read(reader: str, data: bytes, path: Path, tally: Tally, limit: int) -> str:
    """The text, "" on failure; everything is counted in the tally."""
    started = time.process_time()
    text = ""
    try:
        with time_limit(limit):
            text, pages = READERS[reader](data, path.name)
            tally.pages += pages
    except TooSlow:
        tally.failures["too slow"] += 1
    except ParseError as error:
        # An empty file is one for the others, a failure with a reason for the indexer: count it as theirs.
        if error.code not in ("no-extractable-text", "empty-file"):
            tally.failures[error.code] += 1
    except Exception as error:  # noqa: BLE001 - any failure of a reader is what is counted here
        tally.failures[type(error).__name__] += 1
    seconds = time.process_time() - started
    tally.seconds += seconds
    tally.slowest = max(tally.slowest, (seconds, path.name))
    tally.characters += len(text)
    tally.without_text += not text.strip()
    return text


def words(text: str) -> Counter[str]:
    return Counter(word.casefold() for word in WORD.findall(text))


def f1(a: Counter[str], b: Counter[str]) -> float:
    shared = (a & b).total()
    return 2 * shared / (a.total() + b.total()) if a.total() + b.total() else 1.0


def silver_text(path: Path, folder: Path) -> str | None:
    """Text that people or another tool made of the same document."""
    for above in path.parents:
        for candidate in (
            *above.glob(f"{path.stem.split('-')[0]}*.groundtruth.txt"),
            above / "groundtruth" / f"{path.stem}.md",
        ):
            if candidate.is_file():
                return candidate.read_text(encoding="utf-8")
        if above == folder:
            return None
    return None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds-per-file", type=int, default=30)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    paths = sorted(arguments.folder.rglob("*.pdf"))
    if not paths:
        sys.exit(f"There is no PDF below {arguments.folder}.")
    tallies = {reader: Tally() for reader in READERS}
    agreements: list[tuple[float, int]] = []
    silver: dict[str, list[str]] = {}
    for path in paths:
        data = path.read_bytes()
        texts = {
            reader: words(read(reader, data, path, tallies[reader], arguments.seconds_per_file))
            for reader in READERS
        }
        if texts["pypdf"] and texts["pypdfium2"]:
            agreements.append((f1(texts["pypdf"], texts["pypdfium2"]), texts["pypdfium2"].total()))
        expected = silver_text(path, arguments.folder)
        if expected:
            silver[path.name] = [f"{f1(texts[reader], words(expected)):.3f}" for reader in READERS]
    report(paths, tallies, agreements, silver)


def report(
    paths: list[Path],
    tallies: dict[str, Tally],
    agreements: list[tuple[float, int]],
    silver: dict[str, list[str]],
) -> None:
    print(f"{len(paths)} files, {sum(path.stat().st_size for path in paths) / 1e6:.1f} MB")
    print(
        f"{'reader':<10} {'CPU s':>8} {'pages/s':>8} {'pages':>6} {'characters':>11} {'no text':>8}  failures"
    )
    for reader, tally in tallies.items():
        print(
            f"{reader:<10} {tally.seconds:>8.2f} {tally.pages / tally.seconds:>8.1f} {tally.pages:>6} "
            f"{tally.characters:>11,} {tally.without_text:>8}  {dict(tally.failures) or '-'}"
        )
        print(f"{'':<10} slowest: {tally.slowest[1]} ({tally.slowest[0]:.2f} s)")
    mean = sum(score for score, _ in agreements) / max(1, len(agreements))
    weighted = sum(score * count for score, count in agreements) / max(
        1, sum(count for _, count in agreements)
    )
    print(
        f"word F1 of pypdf and pypdfium2: {mean:.3f} a file, {weighted:.3f} a word ({len(agreements)} files)"
    )
    for name, scores in silver.items():
        print(
            f"word F1 against silver text, {name}: "
            + ", ".join(map(" ".join, zip(READERS, scores, strict=True)))
        )
    ceiling, ours = tallies["pypdfium2"], tallies["indexer"]
    share = ceiling.seconds / ours.seconds
    print(f"the indexer takes {1 / share:.1f} times as long as pypdfium2 alone, its floor")
    print(
        json.dumps(
            {
                "benchmark": "pdf_readers",
                "files": len(paths),
                "pages_per_second": {name: round(t.pages / t.seconds, 1) for name, t in tallies.items()},
                "failures": {name: t.failures.total() for name, t in tallies.items()},
                "without_text": {name: t.without_text for name, t in tallies.items()},
                "agreement": round(mean, 4),
                "agreement_weighted": round(weighted, 4),
                "silver": silver,
                "share_of_ceiling": round(share, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
