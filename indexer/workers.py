"""A pool of processes that parse and chunk files: one that crashes, hangs or swells is replaced and reported.

Workers are fresh interpreters (no fork, so none of the parent's locks and threads, and no torch), speak
JSON over a socket, and limit themselves (`indexer.worker_process`). This side hands out files, collects
results, and gives a file that killed its worker a second try with nothing else running.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import IO, Self

from indexer.errors import IndexerError
from indexer.parsers.errors import (
    ParseError,
    ParserCrashed,
    ParserOutOfMemory,
    ParserTimedOut,
)
from indexer.parsers.failures import file_title
from indexer.parsers.options import DEFAULT_OPTIONS, ParseOptions
from indexer.worker_memory import Budget, MemoryGuard, default_budget, resident_bytes
from indexer.worker_values import (
    ChunkSettings,
    ParsedFile,
    ParseLimits,
    ParseTask,
    result_from_message,
    settings_message,
)
from indexer.worker_wire import decode, encode

__all__ = ["ChunkSettings", "ParseLimits", "ParsePool", "ParseTask", "ParsedFile", "WorkersUnavailable"]

_MIB = 1 << 20
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from indexer.worker_process import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
_START_SECONDS = 60.0
_GRACE_SECONDS = 10.0  # after the deadline, before the worker that should have died by itself is killed
_FAILED_STARTS = 3  # in a row, after which it is not the file's fault
# Another worker takes about as long to start as one needs for so much text; for less, none is started, unless
# files still wait when a worker has been ready for some time.
_BYTES_BEFORE_NEXT_WORKER = 256 << 10
_FILES_BEFORE_NEXT_WORKER = 4
_PATIENCE_SECONDS = 0.25
_FILES_WHILE_STARTING = 256  # taken while the first worker starts, instead of waiting for it
_RETIREMENT = 0.6  # of the memory limit; a worker that keeps more after a file is replaced before the next


class WorkersUnavailable(IndexerError):
    """Worker processes do not start on this machine."""

    code = "workers-unavailable"


@dataclass(slots=True)
class _Worker:
    """One process, and what it is at."""

    process: subprocess.Popen[bytes]
    connection: Connection
    stderr: IO[bytes]
    deadline: float
    is_ready: bool = False
    job: _Job | None = None


@dataclass(slots=True)
class _Job:
    """A file on its way."""

    task: ParseTask
    num_bytes: int  # about
    since: float = field(default_factory=time.monotonic)
    num_tries: int = 0

    @classmethod
    def of(cls, task: ParseTask) -> _Job:
        try:
            return cls(task, os.stat(task.path).st_size)
        except OSError:  # a worker will say what is wrong
            return cls(task, 0)


class ParsePool:
    """Parses files in `num_workers` processes; a context manager that ends all of them when it is left.

    Processes are started when files wait, and stay for the next `map_unordered`. Only `stop` is thread-safe.
    """

    def __init__(
        self,
        num_workers: int,
        limits: ParseLimits | None = None,
        *,
        options: ParseOptions = DEFAULT_OPTIONS,
        chunking: ChunkSettings | None = None,
    ) -> None:
        self._num_workers = max(1, num_workers)
        self._limits = limits or ParseLimits()
        self._settings = encode(settings_message(self._limits, options, chunking))
        self._workers: list[_Worker] = []
        self._num_failed_starts = 0
        self._ready_since: float | None = None  # since when there is a worker that has started
        self._stopping = False
        with _refusals_typed():
            self._wakeup, self._wake = socket.socketpair()
        budget = default_budget(self._num_workers, self._limits.max_memory_bytes)
        if self._limits.max_total_memory_bytes:
            budget = Budget(self._limits.max_total_memory_bytes, all_bytes=0)
        self._guard = MemoryGuard(budget, lambda: [worker.process for worker in list(self._workers)])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The processes that are running now."""
        return tuple(worker.process.pid for worker in self._workers)

    def close(self) -> None:
        """End all processes. They hold nothing that could be lost."""
        self._guard.stop()
        for worker in list(self._workers):
            self._discard(worker)
        self._wakeup.close()
        self._wake.close()

    def stop(self) -> None:
        """Make a running `map_unordered` end soon, without the results still due. From any thread."""
        self._stopping = True
        self._wake.send(b"\0")

    def map_unordered(self, tasks: Iterable[ParseTask]) -> Iterator[ParsedFile]:
        """Parse every file; results come as they are done.

        Tasks are taken a few ahead of the workers (and some hundred while the first one starts). While a
        result is not taken, each worker reads one more file at most, so memory stays bounded. Raises
        WorkersUnavailable when processes cannot be started.
        """
        source = iter(tasks)
        waiting: deque[_Job] = deque()
        retries: deque[_Job] = deque()
        exhausted = False
        try:
            while not self._stopping:
                while not exhausted and self._takes_more(waiting):
                    task = next(source, None)
                    exhausted = task is None
                    if task is not None:
                        waiting.append(_Job.of(task))
                        self._hand_out(waiting)  # a worker starts while the next files are found
                self._hand_out(waiting)
                if not waiting and not self._busy():
                    if retries:
                        for worker in list(self._workers):
                            self._discard(worker)
                        self._start(retries.popleft())  # alone, in a fresh process
                    elif exhausted:
                        return
                yield from self._collect(waiting, retries)
        finally:
            for worker in self._busy():  # the caller went away in between
                self._discard(worker)

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.job is not None]

    def _takes_more(self, waiting: deque[_Job]) -> bool:
        """Whether to take another task before looking what became of those that are handed out."""
        if self._stopping:
            return False
        if len(waiting) < 2 * self._num_workers + _FILES_BEFORE_NEXT_WORKER:
            return True
        return len(waiting) < _FILES_WHILE_STARTING and not any(
            worker.is_ready or worker.connection.poll() for worker in self._workers
        )

    def _hand_out(self, waiting: deque[_Job]) -> None:
        """Give waiting files to idle workers, and start another worker if that is worth it."""
        for worker in list(self._workers):
            if worker.process.poll() is not None and worker.job is None:
                self._discard(worker)  # killed from outside while it had nothing to do
            elif waiting and worker.job is None:
                self._assign(worker, waiting.popleft())
        if waiting and len(self._workers) < self._num_workers and self._is_worth_a_worker(waiting):
            self._start_another(waiting)

    def _is_worth_a_worker(self, waiting: deque[_Job]) -> bool:
        if not self._workers or sum(job.num_bytes for job in waiting) >= _BYTES_BEFORE_NEXT_WORKER:
            return True
        longest_ago = time.monotonic() - _PATIENCE_SECONDS
        if self._ready_since is None or self._ready_since > longest_ago:
            return False
        return len(waiting) >= _FILES_BEFORE_NEXT_WORKER or waiting[0].since < longest_ago

    def _start_another(self, waiting: deque[_Job]) -> None:
        """Start a worker beside those there are, or go on with those where the system refuses more."""
        job = waiting.popleft()
        try:
            self._start(job)
        except WorkersUnavailable:
            if not self._workers:
                raise
            waiting.appendleft(job)
            self._num_workers = len(self._workers)

    def _start(self, job: _Job) -> None:
        """Start a worker with its first file. Raises WorkersUnavailable where the system refuses it."""
        with _refusals_typed(), ExitStack() as opened:
            ours, theirs = map(opened.enter_context, socket.socketpair())
            stderr = opened.enter_context(tempfile.TemporaryFile())
            environment = os.environ | dict.fromkeys(_ONE_THREAD, "1") | {"TOKENIZERS_PARALLELISM": "false"}
            arguments = [json.dumps(sys.path), str(theirs.fileno()), str(os.getpid())]
            process = subprocess.Popen(
                [sys.executable, "-c", _START, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the parent, which ends its workers
            )
            opened.pop_all()  # closed with the worker
            theirs.close()
        worker = _Worker(process, Connection(ours.detach()), stderr, time.monotonic() + _START_SECONDS)
        self._workers.append(worker)
        self._guard.start()
        self._send(worker, self._settings)
        self._assign(worker, job)

    def _assign(self, worker: _Worker, job: _Job) -> None:
        job.num_tries += 1
        worker.job = job
        worker.stderr.truncate(0)
        if worker.is_ready:
            worker.deadline = time.monotonic() + self._limits.seconds + _GRACE_SECONDS
        self._send(worker, encode({"path": os.fsencode(job.task.path).hex()}))

    def _send(self, worker: _Worker, data: bytes) -> None:
        """A worker that is dead already is noticed when its end of the pipe is read."""
        try:
            worker.connection.send_bytes(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def _collect(self, waiting: deque[_Job], retries: deque[_Job]) -> Iterator[ParsedFile]:
        """Wait for news of any worker and give what is done."""
        busy = self._busy()
        now = time.monotonic()
        timeout = max(0.0, min((worker.deadline - now for worker in busy), default=0.0))
        if len(self._workers) < self._num_workers:
            timeout = min(timeout, _PATIENCE_SECONDS)
        ready = wait([worker.connection for worker in busy] + [self._wakeup], timeout)
        now = time.monotonic()  # results may be taken late: that is not held against the other workers
        for worker in busy:
            if worker.connection in ready:
                yield from self._receive(worker, waiting, retries)
            elif now > worker.deadline:
                self._kill(worker)
                yield from self._bury(worker, retries, timed_out=True)

    def _receive(self, worker: _Worker, waiting: deque[_Job], retries: deque[_Job]) -> Iterator[ParsedFile]:
        try:
            message = decode(worker.connection.recv_bytes(self._limits.max_output_bytes + _MIB))
        except (EOFError, OSError, ValueError):  # dead, or sending what no worker sends
            self._kill(worker)
            yield from self._bury(worker, retries)
            return
        if message["kind"] == "ready":
            worker.is_ready = True
            self._ready_since = self._ready_since or time.monotonic()
            self._num_failed_starts = 0
            worker.deadline = time.monotonic() + self._limits.seconds + _GRACE_SECONDS
        elif message["kind"] == "ocr-page":
            worker.deadline += self._limits.seconds_per_ocr_page
        else:
            job, worker.job = worker.job, None
            if job is not None:
                ran_out = message.get("code") == ParserOutOfMemory.code
                if ran_out or self._is_worn(worker):
                    self._discard(worker)
                elif waiting and not self._stopping:
                    self._assign(worker, waiting.popleft())  # it reads on while use is made of its result
                if ran_out and job.num_tries < 2:
                    retries.append(job)  # what earlier files left behind may have been to blame
                else:
                    yield result_from_message(job.task, message)

    def _is_worn(self, worker: _Worker) -> bool:
        """Whether a worker holds so much memory that the next file would suffer."""
        return resident_bytes(worker.process.pid) > _RETIREMENT * self._limits.max_memory_bytes

    def _bury(
        self, worker: _Worker, retries: deque[_Job], *, timed_out: bool = False
    ) -> Iterator[ParsedFile]:
        """Deal with a dead worker: its file is tried once more alone, or given up."""
        status = worker.process.wait()
        last_words = _tail(worker.stderr)
        job = worker.job
        self._discard(worker)
        if job is None:
            return
        if not worker.is_ready:
            self._num_failed_starts += 1
            if self._num_failed_starts >= _FAILED_STARTS:
                raise WorkersUnavailable(
                    f"Parse workers do not start ({last_words or f'exit status {status}'}).",
                    hint="Check that this Python can run `import indexer` and that processes may be started.",
                )
            job.num_tries = 0
            retries.append(job)
        elif job.num_tries < 2:
            retries.append(job)
        else:
            error = _death(job.task, status, last_words, self._limits, timed_out=timed_out)
            yield ParsedFile(job.task, error=error, seconds=time.monotonic() - job.since)

    def _kill(self, worker: _Worker) -> None:
        """The process may still be dying of its own accord: then its own cause is the one to report."""
        try:
            worker.process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            worker.process.kill()

    def _discard(self, worker: _Worker) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
        worker.connection.close()
        worker.process.kill()
        worker.process.wait()
        worker.stderr.close()


@contextmanager
def _refusals_typed() -> Iterator[None]:
    """Raise WorkersUnavailable in place of what the system says when it refuses processes or open files."""
    try:
        yield
    except OSError as error:
        raise WorkersUnavailable(
            f"Parse workers cannot be started ({error.strerror or error}).",
            hint="Allow more processes and open files (`ulimit -u`, `ulimit -n`), or lower --jobs.",
        ) from error


def _death(
    task: ParseTask, status: int, last_words: str, limits: ParseLimits, *, timed_out: bool
) -> ParseError:
    """The error for a file that killed two workers."""
    title = file_title(str(task.path))
    if timed_out or status == -signal.SIGALRM:
        return ParserTimedOut(
            f"{title} was still being read after {limits.seconds:,.0f} seconds.",
            hint="Try again on an idle machine with --retry-failed, raise parsing.timeout_s, or split it.",
        )
    if status == -signal.SIGKILL or "bad_alloc" in last_words or "MemoryError" in last_words:
        return ParserOutOfMemory(
            f"{title} needs more memory to read than there is or is allowed.",
            hint="Split it, or raise parsing.max_memory_bytes and try again with --retry-failed.",
        )
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return ParserCrashed(
        f"The process that read {title} died ({how}).",
        hint="Open it in its own program and save it again; if it is intact, report this as a bug.",
    )


def _tail(stderr: IO[bytes]) -> str:
    """The last line that a worker wrote to stderr."""
    stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - 4096))
    lines = stderr.read().decode("utf-8", errors="replace").split("\n")
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")
