"""From files to a searchable index beside LlamaIndex, Haystack, txtai and LangChain: time and memory.

    python benchmarks/ingest_peers.py FOLDER... [--files 500] [--rounds 2] --peer NAME=PYTHON ... [--quick]

Mixed files (pdf, html, docx, md, txt, py, csv) out of the folders, synthetic ones where those run out, go
through each system to an index on disk, with the same MiniLM. Peers are llamaindex, llamaindex-parallel
(which reads in several processes), haystack, txtai, langchain and chonkie; PYTHON is the interpreter of an
environment of the peer's own (`ingest_peer.py` has their code). Every run is a process of its own; sides
take turns, and medians are compared. Starting, importing and loading the model are not in the seconds, and
are in the memory: the most that the process and all that it started held at once.

A format that a peer reads less than half of is not asked of it; ours is then measured on the same files as
well, and only equal sets are compared. No system reads pictures (no OCR). Questions with one right file
each, put to the search that each system gives unless told otherwise, show that the index works. Peers embed
in float32, their default; ours in bfloat16 where the hardware is fast at it. `--peer-dtype bfloat16` gives
the peers the same. The model reads 256 tokens of a chunk: what a peer's longer chunks hold beyond that is
never embedded, which saves it time. The floor of an ingest is what it spends on embedding. Python may keep
the bytecode of what it imports, as it does where it is installed: a first run of each side, which is not
counted, has it made.

Then parsing and chunking without embedding, on the same files and cores; the floor is what ours takes if
its work is divided over the cores without loss. Then chunking alone, one thread, texts in memory, beside
chonkie's recursive chunker with the same tokenizer; the ceiling is finding the words.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ingest_files
import ingest_measure
from ingest_measure import Chunked, K, PeakMemory, Splitter, System

from indexer import Index, SentenceTransformerEmbedder
from indexer.chunking import chunk_document
from indexer.embedding import default_embedder_folder
from indexer.parsers import ParseError, ParseOptions, parse
from indexer.tokenization import ChunkTokenizer
from indexer.types import ParsedDocument
from indexer.workers import ChunkSettings, ParsePool, ParseTask
from retriever import Retriever

OURS = "ragserve"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
WHOLE_TARGET = 3.0  # times as fast as the fastest peer
CHUNK_TARGETS = {"txtai": 5.0, "haystack": 3.0}
SPLIT_TARGET = 5.0
SPLITTERS = ("chonkie", "chonkie-characters")
_MIN_SHARE = 0.5  # of a format's files that have to be read for it to count as read
_LIMIT_SECONDS = 3600
_OPTIONS = ParseOptions(ocr=False)
Figures = dict[str, Any]


def main() -> int:
    arguments = parse_arguments()
    peers = dict(peer.split("=", 1) for peer in arguments.peer)
    number, rounds = (30, 1) if arguments.quick else (arguments.files, arguments.rounds)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        corpus = ingest_files.gather(arguments.folders, number, scratch / "files")
        print(
            f"{len(corpus.files)} files, {corpus.bytes / 1e6:.1f} MB, {corpus.num_real} of them real;"
            f" {CORES} cores; peers embed in {arguments.peer_dtype}"
        )
        bench = Bench(corpus, scratch, peers, arguments.peer_dtype, rounds)
        bench.probe()
        bench.whole()
        bench.parse_and_chunk()
        bench.chunk_only()
    print(json.dumps(bench.figures))
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="real files are taken from here")
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--peer-dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--quick", action="store_true", help="a tiny size, which shows that it runs")
    return parser.parse_args()


class Bench:
    """The comparison, step by step; `figures` grows."""

    def __init__(
        self,
        corpus: ingest_files.Corpus,
        scratch: Path,
        peers: Mapping[str, str],
        peer_dtype: str,
        rounds: int,
    ) -> None:
        self._corpus = corpus
        self._scratch = scratch
        self._rounds = rounds
        self._dtype = peer_dtype
        self._commands = {OURS: [sys.executable, __file__, "--child"]}
        for name, python in peers.items():
            self._commands[name] = [python, str(Path(__file__).with_name("ingest_peer.py"))]
        self._formats: dict[str, frozenset[str]] = {}  # that each peer reads
        self.figures: Figures = {
            "files": len(corpus.files),
            "real_files": corpus.num_real,
            "bytes": corpus.bytes,
            "rounds": rounds,
            "cores": CORES,
            "peer_dtype": peer_dtype,
            "omp_threads": os.environ.get("OMP_NUM_THREADS", "all"),
        }

    def probe(self) -> None:
        """Which formats each peer reads; files are in the page cache, and imports compiled, afterwards."""
        all_formats = frozenset(path.suffix[1:] for path in self._corpus.files)
        self._formats[OURS] = all_formats
        self._run(OURS, "chunk", all_formats)
        for name in self._commands.keys() - {OURS, *SPLITTERS}:
            found = self._run(name, "chunk", all_formats)
            if "error" in found:
                print(f"{name} failed: {found['error']}")
                self.figures[f"{name}_error"] = found["error"]
                continue
            read = found["files_by_format"]
            formats = frozenset(
                format for format in all_formats if read.get(format, 0) >= _MIN_SHARE * self._count([format])
            )
            if formats != all_formats:
                print(f"{name} does not read {', '.join(sorted(all_formats - formats))}")
            if formats:
                self._formats[name] = formats

    def whole(self) -> None:
        """Files to a searchable index."""
        print(f"\nfiles to a searchable index, median of {self._rounds}")
        speed, memory = self._compare("index", floor="embed_seconds", floor_name="the embedding")
        if not speed:
            return
        peer, least = min(speed.items(), key=lambda item: item[1])
        print(f"  {least:.2f} times as fast as the fastest peer, {peer} (target {WHOLE_TARGET:g})")
        print(f"  memory: {max(memory.values()):.2f} of the most frugal peer's (target 1 at most)")
        self.figures |= {
            "index_speedup": round(least, 3),
            "index_speedup_target": WHOLE_TARGET,
            "index_memory_ratio": round(max(memory.values()), 3),
        }

    def parse_and_chunk(self) -> None:
        """Without embedding."""
        print(f"\nparsing and chunking only, median of {self._rounds}")
        speed, _ = self._compare("chunk", floor="floor_seconds", floor_name="divided without loss")
        for peer, times in speed.items():
            target = CHUNK_TARGETS.get(peer.partition("-")[0])
            if target:
                print(f"  {times:.2f} times as fast as {peer} (target {target:g})")

    def _compare(
        self, action: str, *, floor: str, floor_name: str
    ) -> tuple[dict[str, float], dict[str, float]]:
        """All sides in turn; how many times as fast ours is as each peer, and its share of their memory."""
        sides = [(OURS, formats) for formats in sorted(set(self._formats.values()), key=len, reverse=True)]
        sides += [(name, formats) for name, formats in self._formats.items() if name != OURS]
        runs: dict[tuple[str, frozenset[str]], list[Figures]] = {side: [] for side in sides}
        for _ in range(self._rounds):
            for side in sides:
                runs[side].append(self._run(side[0], action, side[1]))
        medians = {side: median(found) for side, found in runs.items()}
        for (name, formats), found in medians.items():
            self._show(name, formats, found, action)
        ours = medians[OURS, self._formats[OURS]]
        if ours.get("seconds"):
            share = ours[floor] / ours["seconds"]
            print(f"  floor of ours: {floor_name}, {ours[floor]:.2f} s, {share:.0%} of its time")
            self.figures[f"{OURS}_{action}_share_of_floor"] = round(share, 4)
        speed, memory = {}, {}
        for (name, formats), found in medians.items():
            same = medians[OURS, formats]
            if name != OURS and "error" not in found | same:
                speed[name] = found["seconds"] / same["seconds"]
                memory[name] = same["peak_bytes"] / found["peak_bytes"]
                self.figures[f"{name}_{action}_seconds_ratio"] = round(speed[name], 3)
                self.figures[f"{name}_{action}_memory_ratio"] = round(memory[name], 3)
        return speed, memory

    def _show(self, name: str, formats: frozenset[str], found: Figures, action: str) -> None:
        left_out = sorted(self._formats[OURS] - formats)
        title = f"{name} without {', '.join(left_out)}" if left_out else name
        found = {figure: value for figure, value in found.items() if figure != "files_by_format"}  # flat
        key = f"{name}_{action}" + (f"_without_{'_'.join(left_out)}" if left_out and name == OURS else "")
        self.figures |= {f"{key}_{figure}": value for figure, value in found.items()}
        if "error" in found:
            print(f"  {title:24} failed: {found['error']}")
            return
        print(
            f"  {title:24} {found['seconds']:8.2f} s  {found['files'] / found['seconds']:7.1f} files/s"
            f"  {found['files']:5} of {self._count(formats)} files  {found['chunks']:6} chunks"
            f"  {found['characters'] / 1e6:6.2f} M characters  peak {found['peak_bytes'] / 1e6:6,.0f} MB"
            + (f"  found {found['found']:.0%}" if "found" in found else "")
            + f"  ({found['version']})"
        )

    def chunk_only(self) -> None:
        """Texts in memory."""
        documents = list(parsed(self._corpus.files))
        texts = self._scratch / "texts.json"
        texts.write_text(json.dumps([document.text for document in documents]), encoding="utf-8")
        size = sum(len(document.text.encode()) for document in documents)
        started = time.perf_counter()
        for document in documents:
            document.text.split()
        ceiling = size / 1e6 / (time.perf_counter() - started)
        print(f"\nchunking only, {size / 1e6:.1f} MB of text in memory, one thread")
        speeds = {}
        names = [f"{OURS}-chunks", *(SPLITTERS if "chonkie" in self._commands else ())]
        for name in names:
            command = self._commands["chonkie" if name in SPLITTERS else OURS]
            task = {
                "system": name,
                "files": [str(path) for path in self._corpus.files],
                "texts": str(texts),
                "rounds": 1 + 2 * self._rounds,
            }
            found = self._start(command, task)
            self.figures |= {f"{name}_{figure}": value for figure, value in found.items()}
            if "error" in found:
                print(f"  {name:24} failed: {found['error']}")
                continue
            speeds[name] = found["megabytes_per_second"]
            print(f"  {name:24} {speeds[name]:8.2f} MB/s  {found['chunks']:6} chunks  ({found['version']})")
        ours = speeds.get(names[0])
        if ours:
            print(f"  ceiling: finding the words, {ceiling:.0f} MB/s; ours reaches {ours / ceiling:.1%}")
            self.figures |= {"split_ceiling_megabytes_per_second": round(ceiling, 1)}
        for name in SPLITTERS:
            if ours and name in speeds:
                print(f"  {ours / speeds[name]:.2f} times as fast as {name} (target {SPLIT_TARGET:g})")
                self.figures[f"split_speedup_{name}"] = round(ours / speeds[name], 3)

    def _count(self, formats: Iterable[str]) -> int:
        wanted = set(formats)
        return sum(path.suffix[1:] in wanted for path in self._corpus.files)

    def _run(self, name: str, action: str, formats: frozenset[str]) -> Figures:
        files = [path for path in self._corpus.files if path.suffix[1:] in formats]
        present = {path.name for path in files}
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            task = {
                "system": name,
                "action": action,
                "files": [str(path) for path in files],
                "folder": str(Path(folder, "index")),
                "questions": [pair for pair in self._corpus.questions if pair[1] in present],
            }
            return self._start(self._commands[name], task)

    def _start(self, command: Sequence[str], task: Mapping[str, Any]) -> Figures:
        """What one process says of itself, and its peak memory; or the error that ended it."""
        task = {**task, "model": str(default_embedder_folder()), "cores": CORES, "dtype": self._dtype}
        environment = os.environ | {
            "HF_HUB_OFFLINE": "1",
            "HAYSTACK_TELEMETRY_ENABLED": "False",
            "PYTHONIOENCODING": "utf-8",
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        (given := self._scratch / "task.json").write_text(json.dumps(task), encoding="utf-8")
        with (
            given.open("rb") as stdin,
            tempfile.TemporaryFile() as stdout,
            tempfile.TemporaryFile() as stderr,
            subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, env=environment) as process,
        ):
            with PeakMemory(process.pid) as memory:
                try:
                    process.wait(_LIMIT_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    return {"error": f"still running after {_LIMIT_SECONDS} seconds"}
            lines = _lines(stderr if process.returncode else stdout)
        if process.returncode or not lines:
            return {"error": lines[-1] if lines else f"exit code {process.returncode}"}
        return {**json.loads(lines[-1]), "peak_bytes": memory.bytes}


def median(runs: Sequence[Figures]) -> Figures:
    """Medians of what varies, of the runs that succeeded; the other figures as in the first of them."""
    good = [run for run in runs if "error" not in run]
    if not good:
        return runs[0]
    varying = {"load_seconds", "seconds", "peak_bytes", "embed_seconds", "floor_seconds"} & good[0].keys()
    return good[0] | {name: round(statistics.median(run[name] for run in good), 3) for name in varying}


def _lines(stream: Any) -> list[str]:
    stream.seek(0)
    return [line for line in stream.read().decode("utf-8", "replace").splitlines() if line.strip()]


# --- ours, in a process of its own


class Ragserve(System):
    """Index.ingest for the whole; the pool of parsing processes for half of it."""

    version = OURS

    def load(self, *, embedding: bool) -> None:
        self._embedder = SentenceTransformerEmbedder(device="cpu")
        if embedding:
            self._embedder.warm_up()
            self._embedder.embed_documents(["warm up"])

    def index(self, files: Sequence[Path], folder: Path) -> Chunked:
        self._folder = folder
        with Index.open(folder, embedder=self._embedder) as index:
            report = index.ingest(files, jobs=CORES, parse_options=_OPTIONS)
            with index.catalog.read() as connection:
                (characters,) = connection.execute("SELECT sum(length(text)) FROM chunks").fetchone()
        failed = {Path(failure.uri).name for failure in report.failed}
        return Chunked(
            {path.name for path in files} - failed,
            report.chunks,
            characters,
            {"embed_seconds": round(report.embed_seconds, 3), "embedder_dtype": self._embedder.dtype},
        )

    def search(self, question: str) -> list[str]:
        with (
            Index.open(self._folder, embedder=self._embedder, read_only=True) as index,
            Retriever(index, self._embedder, cache=None) as retriever,
        ):
            return [Path(hit.chunk.uri).name for hit in retriever.search(question, k=K).hits]

    def chunk(self, files: Sequence[Path]) -> Chunked:
        settings = ChunkSettings(
            tokenizer_path=self._embedder.tokenizer_path, max_tokens=self._embedder.max_tokens
        )
        chunked, seconds = Chunked(), 0.0
        with ParsePool(CORES, options=_OPTIONS, chunking=settings) as pool:
            for done in pool.map_unordered(ParseTask(path) for path in files):
                seconds += done.seconds
                for draft in done.chunks:
                    chunked.add(done.task.path.name, done.document.text[draft.start : draft.end])
        chunked.details["floor_seconds"] = round(seconds / CORES, 3)
        return chunked


class RagserveChunks(Splitter):
    """The chunker alone, on the documents that the texts are of."""

    version = OURS

    def load(self, texts: Sequence[str]) -> None:
        embedder = SentenceTransformerEmbedder()
        self._tokenizer_path, self._max_tokens = embedder.tokenizer_path, embedder.max_tokens
        self._documents = list(parsed(Path(name) for name in self.task["files"]))
        if [document.text for document in self._documents] != list(texts):
            raise SystemExit("The files have changed.")

    def prepare(self) -> None:
        self._tokenizer = ChunkTokenizer(self._tokenizer_path)
        self._tokenizer.count("\u200d")  # loads the library, as is done for the peer

    def split(self) -> int:
        return sum(
            len(chunk_document(document, self._tokenizer, max_tokens=self._max_tokens))
            for document in self._documents
        )


def parsed(files: Iterable[Path]) -> Iterable[ParsedDocument]:
    """The files that can be read, in this process."""
    for path in files:
        try:
            yield parse(path.read_bytes(), name=path.name, options=_OPTIONS)
        except ParseError:
            continue


if __name__ == "__main__":
    if sys.argv[1:] == ["--child"]:
        ingest_measure.main({OURS: Ragserve, f"{OURS}-chunks": RagserveChunks})
    else:
        raise SystemExit(main())
