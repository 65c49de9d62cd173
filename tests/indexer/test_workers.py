from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from store_fakes import tokenizer_path

from indexer import worker_process, workers
from indexer.parsers import ParseOptions
from indexer.parsers.errors import (
    DocumentTooLarge,
    EncryptedPdf,
    MalformedFile,
    NotARegularFile,
    ParseError,
    ParserCrashed,
    ParserOutOfMemory,
    ParserTimedOut,
    UnreadableFile,
)
from indexer.worker_values import settings_message
from indexer.workers import ChunkSettings, ParsedFile, ParseLimits, ParsePool, ParseTask

LIMITS = ParseLimits(seconds=60, max_memory_bytes=512 << 20)


def parse_all(
    *paths: Path, num_workers: int = 1, limits: ParseLimits = LIMITS, **more: object
) -> dict[str, ParsedFile]:
    with ParsePool(num_workers, limits, **more) as pool:
        return {result.task.path.name: result for result in pool.map_unordered(map(ParseTask, paths))}


@pytest.fixture
def misbehaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for "workbooks" that do what they say: in workers, and only there, openpyxl is this."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "openpyxl.py").write_text(
        textwrap.dedent(
            """
            import zipfile
            def load_workbook(file, **options):
                exec(zipfile.ZipFile(file).read("do").decode())
                raise ValueError("done")
            """
        )
    )
    monkeypatch.syspath_prepend(library)
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


def workbook(path: Path, do: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.xml", "")
        archive.writestr("do", do)
    return path


def text_file(path: Path, text: str = "The ferry leaves at nine.\n") -> Path:
    path.write_text(text)
    return path


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} seconds for {what}"
        time.sleep(0.02)


def test_documents_come_back_with_chunks_and_the_facts_of_their_bytes(tmp_path: Path) -> None:
    path = text_file(tmp_path / "a.md", "# Ferry\n\nIt leaves at nine.\n")
    chunking = ChunkSettings(tokenizer_path=tokenizer_path(), max_tokens=64)
    result = parse_all(path, chunking=chunking)["a.md"]
    assert result.document is not None
    assert result.document.title == "Ferry"
    assert [result.document.text[chunk.start : chunk.end] for chunk in result.chunks] == [
        "Ferry\n\nIt leaves at nine."
    ]
    assert result.chunks[0].heading_path == ("Ferry",)
    assert result.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (result.size, result.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)
    assert result.error is None
    assert not result.skipped
    assert result.seconds > 0


def test_everything_of_a_document_survives_the_pipe(tmp_path: Path) -> None:
    from indexer.parsers import parse
    from indexer.worker_wire import decode, document_from_json, document_to_json, encode

    document = parse(b"---\ntitle: x\n---\n# A\n\n| a | b |\n|---|---|\n| 1 | \xc3\xa9 |\n", name="a.md")
    assert document_from_json(decode(encode(document_to_json(document)))) == document


def test_the_callers_tag_comes_back_and_so_does_every_file(tmp_path: Path) -> None:
    paths = [text_file(tmp_path / f"{i}.txt", f"file {i}") for i in range(40)]
    with ParsePool(2, LIMITS) as pool:
        results = list(pool.map_unordered(ParseTask(path, tag=i) for i, path in enumerate(paths)))
        assert sorted(result.task.tag for result in results) == list(range(40))
        assert all(result.document.text == f"file {result.task.tag}" for result in results)
        assert len(pool.process_ids) <= 2


def test_typed_failures_cross_the_pipe_and_options_reach_the_worker(tmp_path: Path) -> None:
    import io

    import pypdf

    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    writer.encrypt("secret", algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    (tmp_path / "a.pdf").write_bytes(buffer.getvalue())
    error = parse_all(tmp_path / "a.pdf")["a.pdf"].error
    assert isinstance(error, EncryptedPdf)
    assert error.hint
    error = parse_all(tmp_path / "a.pdf", options=ParseOptions(password="secret", ocr=False))["a.pdf"].error
    assert error is not None
    assert error.code == "no-extractable-text"


def test_binaries_of_no_known_kind_and_files_empty_on_purpose_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\x00\x01\x02\x03" * 100)
    (tmp_path / "__init__.py").touch()
    (tmp_path / "empty.txt").touch()
    results = parse_all(*tmp_path.iterdir())
    assert results["a.bin"].skipped == "It is a binary of no known kind."
    assert results["__init__.py"].skipped == "It is empty on purpose."
    assert results["empty.txt"].error.code == "empty-file"


def test_names_that_are_no_text_are_read(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))
    text_file(path)
    (result,) = parse_all(path).values()
    assert result.document is not None
    assert result.document.text


def test_pipes_devices_folders_and_missing_files_are_typed_failures_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "folder").mkdir()
    address = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        paths = [
            tmp_path / "pipe.txt",
            Path("/dev/zero"),
            tmp_path / "folder",
            tmp_path / "missing",
            Path(address),
        ]
        results = parse_all(*paths)
    assert [type(results[path.name].error) for path in paths] == [
        NotARegularFile,
        NotARegularFile,
        NotARegularFile,
        UnreadableFile,
        UnreadableFile,
    ]


def test_a_file_of_two_gigabytes_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.truncate(2 << 30)
    result = parse_all(path)["huge.txt"]
    assert isinstance(result.error, DocumentTooLarge)
    assert "max_bytes" in result.error.hint
    assert result.sha256 == ""  # and there is not the memory to read it all


def test_a_document_that_does_not_fit_the_pipe_is_a_typed_failure(tmp_path: Path) -> None:
    path = text_file(tmp_path / "a.txt", "words " * 10_000)
    error = parse_all(path, limits=ParseLimits(max_output_bytes=10_000))["a.txt"].error
    assert isinstance(error, DocumentTooLarge)


def test_a_file_that_kills_its_worker_is_tried_again_alone_and_then_reported(misbehaving: Path) -> None:
    folder = misbehaving
    bad = workbook(
        folder / "bad.xlsx",
        f"import os, signal; os.mkdir({str(folder)!r} + f'/{{os.getpid()}}');"
        "os.kill(os.getpid(), signal.SIGSEGV)",
    )
    good = [text_file(folder / f"{i}.txt") for i in range(6)]
    results = parse_all(bad, *good, num_workers=2)
    assert isinstance(results["bad.xlsx"].error, ParserCrashed)
    assert "SIGSEGV" in results["bad.xlsx"].error.message
    assert all(results[path.name].document is not None for path in good)
    tries = [entry for entry in folder.iterdir() if entry.name.isdecimal()]
    assert len(tries) == 2, "two processes tried"


def test_a_file_that_only_fails_once_is_read_at_the_second_try(misbehaving: Path) -> None:
    marker = str(misbehaving / "tried")
    path = workbook(
        misbehaving / "a.xlsx",
        f"import os; os._exit(3) if not os.path.exists({marker!r}) and not os.mkdir({marker!r}) else None",
    )
    error = parse_all(path)["a.xlsx"].error
    assert isinstance(error, MalformedFile), "the second try came to the library's own error"
    assert "done" in error.message


@pytest.mark.parametrize("what", ["while True: pass", "sum(range(10**13))", "import time; time.sleep(1000)"])
def test_a_file_that_takes_forever_is_a_time_out_even_in_native_code(what: str, misbehaving: Path) -> None:
    slow, fast = workbook(misbehaving / "slow.xlsx", what), text_file(misbehaving / "fast.txt")
    results = parse_all(slow, fast, limits=ParseLimits(seconds=3.0))
    assert isinstance(results["slow.xlsx"].error, ParserTimedOut)
    assert results["fast.txt"].document is not None


def test_a_file_that_swells_is_out_of_memory_and_its_worker_replaced(misbehaving: Path) -> None:
    greedy = workbook(misbehaving / "greedy.xlsx", "data = [b'x' * (16 << 20) for _ in range(99)]")
    good = text_file(misbehaving / "good.txt")
    with ParsePool(1, LIMITS) as pool:
        results = {}
        pids = set()
        for result in pool.map_unordered(map(ParseTask, [greedy, good])):
            results[result.task.path.name] = result
            pids.update(pool.process_ids)
    assert isinstance(results["greedy.xlsx"].error, ParserOutOfMemory)
    assert results["good.txt"].document is not None


def test_files_that_are_too_large_together_are_read_one_after_the_other(misbehaving: Path) -> None:
    """Each waits for the other while it holds its memory, so they are in work together."""
    do = "import time; data = bytearray(b'x') * (250 << 20); time.sleep(1.0)"
    files = [workbook(misbehaving / f"{number}.xlsx", do) for number in range(2)]
    limits = ParseLimits(seconds=60, max_memory_bytes=1 << 30, max_total_memory_bytes=450 << 20)
    results = parse_all(*files, num_workers=2, limits=limits)
    assert [type(results[path.name].error) for path in files] == [MalformedFile] * 2, (
        "both were read in the end"
    )


def test_a_file_that_holds_more_than_all_may_is_out_of_memory_however_much_it_may_ask_for(
    misbehaving: Path,
) -> None:
    greedy = workbook(
        misbehaving / "greedy.xlsx", "import time; data = bytearray(b'x') * (400 << 20); time.sleep(100)"
    )
    good = text_file(misbehaving / "good.txt")
    limits = ParseLimits(seconds=90, max_memory_bytes=1 << 30, max_total_memory_bytes=300 << 20)
    results = parse_all(greedy, good, limits=limits)
    assert isinstance(results["greedy.xlsx"].error, ParserOutOfMemory)
    assert results["good.txt"].document is not None


def test_an_error_that_no_one_thought_of_is_reported_with_the_file(misbehaving: Path) -> None:
    error = parse_all(workbook(misbehaving / "odd.xlsx", "raise ZeroDivisionError('odd')"))["odd.xlsx"].error
    assert type(error) is ParseError
    assert error.message == "odd.xlsx could not be read (ZeroDivisionError: odd)."


@pytest.mark.parametrize(
    "what",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "open('written', 'w')",
        "import os; os.open('written', os.O_CREAT | os.O_WRONLY)",
    ],
)
def test_a_document_cannot_make_its_worker_use_the_network_or_programs_or_write_files(
    what: str, misbehaving: Path
) -> None:
    complaint = "raise ValueError(f'{error} {error.__context__}')"
    do = f"try:\n    {what}\nexcept OSError as error:\n    {complaint}"
    error = parse_all(workbook(misbehaving / "a.xlsx", do))["a.xlsx"].error
    assert error is not None
    assert "a parse worker does not" in error.message


def test_workers_do_not_import_torch(misbehaving: Path) -> None:
    path = workbook(misbehaving / "a.xlsx", "import sys; raise ValueError('torch' in sys.modules)")
    chunking = ChunkSettings(tokenizer_path=tokenizer_path(), max_tokens=64)
    error = parse_all(path, chunking=chunking)["a.xlsx"].error
    assert error is not None
    assert "False" in error.message


def test_a_page_of_ocr_puts_the_deadline_off(monkeypatch: pytest.MonkeyPatch) -> None:
    alarms: list[float] = []
    sent: list[bytes] = []

    class Pipe:
        def send_bytes(self, data: bytes) -> None:
            sent.append(data)

    settings = settings_message(ParseLimits(seconds=10, seconds_per_ocr_page=60), ParseOptions(), None)
    worker = worker_process._Worker(Pipe(), settings)
    monkeypatch.setattr(worker_process, "_set_alarm", alarms.append)
    monkeypatch.setattr(worker_process, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    worker._deadline = 1010.0
    worker._before_ocr_page()
    worker._before_ocr_page()
    assert alarms == [70, 130]
    assert sent == [b'{"kind":"ocr-page"}'] * 2


def test_no_process_is_started_for_nothing_and_few_for_little(tmp_path: Path) -> None:
    with ParsePool(8, LIMITS) as pool:
        assert list(pool.map_unordered([])) == []
        assert pool.process_ids == ()
        paths = [text_file(tmp_path / f"{i}.txt") for i in range(3)]
        assert len(list(pool.map_unordered(map(ParseTask, paths)))) == 3
        assert 1 <= len(pool.process_ids) <= 3


def test_workers_stay_for_the_next_call_and_one_that_was_killed_meanwhile_is_replaced(tmp_path: Path) -> None:
    path = text_file(tmp_path / "a.txt")
    with ParsePool(1, LIMITS) as pool:
        assert next(pool.map_unordered([ParseTask(path)])).document is not None
        (first,) = pool.process_ids
        list(pool.map_unordered([ParseTask(path)]))
        assert pool.process_ids == (first,)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: not is_running(first), "the worker to die")
        (result,) = pool.map_unordered([ParseTask(path)])
        assert result.document is not None
        assert pool.process_ids != (first,)


def test_nothing_is_left_running_when_the_pool_is_left(tmp_path: Path, no_thread_is_left: None) -> None:
    path = text_file(tmp_path / "a.txt")
    with ParsePool(2, LIMITS) as pool:
        for _ in pool.map_unordered(ParseTask(path) for _ in range(50)):
            pids = pool.process_ids
            break
    assert pids
    wait_until(lambda: not any(map(is_running, pids)), "the workers to end")


def test_tasks_are_taken_only_a_few_ahead_once_a_worker_is_there(tmp_path: Path) -> None:
    path = text_file(tmp_path / "a.txt")
    taken: list[ParseTask] = []

    def tasks() -> Iterator[ParseTask]:
        for _ in range(10_000):
            taken.append(ParseTask(path))
            yield taken[-1]

    with ParsePool(2, LIMITS) as pool:
        results = pool.map_unordered(tasks())
        next(results)
        assert len(taken) < 300
        for _ in range(305):
            next(results)
        assert len(taken) < 306 + 30


def test_the_first_worker_starts_while_further_files_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, found = text_file(tmp_path / "a.txt"), tmp_path / "found"
    wait = f"import os, time\nwhile not os.path.exists({str(found)!r}): time.sleep(0.01)\n"
    monkeypatch.setattr(workers, "_START", wait + workers._START)

    def tasks() -> Iterator[ParseTask]:
        yield ParseTask(path)
        assert len(pool.process_ids) == 1
        yield from [ParseTask(path)] * 40  # more than are taken once it is there
        found.touch()

    with ParsePool(1, LIMITS) as pool:
        assert len(list(pool.map_unordered(tasks()))) == 41


def test_little_text_is_read_by_one_worker_and_much_by_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_PATIENCE_SECONDS", 600)
    little = [text_file(tmp_path / f"{i}.txt") for i in range(20)]
    much = [text_file(tmp_path / f"{i}.md", "words " * 100_000) for i in range(3)]
    for paths, num_workers in ((little, 1), (much, 2)):
        with ParsePool(2, LIMITS) as pool:
            assert len(list(pool.map_unordered(map(ParseTask, paths)))) == len(paths)
            assert len(pool.process_ids) == num_workers


def begins_and_never_ends(folder: Path) -> tuple[Path, Callable[[], bool]]:
    """A workbook that takes forever, and whether a worker has begun with it."""
    begun = folder / "begun"
    path = workbook(folder / "slow.xlsx", f"import os, time; os.mkdir({str(begun)!r}); time.sleep(10_000)")
    return path, begun.exists


def test_a_worker_reads_on_while_use_is_made_of_its_result(misbehaving: Path) -> None:
    slow, has_begun = begins_and_never_ends(misbehaving)
    with ParsePool(1, LIMITS) as pool:
        results = pool.map_unordered(map(ParseTask, [text_file(misbehaving / "a.txt"), slow]))
        next(results)
        wait_until(has_begun, "the worker to begin the next file")


def test_a_result_that_is_taken_late_is_not_held_against_the_other_worker(
    misbehaving: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, taken = misbehaving / "begun", misbehaving / "taken"
    wait = "import os, time\nwhile not os.path.exists({!r}): time.sleep(0.01)"
    first = workbook(misbehaving / "first.xlsx", wait.format(str(begun)))
    second = workbook(
        misbehaving / "second.xlsx", f"import os; os.mkdir({str(begun)!r})\n{wait.format(str(taken))}"
    )
    with ParsePool(2, LIMITS) as pool:
        results = pool.map_unordered(map(ParseTask, [first, second]))
        assert next(results).task.path == first
        processes = pool.process_ids
        taken.mkdir()
        wait_until(lambda: any(worker.connection.poll() for worker in pool._workers), "the second result")
        now = time.monotonic
        monkeypatch.setattr(workers.time, "monotonic", lambda: now() + 10_000)
        assert [result.task.path for result in results] == [second]
        assert pool.process_ids == processes, "it was not killed and tried again"


def test_a_running_map_can_be_stopped_from_another_thread(misbehaving: Path) -> None:
    path, has_begun = begins_and_never_ends(misbehaving)

    def stop() -> None:
        try:
            wait_until(has_begun, "a worker to begin")
        finally:
            pool.stop()

    with ParsePool(1, ParseLimits(seconds=5000)) as pool:
        stopping = threading.Thread(target=stop)
        stopping.start()
        assert list(pool.map_unordered([ParseTask(path)])) == []
        stopping.join()


def test_workers_that_do_not_start_are_an_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_START", "raise SystemExit('no such thing')")
    with pytest.raises(workers.WorkersUnavailable, match="no such thing"):
        parse_all(text_file(tmp_path / "a.txt"))


PARENT = """
import sys
from pathlib import Path
from indexer.worker_values import settings_message
from indexer.workers import ParseLimits, ParsePool, ParseTask
with ParsePool(1, ParseLimits(seconds=5000)) as pool:
    for result in pool.map_unordered(ParseTask(Path(path)) for path in sys.argv[1:]):
        print(*pool.process_ids, flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_die_with_their_parent(how: signal.Signals, misbehaving: Path) -> None:
    quick = text_file(misbehaving / "quick.txt")
    slow, has_begun = begins_and_never_ends(misbehaving)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, quick, slow],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    assert parent.stdout is not None
    (pid,) = map(int, parent.stdout.readline().split())
    assert is_running(pid)
    wait_until(has_begun, "the worker to be at the slow file")
    parent.send_signal(how)
    parent.wait(timeout=120)
    parent.stdout.close()
    wait_until(lambda: not is_running(pid), "the worker to die")
